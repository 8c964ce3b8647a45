"""YuNet and SFace of the OpenCV Zoo: a detector and a recognizer that their publishers allow for commercial use.

Both are fetched by `portrait weights fetch judges` and run by OpenCV. Embeddings depend on the detector that located the
face: a threshold holds for one pair of detector and recognizer only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import WeightsCorruptError
from portrait.faces.alignment import ARCFACE_TEMPLATE, similarity_transform
from portrait.faces.form import PLAIN, Form, mean_embedding
from portrait.hub.files import sha256_of
from portrait.hub.judges import second_detector_part
from portrait.hub.manifest import Part, find_part
from portrait.hub.store import part_file
from portrait.records import Embedding, Face, Points, RgbImage

DET_THRESHOLD = 0.6
_SHOWN_THRESHOLD = 0.1  # below the acceptance threshold, so that "no face" can name the best score seen
_OVERLAP, _MAX_CANDIDATES = 0.3, 5000
_SIDES = (640, 1280, 2048)
"""Pixels of the longer side; the next is tried if no face is found, or one too small to locate accurately."""
_MIN_SIDE, _SMALL_FACE = 16, 48  # pixels
_UPRIGHT_SIDE, _LOOKS = 448, 3
"""Enough for heads tilted by 40 degrees: the points are then accurate to .04 eye distances."""
_UPRIGHT_TEMPLATE = (2 * (ARCFACE_TEMPLATE - 56) + _UPRIGHT_SIDE / 2).astype(np.float32)


class YuNetDetector:
    """Faces with five points (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector").

    Raises:
        WeightsMissingError: the model has not been fetched.
        WeightsCorruptError: the file is not YuNet, or differs from its pin.
    """

    name = "yunet"

    def __init__(self) -> None:
        part = find_part("yunet")
        path = part_file(part)
        with _loading(path):
            self._detector = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), _SHOWN_THRESHOLD, _OVERLAP, _MAX_CANDIDATES
            )
        self.licenses: tuple[Part, ...] = (part,)
        self.digests = {path.stem: sha256_of(path)}

    def candidates(self, image: RgbImage) -> list[Face]:
        """Every face of a (H, W, 3) uint8 RGB picture above a low score, best first."""
        faces: list[Face] = []
        for side in _SIDES:
            scale = min(1.0, side / max(image.shape[:2]))
            faces = self._pass(image, scale) or faces
            sizes = [face.size * scale for face in faces if face.det_score >= DET_THRESHOLD]
            if scale == 1 or (sizes and min(sizes) >= _SMALL_FACE):
                break
        return sorted(faces, key=lambda face: -face.det_score)

    def detect(self, image: RgbImage) -> list[Face]:
        """Faces with `det_score >= DET_THRESHOLD`, from left to right."""
        accepted = [self._upright(image, f) for f in self.candidates(image) if f.det_score >= DET_THRESHOLD]
        return sorted(accepted, key=lambda face: face.center[0])

    def _upright(self, image: RgbImage, face: Face) -> Face:
        """Refine the points by detecting again on the face turned upright: YuNet underestimates the tilt of a head."""
        for _ in range(_LOOKS):
            matrix = similarity_transform(face.kps, _UPRIGHT_TEMPLATE)
            crop = cv2.warpAffine(image, matrix, (_UPRIGHT_SIDE, _UPRIGHT_SIDE), flags=cv2.INTER_AREA)
            faces = self._pass(RgbImage(np.asarray(crop, np.uint8)), 1.0)
            faces = [candidate for candidate in faces if candidate.det_score >= DET_THRESHOLD]
            if not faces:
                break
            nearest = min(faces, key=lambda candidate: float(np.linalg.norm(candidate.kps.mean(0) - _UPRIGHT_SIDE / 2)))
            kps = (nearest.kps - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            face = Face(bbox=face.bbox, kps=Points(kps.astype(np.float32)), det_score=face.det_score)
        return face

    def _pass(self, image: RgbImage, scale: float) -> list[Face]:
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        if scale < 1:
            bgr = np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        if min(bgr.shape[:2]) < _MIN_SIDE:
            return []
        self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self._detector.detect(bgr)
        return [] if rows is None else [_face(np.asarray(row, np.float32), scale) for row in rows]


class SFaceRecognizer:
    """(128,) unit embeddings by SFace (Zhong et al. 2021, "SFace: Sigmoid-Constrained Hypersphere Loss").

    Raises:
        WeightsMissingError: the model has not been fetched.
        WeightsCorruptError: the file is not SFace, or differs from its pin.
    """

    name = "sface"

    def __init__(self, *, form: Form = PLAIN) -> None:
        part = find_part("sface")
        path = part_file(part)
        with _loading(path):
            self._network = cv2.FaceRecognizerSF.create(str(path), "")
            shape = self._features(RgbImage(np.zeros((112, 112, 3), np.uint8))).shape
        if shape != (128,):
            raise WeightsCorruptError(f"{path} is not SFace: its embedding has the shape {shape}, not (128,)")
        self.form = form
        self.licenses = (part,)
        self.digests = {path.stem: sha256_of(path)}

    def embed(self, image: RgbImage, face: Face) -> Embedding:
        """The embedding of `face` in an (H, W, 3) uint8 RGB picture; the face is placed by its five points."""
        return mean_embedding(self.form.aligned(image, face.kps), self._features)

    def _features(self, crop: RgbImage) -> NDArray[np.float32]:
        (features,) = np.asarray(self._network.feature(np.ascontiguousarray(crop[:, :, ::-1])), np.float32)
        return np.asarray(features, np.float32)


class YuNetAnalyzer(YuNetDetector):
    """YuNet finds the faces and SFace is the first judge: everything that is needed without InsightFace.

    Its embeddings condition no adapter, so only recipes without a conditioning recognizer can use it.

    Raises:
        WeightsMissingError: a model has not been fetched.
        WeightsCorruptError: a file is not the model, or differs from its pin.
    """

    name = "sface"
    detector = "yunet"
    same_person_threshold = 0.363
    """OpenCV's own threshold for photos: https://docs.opencv.org/4.x/d0/dd4/tutorial_dnn_face.html"""

    def __init__(self, *, form: Form = PLAIN) -> None:
        super().__init__()
        self._recognizer = SFaceRecognizer(form=form)
        self.form = form
        self.licenses = (*self.licenses, *self._recognizer.licenses)
        self.digests |= self._recognizer.digests

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        """The (128,) float32 unit embedding of the face whose five points are `kps`."""
        bbox = np.concatenate([kps.min(0), kps.max(0)])
        return self._recognizer.embed(image, Face(bbox=bbox, kps=kps, det_score=1.0))


def second_detector() -> YuNetDetector | None:
    """YuNet, as a second opinion where another detector finds no face; None if it has not been fetched."""
    return None if second_detector_part() is None else YuNetDetector()


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Keep OpenCV's warnings about its backends off the terminal, and turn its errors into ours."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    except cv2.error as error:
        raise WeightsCorruptError(f"OpenCV cannot load {path}: {str(error).splitlines()[0]}") from None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _face(row: np.ndarray[tuple[int], np.dtype[np.float32]], scale: float) -> Face:
    """Parse a row of YuNet: x, y, width, height, five points from left to right in the picture, score."""
    x, y, width, height = row[:4] / scale
    return Face(
        bbox=np.array([x, y, x + width, y + height], np.float32),
        kps=Points((row[4:14].reshape(5, 2) / scale).astype(np.float32)),
        det_score=float(row[14]),
    )
