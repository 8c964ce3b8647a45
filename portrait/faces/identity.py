"""Choose the face that the user means, and turn one or several photos into one Identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import FaceError, ManyFacesError, NoFaceError, SettingsError
from portrait.faces.alignment import align_face
from portrait.faces.form import PLAIN, Form
from portrait.faces.insightface_analyzer import DET_THRESHOLD
from portrait.hub.files import WeightFile
from portrait.hub.manifest import Part
from portrait.images import Photo
from portrait.records import Embedding, Face, Identity, Points, RgbImage

SIMILAR_SIZE = 0.6
"""The choice is ambiguous if a second face has at least this share of the largest one's size."""


SMALLEST_FACE = 14.0
"""Pixels. For smaller faces one of the two judges, which must both accept, recognizes less than half of the people, even in the
same photo (`eval/face_floor.py`)."""


class FaceModel(Protocol):
    """What every model that looks at faces says about itself, for the record.

    `licenses` are its files or parts, each with a license; `digests` maps the name of each file to its SHA-256.
    """

    @property
    def licenses(self) -> Sequence[WeightFile | Part]: ...

    @property
    def digests(self) -> Mapping[str, str]: ...


class FaceAnalyzer(FaceModel, Protocol):
    """Detects faces and embeds them with the first judge's recognizer, which also conditions most recipes.

    `detector` is what calibrations call the network that places the faces. `form` is how `embed` prepares a face.
    `same_person_threshold` is the similarity of its own embeddings below which two photos clearly show different people.
    """

    name: str
    detector: str
    form: Form
    same_person_threshold: float

    def candidates(self, image: RgbImage) -> list[Face]: ...

    def detect(self, image: RgbImage) -> list[Face]: ...

    def embed(self, image: RgbImage, kps: Points) -> Embedding: ...


@runtime_checkable
class ConditioningAnalyzer(Protocol):
    """A `FaceAnalyzer` whose recognizer adapters were trained with."""

    def condition(self, image: RgbImage, kps: Points) -> Embedding:
        """The embedding of the plain face, whatever the form of the faces that are judged."""
        ...


class Detector(FaceModel, Protocol):
    """Only finds faces: a second opinion on whether a picture shows one."""

    def detect(self, image: RgbImage) -> list[Face]: ...


