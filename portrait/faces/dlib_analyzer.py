"""Faces by dlib alone: everything in this file may be used commercially, unlike InsightFace's models.

It finds frontal faces and judges likeness by one recogniser. It conditions nothing: only recipes that no recogniser
conditions can run on it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.faces.alignment import ARCFACE_TEMPLATE, similarity_transform
from portrait.faces.dlib_recogniser import DlibRecogniser
from portrait.hub.files import DLIB_LANDMARKS, DLIB_RESNET, locate
from portrait.records import Embedding, Face, Points, RgbImage

_MAX_SIDE = 1280  # pixels; HOG's time grows with the area
_MIN_SCORE = -0.6  # of the detector; candidates below are dropped
_ACCEPTED_SCORE = 0.3  # at the detector's own 0, patches of cloth pass for faces
_NOSE_BASE = np.array([[56.0, 79.0]], np.float32)  # on the ArcFace template, below its nose tip; measured by eye


class DlibAnalyzer:
    """A frontal HOG detector with dlib's five-point predictor, and dlib's ResNet as the only recogniser.

    The predictor knows the corners of the eyes and the base of the nose. Nose tip and mouth corners are placed where
    the ArcFace template has them, so a face that is turned or speaks is aligned less well than by InsightFace.
    `det_score` is a logistic function of the detector's score, 0.5 where a face is accepted.
    """

    name = "dlib"
    detector = "dlib_hog"
    same_person_threshold = 0.92  # similarities are compressed, see `DlibRecogniser`
    licenses = (DLIB_RESNET, DLIB_LANDMARKS)

    def __init__(self) -> None:
        import dlib

        self._dlib = dlib
        self._recogniser = DlibRecogniser()
        self.digests = dict(self._recogniser.digests)
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(locate(DLIB_LANDMARKS)))

    def candidates(self, image: RgbImage) -> list[Face]:
        """Every face seen above a low score, best first."""
        scale = min(1.0, _MAX_SIDE / max(image.shape[:2]))
        small = np.ascontiguousarray(image)
        if scale < 1:
            small = np.asarray(cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        upsample = 1 if max(small.shape[:2]) <= 640 else 0
        boxes, scores, _ = self._detector.run(small, upsample, _MIN_SCORE)
        faces = [self._face(small, box, score, scale) for box, score in zip(boxes, scores, strict=True)]
        return sorted(faces, key=lambda face: -face.det_score)

    def detect(self, image: RgbImage) -> list[Face]:
        """Faces that are accepted, from left to right."""
        accepted = [face for face in self.candidates(image) if face.det_score >= 0.5]
        return sorted(accepted, key=lambda face: face.center[0])

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        """The (128,) float32 unit embedding of the face whose five points are `kps`."""
        bbox = np.concatenate([kps.min(0), kps.max(0)])
        return self._recogniser.embed(image, Face(bbox=bbox, kps=kps, det_score=1.0))

    def _face(self, image: NDArray[np.uint8], box: object, score: float, scale: float) -> Face:
        landmarks = self._landmarks(image, box).parts()
        points = np.array([(point.x, point.y) for point in landmarks], np.float32)
        eyes = sorted((points[0:2].mean(0), points[2:4].mean(0)), key=lambda eye: float(eye[0]))
        measured = np.stack([*eyes, points[4]])
        matrix = similarity_transform(np.concatenate([ARCFACE_TEMPLATE[:2], _NOSE_BASE]), measured)
        kps = ARCFACE_TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
        kps[:2] = measured[:2]
        x1, y1, x2, y2 = (float(getattr(box, side)()) for side in ("left", "top", "right", "bottom"))
        y1 -= 0.25 * (y2 - y1)  # dlib's box starts at the brows, ours at the hairline
        return Face(
            bbox=np.array([x1, y1, x2, y2], np.float32) / np.float32(scale),
            kps=Points((kps / scale).astype(np.float32)),
            det_score=float(1 / (1 + np.exp(2 * (_ACCEPTED_SCORE - score)))),
        )
