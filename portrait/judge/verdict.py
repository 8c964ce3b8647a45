"""Put the measurements against the thresholds: accepted, or rejected with reasons."""

from __future__ import annotations

from dataclasses import dataclass, field

from portrait.judge.thresholds import Thresholds

REASONS = {
    "no_face": "no face was found in the picture, and at the photo's landmarks it is not this person",
    "identity_low": "it does not look enough like the person",
    "not_stylized": "the face is still the photo",
    "burned": "colours are burned out",
    "swapped": "it looks more like another person of the photo",
    "broken_keep": "what was to stay has changed",
}

KEEP_LIMITS: dict[str, tuple[str, float]] = {
    "pose": ("at most", 0.1),  # inter-eye distances
    "composition": ("at least", 0.5),  # correlation of edges; portraits of two people reach 0.4
    "colors": ("at most", 8.0),  # units of CIE Lab
    "background": ("at least", 100.0),  # dB: not a pixel differs
    "region": ("at least", 100.0),
    "mask": ("at least", 100.0),
}
"""Kind of keep -> what `Measurement.kept` must reach. `eval/keep.py` measures styles against the first three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured on one picture.

    `similarity` per recogniser; when `face_found` is False the detector saw no face in the picture and
    the photo's landmarks were used to align it (img2img keeps the layout). `kept` is the name of each keep
    and its measure: inter-eye distances for pose, edge correlation for composition, CIE Lab units for
    colors, dB for what stays pixel by pixel. `swap` is by how much another known person is more alike than
    the right one, as `verification.swap_margin`; None when nobody else is known.
    """

    similarity: dict[str, float]
    face_found: bool
    style_on_face: float
    burned: float
    kept: dict[str, float] = field(default_factory=dict)
    swap: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reasons` are codes of `REASONS`, `identity_low:RECOGNISER` per judge; empty when accepted.

    `margin` is the worst of (similarity - threshold) over the judges, for ordering rejected attempts.
    """

    accepted: bool
    reasons: tuple[str, ...] = ()
    margin: float = field(default=0.0)


def decide(measured: Measurement, thresholds: Thresholds) -> Verdict:
    """Accept when every recogniser passes its own threshold and no other check fails.

    A picture without a detectable face passes only if both judges recognise the person at the photo's
    landmarks; otherwise the missing face is the first reason.
    """
    margins = {name: measured.similarity[name] - least for name, least in thresholds.identity.items()}
    reasons = [f"identity_low:{name}" for name, margin in margins.items() if margin < 0]
    if reasons and not measured.face_found:
        reasons.insert(0, "no_face")
    if measured.style_on_face < thresholds.style_on_face:
        reasons.append("not_stylized")
    if measured.burned > thresholds.burned:
        reasons.append("burned")
    if measured.swap is not None and measured.swap > 0:
        reasons.insert(0, "swapped")
    for name, value in measured.kept.items():
        side, limit = KEEP_LIMITS[name.partition(":")[0]]
        if value > limit if side == "at most" else value < limit:
            reasons.append(f"broken_keep:{name}")
    return Verdict(accepted=not reasons, reasons=tuple(reasons), margin=min(margins.values(), default=0.0))


def in_words(reason: str) -> str:
    """A reason code as a person would say it."""
    code, _, judge = reason.partition(":")
    return REASONS.get(code, code) + (f" ({judge})" if judge else "")
