"""`portrait faces` and `portrait compare`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from portrait.cli.console import failure_record
from portrait.cli.terminal import complain, say
from portrait.errors import FaceError, PortraitError, SettingsError
from portrait.faces.form import PLAIN, form_named
from portrait.faces.identity import (
    FaceAnalyzer,
    FaceChoice,
    choose_faces,
    face_warnings,
    identify,
    require_large_enough,
)
from portrait.faces.insightface_analyzer import DET_THRESHOLD
from portrait.faces.load import load_analyzer, load_face_tools
from portrait.faces.upright import upright_photo
from portrait.files import write_new
from portrait.hub.judges import DETECTORS, FACE_TOOLS, tools_for
from portrait.images import Photo, encode_picture, kind_of, read_photo
from portrait.judge.thresholds import Thresholds, calibrated_form, photo_thresholds
from portrait.judge.verdict import describe_strangers
from portrait.judge.verification import similarities
from portrait.loop.limits import resolve_thresholds
from portrait.recipes.load import load_recipe
from portrait.records import Face, Identity, RgbImage


def show_faces(args: argparse.Namespace) -> int:
    """`portrait faces`."""
    if args.draw:
        kind_of(args.draw)
    if args.draw and len(args.photos) > 1:
        raise SettingsError(f"--draw writes one picture, but {len(args.photos)} photos were given")
    analyzer = load_analyzer(commercial=args.commercial)
    worst = 0
    for path in args.photos:
        try:
            worst = max(worst, _list_faces(path, args, analyzer))
        except PortraitError as error:
            worst = max(worst, complain(error))
            if args.json:
                say(failure_record(path, error).to_json())
    return worst


def _list_faces(path: Path, args: argparse.Namespace, analyzer: FaceAnalyzer) -> int:
    photo = read_photo(path)
    photo = upright_photo(photo, analyzer) if args.upright == "auto" else photo
    faces = analyzer.detect(photo.pixels)
    best = max((face.det_score for face in faces or analyzer.candidates(photo.pixels)), default=0.0)
    drawn = None
    if not args.json:
        _print_faces(photo, faces, best)
    if args.draw:
        drawn = write_new(args.draw, encode_picture(_draw_boxes(photo.pixels, faces), kind_of(args.draw)))
    if args.json:
        say(json.dumps(_faces_entry(photo, faces, best) | ({"drawn": str(drawn)} if drawn else {})))
    elif drawn:
        say(f"drawn: {drawn}")
    return 0 if faces else 1


def _faces_entry(photo: Photo, faces: Sequence[Face], best_score: float) -> dict[str, object]:
    entries = []
    for index, face in enumerate(faces):
        details = {"size": round(face.size, 1), "warnings": face_warnings(photo.pixels, face)}
        refusal = _refusal(photo, face)
        entries.append(face.entry(index) | details | ({"refused": refusal} if refusal else {}))
    entry = {"path": str(photo.path), "faces": entries, "best_score": round(best_score, 4)}
    return entry | ({"turned": photo.turned} if photo.turned else {}) | ({"notes": photo.notes} if photo.notes else {})


def _print_faces(photo: Photo, faces: Sequence[Face], best_score: float) -> None:
    height, width = photo.pixels.shape[:2]
    missed = "" if faces else f", best score {best_score:.2f} of {DET_THRESHOLD}"
    say(f"{photo.path} ({width} x {height}): {len(faces)} face(s){missed}")
    for note in photo.notes:
        say(f"  {note}")
    if photo.turned:
        say(f"  turned by {photo.turned} degrees clockwise to put its faces upright; --upright off leaves it as it is")
    for index, face in enumerate(faces):
        left, top, right, bottom = (round(float(value)) for value in face.bbox)
        warnings = face_warnings(photo.pixels, face)
        warning = f"  warning: {', '.join(warnings)}" if warnings else ""
        box = f"box {left},{top} to {right},{bottom}"
        refusal = _refusal(photo, face)
        refused = f"  refused by stylize: {refusal}" if refusal else ""
        say(f"  {index}: {box}  score {face.det_score:.2f}  size {face.size:.0f} px{warning}{refused}")


def _refusal(photo: Photo, face: Face) -> str:
    """Why `stylize` would refuse the face; empty if it would not."""
    try:
        require_large_enough(face, str(photo.path))
    except FaceError as error:
        return str(error)
    return ""


def _draw_boxes(image: RgbImage, faces: Sequence[Face]) -> RgbImage:
    """Draw a numbered box and five points for each face of the photo."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    line = max(2, max(image.shape[:2]) // 400)
    for index, face in enumerate(faces):
        left, top, right, bottom = (float(value) for value in face.bbox)
        draw.rectangle([left, top, right, bottom], outline=(0, 220, 90), width=line)
        for x, y in face.kps.tolist():
            draw.ellipse([x - line, y - line, x + line, y + line], fill=(255, 60, 60))
        font = ImageFont.load_default(max(14, int(face.size / 5)))
        corner = (left + line, top + line)
        draw.text(corner, str(index), font=font, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return RgbImage(np.asarray(picture))


def compare_pictures(args: argparse.Namespace) -> int:
    """`portrait compare`."""
    limits = _comparison_limits(args)
    reference, candidate = _identities(args)
    comparison = _Comparison(scores=similarities(reference, candidate.embeddings), limits=limits)
    if args.json:
        say(json.dumps(comparison.entry()))
    else:
        for line in comparison.lines(verbose=args.verbose):
            say(line)
    return 0 if comparison.decision == "same person" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _ComparisonLimits:
    """Judge -> smallest similarity, the false accept rate, the thresholds' origin, and a note if they are borrowed.

    With the gate of `calibrated`, the similarities are its floors, and the rate is that of all judges together.
    """

    thresholds: dict[str, float]
    far: float
    kind: str
    note: str = ""
    calibrated: Thresholds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """The judges' comparison of two pictures: judge -> similarity, and the limits."""

    scores: dict[str, float]
    limits: _ComparisonLimits

    @property
    def strangers(self) -> dict[str, float]:
        """Judge -> share of strangers who would be as similar, for calibrated judges."""
        return {} if self.limits.calibrated is None else self.limits.calibrated.strangers_like(self.scores)

    @property
    def passed(self) -> dict[str, bool]:
        """Judge -> whether its own limit is reached."""
        return {judge: self.scores[judge] >= threshold for judge, threshold in self.limits.thresholds.items()}

    @property
    def together(self) -> tuple[float, float] | None:
        """The evidence of all judges together and its limit; None if they were not calibrated together."""
        gate = self.limits.calibrated.gate if self.limits.calibrated else None
        return (gate.evidence(self.scores), gate.least) if gate is not None and gate.weights else None

    @property
    def decision(self) -> str:
        """The decision; undecided if the judges disagree."""
        passed = self.passed.values()
        if all(passed) and (self.together is None or self.together[0] >= self.together[1]):
            return "same person"
        return "undecided" if any(passed) else "not the same person"

    def entry(self) -> dict[str, object]:
        """For `--json`."""
        limits = self.limits
        entry: dict[str, object] = {"similarity": {judge: round(score, 4) for judge, score in self.scores.items()}}
        if self.together is not None:
            entry |= {"evidence": round(self.together[0], 4), "least_evidence": self.together[1]}
        entry |= {"thresholds": limits.thresholds, "far": limits.far, "kind": limits.kind, "decision": self.decision}
        if strangers := self.strangers:
            entry["strangers"] = {judge: round(share, 5) for judge, share in strangers.items()}
        return entry | ({"provisional_thresholds": limits.note} if limits.note else {})

    def lines(self, *, verbose: bool) -> list[str]:
        """For people; `verbose` adds cosines to the number of strangers."""
        lines = [f"{judge:8} {self._likeness(judge, verbose=verbose)}" for judge in self.scores]
        if self.together is not None:
            evidence, limit = self.together
            lines.append(f"together {evidence:.3f} {'>=' if evidence >= limit else '<'} {limit:.3f}")
        basis = f"thresholds: {self.limits.kind}, false accept rate {self.limits.far:g}; both judges must agree"
        lines.append(f"{self.decision} ({basis})")
        return [*lines, *([f"Note: {self.limits.note}."] if self.limits.note else [])]

    def _likeness(self, judge: str, *, verbose: bool) -> str:
        compared = ">=" if self.passed[judge] else "<"
        cosine = f"{self.scores[judge]:.3f} {compared} {self.limits.thresholds[judge]:.3f}"
        share = self.strangers.get(judge)
        if share is None:
            return cosine
        return describe_strangers(share) + (f" ({cosine})" if verbose else "")


def _comparison_limits(args: argparse.Namespace) -> _ComparisonLimits:
    if args.far is not None and not args.style:
        raise SettingsError(
            "--far needs --style: two photos are always judged at the rate that was calibrated for photos"
        )
    tools = tools_for(commercial=args.commercial)
    judges, detector = FACE_TOOLS[tools], DETECTORS[tools]
    if args.style:
        recipe = load_recipe(args.recipe)
        recipe.style(args.style)
        far = 0.01 if args.far is None else args.far
        limits, note = resolve_thresholds(recipe, args.style, far, judges=judges, detector=detector)
        kind = f"{recipe.name} / {args.style}"
        return _ComparisonLimits(thresholds=limits.identity, far=limits.far, kind=kind, note=note, calibrated=limits)
    table = photo_thresholds(detector)
    thresholds = {judge: limit for judge, limit in table.limits.items() if not judges or judge in judges}
    return _ComparisonLimits(thresholds=thresholds, far=table.far, kind="photo to photo")


def _identities(args: argparse.Namespace) -> tuple[Identity, Identity]:
    """The identities in A and B, by each judge."""
    choice = FaceChoice.parse(args.face)
    if choice.kind not in ("auto", "largest", "index"):
        raise SettingsError(f"--face {args.face} does not name one face; use largest, auto or an index")
    form = form_named(calibrated_form(args.recipe) if args.style else PLAIN.name)
    analyzer, recognizers = load_face_tools(commercial=args.commercial, form=form)

    def identity(path: Path) -> Identity:
        photo = read_photo(path)
        photo = upright_photo(photo, analyzer) if args.upright == "auto" else photo
        _, face = choose_faces(photo.pixels, str(path), choice, analyzer)[0]
        return identify([(photo.pixels, face)], analyzer, recognizers)

    return identity(args.a), identity(args.b)
