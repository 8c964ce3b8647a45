"""Turn photos upright that are sideways or upside down, judged by the faces detected at four angles."""

from __future__ import annotations

import logging

import numpy as np

from portrait.faces.identity import FaceAnalyzer
from portrait.images import Photo, resized, turned
from portrait.records import Face, RgbImage

_SIDES = (896, 2048)
"""Longer sides at which faces are searched for; the second only if the first shows no face at any angle."""
_LEAST_SCORE = 0.5
_MARGIN = 0.08
"""By how much the scores at another angle must be higher. On 20 portraits, upright faces scored 0.18 to 0.5 higher than the same
faces upside down; sideways, hardly any had points in the order of a face."""
_MAX_FACES = 8

log = logging.getLogger(__name__)


def upright_photo(photo: Photo, analyzer: FaceAnalyzer) -> Photo:
    """Turn the photo upright; it is returned as it is if it already is upright or shows no face that says otherwise."""
    degrees = degrees_to_upright(photo.pixels, analyzer)
    if degrees:
        log.info("%s: turned by %d degrees clockwise", photo.path, degrees)
    return turned(photo, degrees)


def degrees_to_upright(image: RgbImage, analyzer: FaceAnalyzer) -> int:
    """The degrees clockwise by which a (H, W, 3) uint8 RGB photo must be turned: 0, 90, 180 or 270.

    The analyzer's points tell where the eyes and the mouth are.
    """
    height, width = image.shape[:2]
    for side in _SIDES:
        scale = min(1.0, side / max(height, width))
        small = resized(image, max(1, round(width * scale)), max(1, round(height * scale)))
        evidence = [_evidence(np.ascontiguousarray(np.rot90(small, -turns)), analyzer) for turns in range(4)]
        if max(evidence) > 0:
            best = int(np.argmax(evidence))
            return 90 * best if evidence[best] > evidence[0] + _MARGIN else 0
        if scale == 1:
            break
    return 0


def _evidence(image: np.ndarray, analyzer: FaceAnalyzer) -> float:
    """Evidence that the picture shows upright faces: the sum of their scores above the lowest that counts."""
    faces = [face for face in analyzer.candidates(RgbImage(image)) if face.det_score > _LEAST_SCORE]
    return sum(face.det_score - _LEAST_SCORE for face in faces[:_MAX_FACES] if is_upright(face))


def is_upright(face: Face) -> bool:
    """Whether the five points make sense: eyes above the mouth and side by side, the nose between them."""
    left, right, nose, mouth_left, mouth_right = face.kps.astype(float)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    size = max(float(np.linalg.norm(right - left)), float(np.linalg.norm(mouth - eyes)), 1e-3)
    drop, spread = (mouth[1] - eyes[1]) / size, (right[0] - left[0]) / size
    return bool(
        drop > 0.5
        and spread > 0.25
        and abs(mouth[0] - eyes[0]) < 0.8 * size
        and -0.2 < (nose[1] - eyes[1]) / size < 1.1
    )
