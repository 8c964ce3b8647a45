"""The recognizer that an adapter was trained with: its embedding conditions the picture and takes no part in judging."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from portrait.errors import WeightsCorruptError
from portrait.faces.alignment import align_face
from portrait.faces.onnx_session import session_options
from portrait.faces.without_skimage import without_skimage
from portrait.records import Embedding, Face, RgbImage


class ConditioningRecognizer:
    """An ArcFace from another pack than the judge's, in a verified ONNX file.

    `form` is `unit` for adapters trained on unit embeddings, `raw` for those trained on embeddings as the network gives them.

    Raises:
        WeightsCorruptError: the file cannot be loaded as a recognizer with 512-dimensional embeddings.
    """

    def __init__(self, file: Path, form: str = "unit", *, threads: int | None = None) -> None:
        import onnxruntime

        with without_skimage():
            from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        options = session_options(threads)
        self.form = form
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            self._network = ArcFaceONNX(model_file=str(file), session=session)
            size = int(session.get_outputs()[0].shape[-1])
        except Exception as error:  # onnxruntime's exception classes are private
            raise WeightsCorruptError(f"the recognizer {file} cannot be loaded: {error}") from error
        if size != 512:
            raise WeightsCorruptError(f"the recognizer {file} gives {size} numbers; the adapters take 512")

    def embed(self, views: Sequence[tuple[RgbImage, Face]]) -> Embedding:
        """One person's embedding, (512,) float32: the mean over the photos, of unit length if `form` is `unit`."""
        crops = [np.ascontiguousarray(align_face(image, face.kps)[:, :, ::-1]) for image, face in views]
        features = np.stack([self._network.get_feat([crop])[0] for crop in crops]).astype(np.float32)
        if self.form == "raw":
            return Embedding(features.mean(0))
        mean = (features / np.linalg.norm(features, axis=1, keepdims=True)).mean(0)
        return Embedding((mean / np.linalg.norm(mean)).astype(np.float32))
