"""AuraFace: a large recognizer licensed for commercial use, as an additional judge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portrait.errors import WeightsCorruptError, one_line
from portrait.faces.form import PLAIN, Form, mean_embedding
from portrait.faces.onnx_session import session_options
from portrait.hub.files import sha256_of
from portrait.hub.manifest import find_part
from portrait.hub.store import part_file
from portrait.records import Embedding, Face, RgbImage


class AuraFaceRecognizer:
    """(512,) unit embeddings by AuraFace v1, a ResNet-100 in ArcFace's layout (Deng et al. 2019).

    Fetched by `portrait weights fetch auraface` and run without InsightFace: the network takes RGB crops of 112 px, aligned
    to ArcFace's template, with channels scaled to -1 to 1.

    Raises:
        WeightsMissingError: the model has not been fetched.
        WeightsCorruptError: the file is not a network of that layout, or differs from its pin.
    """

    name = "auraface"

    def __init__(self, *, form: Form = PLAIN, threads: int | None = None) -> None:
        import onnxruntime

        part = find_part("auraface")
        path = part_file(part)
        try:
            self._network = onnxruntime.InferenceSession(
                str(path), session_options(threads), providers=["CPUExecutionProvider"]
            )
            shape = self._features(np.zeros((112, 112, 3), np.uint8)).shape
        except Exception as error:  # onnxruntime's exception classes are private
            raise WeightsCorruptError(f"the recognizer {path} cannot be loaded: {one_line(error, 300)}") from error
        if shape != (512,):
            raise WeightsCorruptError(f"{path} is not AuraFace: its embedding has the shape {shape}, not (512,)")
        self.form = form
        self.licenses = (part,)
        self.digests = {f"auraface/{path.stem}": sha256_of(path)}

    def embed(self, image: RgbImage, face: Face) -> Embedding:
        """The embedding of `face` in an (H, W, 3) uint8 RGB picture, aligned by its five points."""
        return mean_embedding(self.form.aligned(image, face.kps), self._features)

    def _features(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32)
        scaled = (pixels - np.float32(127.5)) / np.float32(127.5)
        (outputs,) = self._network.run(None, {self._network.get_inputs()[0].name: scaled})
        return np.asarray(outputs[0], np.float32)
