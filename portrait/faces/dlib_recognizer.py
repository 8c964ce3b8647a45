"""dlib's ResNet: a recognizer of another family, for a judge that did not condition the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portrait.faces.form import PLAIN, Form, mean_embedding
from portrait.hub.files import DLIB_LANDMARKS, DLIB_RESNET, locate
from portrait.records import Embedding, Face, RgbImage


class DlibRecognizer:
    """(128,) unit embeddings by dlib's metric-learning ResNet (King 2017, dlib `face_recognition_model_v1`).

    The face is aligned by dlib's own five-point predictor inside the detector's box. Similarities of this
    network span a narrow range: those of different people lie just below those of one person (`portrait calibrate` measures
    both).
    """

    name = "dlib"
    licenses = (DLIB_RESNET, DLIB_LANDMARKS)

    def __init__(self, *, form: Form = PLAIN) -> None:
        import dlib

        self._dlib = dlib
        self.form = form
        self.digests = {f.name: f.sha256 for f in self.licenses}  # `locate` verifies them
        self._network = dlib.face_recognition_model_v1(str(locate(DLIB_RESNET)))
        self._landmarks = dlib.shape_predictor(str(locate(DLIB_LANDMARKS)))

    def embed(self, image: RgbImage, face: Face) -> Embedding:
        """The embedding of `face` in an (H, W, 3) uint8 RGB picture.

        SCRFD's box reaches from the hairline to the chin, but dlib's predictor expects a square from the brows to the chin,
        so that square is derived from the five points.
        """
        eyes, mouth = face.kps[:2].mean(0), face.kps[3:].mean(0)
        x, y = (0.55 * eyes + 0.45 * mouth).tolist()
        half = 1.28 * float(max(np.linalg.norm(mouth - eyes), np.linalg.norm(face.kps[1] - face.kps[0])))
        box = self._dlib.rectangle(int(x - half), int(y - half), int(x + half), int(y + half))
        picture = np.ascontiguousarray(image)
        chip = self._dlib.get_face_chip(picture, self._landmarks(picture, box), 150, 0.25)
        return mean_embedding(self.form.smoothed(chip), self._features)

    def _features(self, chip: RgbImage) -> NDArray[np.float32]:
        return np.array(self._network.compute_face_descriptor(chip), np.float32)