class Recognizer(FaceModel, Protocol):
    """A network that embeds a face for a judge of likeness: the cosine of two embeddings is their similarity."""

    name: str

    def embed(self, image: RgbImage, face: Face) -> Embedding: ...


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which face of a photo to use: `kind` is auto, largest, index, each or like.

    `parse` reads the text of `--face`: "largest", "each", "like:REFERENCE.jpg" or an index.
    """

    kind: str = "auto"
    index: int = 0
    reference: str = ""

    @classmethod
    def parse(cls, text: str) -> FaceChoice:
        """Raises SettingsError for anything but auto, largest, each, an index or like:FILE."""
        if text in ("auto", "largest", "each"):
            return cls(text)
        if text.isdecimal() and len(text) < 6:
            return cls("index", index=int(text))
        if text.startswith("like:") and len(text) > 5:
            return cls("like", reference=text[5:])
        raise SettingsError(
            f"--face {text!r} is not one of: auto, largest, each, an index such as 0, like:REFERENCE.jpg"
        )


def choose_faces(
    image: RgbImage,
    name: str,
    choice: FaceChoice,
    analyzer: FaceAnalyzer,
    reference: Embedding | None = None,
    faces: list[Face] | None = None,
) -> list[tuple[int, Face]]:
    """Return (index from the left, face) of the faces that `choice` names: one, or all for `each`.

    Args:
        image: (H, W, 3) uint8, RGB.
        name: The photo's name, for messages.
        choice: The user's policy. `auto` takes the only face, or one that is clearly the largest.
        analyzer: Detector and embedder.
        reference: The embedding that `like` compares with.
        faces: The faces that the analyzer detects in `image`, if already known.

    Raises:
        NoFaceError: no face above the detector's threshold; names the best score seen.
        ManyFacesError: `auto` and a second face of similar size; names the faces and the options.
        FaceError: the index does not exist, or no face matches the reference.
    """
    faces = analyzer.detect(image) if faces is None else faces
    if not faces:
        best = max((f.det_score for f in analyzer.candidates(image)), default=0.0)
        raise NoFaceError(
            f"no face found in {name} (best score {best:.2f}, {DET_THRESHOLD} is needed); "
            "use a photo in which the face is larger, sharper or less turned away"
        )
    numbered = list(enumerate(faces))
    if choice.kind == "each":
        return numbered
    if choice.kind == "index":
        if choice.index >= len(faces):
            raise FaceError(
                f"{name} has {len(faces)} face(s), so the last index is {len(faces) - 1}, not {choice.index}"
            )
        return [numbered[choice.index]]
    if choice.kind == "like":
        if reference is None:
            raise SettingsError("--face like:FILE needs the reference photo's embedding")
        return [numbered[_most_alike(image, name, analyzer, reference, faces)]]
    by_size = sorted(numbered, key=lambda pair: -pair[1].size)
    if choice.kind == "auto":
        _require_one_largest(by_size, name)
    return [by_size[0]]


def _most_alike(image: RgbImage, name: str, analyzer: FaceAnalyzer, reference: Embedding, faces: Sequence[Face]) -> int:
    """Index of the face most like the reference; raises FaceError if even that is clearly somebody else."""
    scores = [float(analyzer.embed(image, face.kps) @ reference) for face in faces]
    best = int(np.argmax(scores))
    if scores[best] < analyzer.same_person_threshold:
        raise FaceError(f"no face in {name} matches the reference (best similarity {scores[best]:.2f})")
    return best


def _require_one_largest(by_size: Sequence[tuple[int, Face]], name: str) -> None:
    """Raises ManyFacesError if a second face is nearly as large as the largest one."""
    if len(by_size) < 2 or by_size[1][1].size < SIMILAR_SIZE * by_size[0][1].size:
        return
    listed = "; ".join(
        f"{index}: {face.width:.0f} x {face.height:.0f} px at x {face.center[0]:.0f}"
        for index, face in sorted(by_size, key=lambda pair: pair[0])
    )
    raise ManyFacesError(
        f"{name} has {len(by_size)} faces of similar size ({listed}); say which one is meant: "
        "--face INDEX, --face largest, --face each or --face like:REFERENCE.jpg"
    )


def identify(
    views: Sequence[tuple[RgbImage, Face]], analyzer: FaceAnalyzer, recognizers: Sequence[Recognizer]
) -> Identity:
    """Average several photos of one person into one Identity; a single photo is the usual case.

    Each recognizer's unit embeddings are summed and normalized to unit length. If the analyzer judges
    faces in another form than the plain one, the plain embedding, if it conditions pictures, is kept as well.

    Raises:
        FaceError: there is no view, or two views are clearly not of the same person (below the analyzer's
            `same_person_threshold`).
    """
    if not views:
        raise FaceError("an identity needs at least one photo with a face")
    vectors = np.stack([analyzer.embed(image, face.kps) for image, face in views])
    if len(views) > 1:
        similarities = vectors @ vectors.T
        a, b = np.unravel_index(int(similarities.argmin()), similarities.shape)
        if similarities[a, b] < analyzer.same_person_threshold:
            raise FaceError(
                f"photos {a + 1} and {b + 1} do not look like one person "
                f"(similarity {similarities[a, b]:.2f}); give photos of one person, or name the face with --face"
            )
    embeddings = {analyzer.name: _mean_direction(vectors)}
    for recognizer in recognizers:
        vectors = np.stack([recognizer.embed(image, face) for image, face in views])
        embeddings[recognizer.name] = _mean_direction(vectors)
    if analyzer.form == PLAIN or not isinstance(analyzer, ConditioningAnalyzer):
        return Identity(embeddings=embeddings, photos=len(views))
    conditioning = _mean_direction(np.stack([analyzer.condition(image, face.kps) for image, face in views]))
    return Identity(embeddings=embeddings, photos=len(views), conditioning=conditioning)


def _mean_direction(vectors: NDArray[np.float32]) -> Embedding:
    mean = vectors.mean(0)
    return Embedding((mean / np.linalg.norm(mean)).astype(np.float32))


def require_large_enough(face: Face, name: str) -> None:
    """Raises FaceError for a face too small for the judges to recognize."""
    if face.size < SMALLEST_FACE:
        raise FaceError(
            f"the face in {name} is {face.size:.0f} px; below {SMALLEST_FACE:.0f} px people cannot be told apart: "
            "use a larger photo"
        )


def face_warnings(image: RgbImage, face: Face) -> list[str]:
    """What may make this face hard to keep: small, blurred, dark, turned away, cut by the border.

    Sharpness is the variance of the Laplacian of the aligned 112 px gray crop (Pech-Pacheco et al. 2000),
    turning is the nose's offset from the midpoint of the eyes, in eye distances.
    """
    warnings = []
    if face.size < 60:
        warnings.append(f"small ({face.size:.0f} px, 60 or more is better)")
    crop = cv2.cvtColor(align_face(image, face.kps), cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(crop, cv2.CV_64F).var())
    if sharpness < 60:
        warnings.append(f"blurred (sharpness {sharpness:.0f}, 60 or more is better)")
    lightness = float(crop[28:100, 24:88].mean())
    if lightness < 40:
        warnings.append(f"dark (lightness {lightness:.0f} of 255, 40 or more is better)")
    left, right, nose = face.kps[:3]
    eyes = right - left
    distance = max(float(np.linalg.norm(eyes)), 1e-3)
    turned = abs(float((nose - (left + right) / 2) @ eyes)) / distance**2
    if turned > 0.35:
        warnings.append(f"turned away ({turned:.2f} eye distances, below 0.35 is better)")
    height, width = image.shape[:2]
    x1, y1, x2, y2 = face.bbox
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        warnings.append("cut by the border")
    return warnings


def photo_notes(photo: Photo, warnings: Sequence[str]) -> list[str]:
    """What the user should know about a photo before it is used, one sentence each; `warnings` come from `face_warnings`."""
    notes = list(photo.notes)
    if photo.turned:
        notes.append(f"turned by {photo.turned} degrees clockwise to put its faces upright")
    if warnings:
        notes.append(f"the face may be hard to keep: {', '.join(warnings)}")
    return notes
