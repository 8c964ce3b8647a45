"""Compare the measurements with the thresholds: accepted, or rejected with reasons.

| reason | what is measured | unit | limit |
|---|---|---|---|
| identity_low:JUDGE | `verification.similarity` to the person | cosine, larger is more alike | at least, from a false accept rate |
| identity_low:together | `thresholds.Gate.evidence` of all judges | nats, a log-likelihood ratio | at least, from a false accept rate |
| no_face | whether any detector finds a face where the photo has it | yes or no | yes |
| no_face:features | `changes.features_shown` | correlation, -1 to 1 | at least, by a rate of right pictures |
| not_stylized | `checks.style_on_face` | share of redrawn structure, 0 to 1 | at least, above the values of copies |
| not_stylized:STYLE | `style_judge.StyleJudge.probabilities` | probability, 0 to 1 | at least, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_distance` | deviations of the style's own faces | at most, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_lead` over the other styles | nats | at least, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_on_face` | share of redrawn structure, 0 to 1 | at least, by a rate of right pictures |
| burned | `checks.burned_share` | share of pixels, 0 to 1 | at most, twice the usual value of portraits |
| changed:skin | `changes.SkinLimits.change` | units of CIE L, 0 to 100 | at most, by a rate of right pictures, either way |
| changed:expression | `changes.mouth_shift` | inter-eye distances | at most, by a rate of right pictures, either way |
| swapped | `verification.swap_margin` to other known people | cosine | 0: more like another by every judge |
| broken_keep:NAME | `checks.point_displacement`, `edge_agreement`, `color_distance`, `psnr_inside` | `KEEP_LIMITS` | `KEEP_LIMITS` |

The limits of identity_low, not_stylized and burned come from `portrait calibrate`, those of the style judge from
`weights/training/style_judge.py`, those of `KEEP_LIMITS` from `eval/keep.py`. Weights with a style judge need no
`style_distance`. The tests of each are listed in `tests/test_broken.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portrait.judge.thresholds import Thresholds

FEATURES = "features"
"""The detail of `no_face` if a detector sees a face, but eyes or mouth are not those of the photo."""
TOGETHER = "together"
"""The detail of `identity_low` if each judge reaches its floor, but all of them together do not reach their limit."""
REASONS = {
    "no_face": "no face was found in the picture",
    "identity_low": "it does not look enough like the person",
    "not_stylized": "the face is still the photo",
    "burned": "colors are burned out",
    "changed": "the person was changed",
    "swapped": "it looks more like another person of the photo or the campaign",
    "broken_keep": "something that must stay has changed",
}
"""Code -> description. `identity_low:JUDGE` and `broken_keep:NAME` say which one; `not_stylized:STYLE` that the face is redrawn,
but not in that style; `changed:WHAT` which feature of the person is not as this style would draw it."""

CHANGES = {
    "skin": "the skin is lighter or darker than this style draws it",
    "expression": "the mouth is not as in the photo",
}
"""The description of `changed:WHAT`."""

KEEP_LIMITS: dict[str, tuple[str, float]] = {
    "pose": ("at most", 0.1),  # inter-eye distances
    "composition": ("at least", 0.4),  # correlation of edges on the figure; portraits of two people reach 0.3
    "colors": ("at most", 8.0),  # units of CIE Lab
    "background": ("at least", 100.0),  # dB: no pixel differs
    "region": ("at least", 100.0),
    "mask": ("at least", 100.0),
}
"""Kind of keep -> limit of `Measurement.kept`. `eval/keep.py` measures styles against the first three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The measurements of one picture.

    `similarity` is per recognizer. If `face_found` is False, no detector saw a face in the picture, and the photo's
    landmarks were used to align it (img2img preserves the layout): such a picture is always rejected. `kept` maps each
    keep's name to its measure: inter-eye distances for pose, edge correlation for composition, CIE Lab units for colors, dB
    for pixels that must not change. `style_distance` is how far the face is from the style's statistics, in deviations, and
    `style_lead` how many nats the style is more probable than any other; None without statistics. `style_probability` is the
    style judge's probability of the requested style; None without a style judge. `features_shown` is how well the photo's
    eyes and mouth are visible; None if not measured. `changed` maps features of the person to how much they changed, see
    `StyleLimits.changes`. `swap` is how much more another known person resembles the picture than the right one does, see
    `verification.swap_margin`; None if nobody else is known.
    """

    similarity: dict[str, float]
    face_found: bool
    style_on_face: float
    burned: float
    kept: dict[str, float] = field(default_factory=dict)
    swap: float | None = None
    style_distance: float | None = None
    style_lead: float | None = None
    style_probability: float | None = None
    features_shown: float | None = None
    changed: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reasons` are codes of `REASONS`, `identity_low:RECOGNIZER` per judge; empty when accepted.

    `margin` is the smallest distance above a limit, over the judges' similarities and their joint evidence; it orders
    rejected attempts.
    """

    accepted: bool
    reasons: tuple[str, ...] = ()
    margin: float = field(default=0.0)


def decide(measured: Measurement, thresholds: Thresholds) -> Verdict:
    """Accept if every recognizer passes its own threshold, all together pass the gate's, and no other check fails.

    A picture without a detectable face is rejected, even if every judge recognizes the person at the photo's landmarks: a
    blur in the photo's layout is not a portrait. The missing face is then the first reason. If the face is another known
    person's, that reason precedes missing eyes and mouth, as it cannot show those of the photo.
    """
    margins = _identity_margins(measured, thresholds)
    reasons = _face_reasons(measured, thresholds)
    if measured.swap is not None and measured.swap > 0:
        reasons.insert(0 if measured.face_found else 1, "swapped")
    reasons += _identity_reasons(margins)
    reasons += _drawing_reasons(measured, thresholds)
    if measured.burned > thresholds.burned:
        reasons.append("burned")
    reasons += [f"broken_keep:{name}" for name, value in measured.kept.items() if not _stayed(name, value)]
    return Verdict(accepted=not reasons, reasons=tuple(reasons), margin=min(margins.values(), default=0.0))


def _identity_margins(measured: Measurement, thresholds: Thresholds) -> dict[str, float]:
    """Judge -> similarity minus threshold; `TOGETHER` -> the evidence of all of them minus the gate's limit."""
    margins = {name: measured.similarity[name] - threshold for name, threshold in thresholds.identity.items()}
    gate = thresholds.gate
    if gate is not None and gate.weights:
        margins[TOGETHER] = gate.evidence(measured.similarity) - gate.least
    return margins


def _identity_reasons(margins: Mapping[str, float]) -> list[str]:
    """The judges that find too little likeness; all of them together only if each alone finds enough."""
    too_low = [name for name, margin in margins.items() if margin < 0]
    alone = [name for name in too_low if name != TOGETHER]
    return [f"identity_low:{name}" for name in alone or too_low]


def _face_reasons(measured: Measurement, thresholds: Thresholds) -> list[str]:
    """What is missing in the face itself."""
    if not measured.face_found:
        return ["no_face"]
    limit, value = thresholds.features_shown, measured.features_shown
    return [f"no_face:{FEATURES}"] if limit is not None and value is not None and value < limit else []


def _stayed(name: str, value: float) -> bool:
    """Whether something that must stay did, by its measure."""
    side, limit = KEEP_LIMITS[name.partition(":")[0]]
    return value <= limit if side == "at most" else value >= limit


def _drawing_reasons(measured: Measurement, thresholds: Thresholds) -> list[str]:
    """What is wrong with how the face is drawn."""
    reasons = []
    if measured.style_on_face < thresholds.style_on_face:
        reasons.append("not_stylized")
    elif not _drawn_as_asked(measured, thresholds):
        reasons.append(f"not_stylized:{thresholds.style}")
    limits = {} if thresholds.drawing is None else thresholds.drawing.most
    reasons += [f"changed:{what}" for what, limit in limits.items() if abs(measured.changed.get(what, 0.0)) > limit]
    return reasons


def _drawn_as_asked(measured: Measurement, thresholds: Thresholds) -> bool:
    """Whether the face is drawn in the requested style, as far as can be told."""
    if thresholds.drawing is not None and measured.style_probability is not None:
        return measured.style_probability >= thresholds.drawing.probability
    if measured.style_on_face < thresholds.required_style_on_face:
        return False
    statistics, distance, lead = thresholds.statistics, measured.style_distance, measured.style_lead
    if statistics is None or distance is None:
        return True
    return distance <= statistics.limit and (lead is None or lead >= statistics.lead)


def describe_reason(reason: str) -> str:
    """Describe a reason code in words."""
    code, _, judge = reason.partition(":")
    if code == "not_stylized" and judge:
        return f"the face is not drawn in the style {judge}"
    if code == "no_face" and judge == FEATURES:
        return "the eyes or the mouth of the face are not visible"
    if code == "changed" and judge in CHANGES:
        return CHANGES[judge]
    if judge == TOGETHER:
        judge = "all judges together"
    return REASONS.get(code, code) + (f" ({judge})" if judge else "")


def describe_strangers(share: float) -> str:
    """Describe a judge's score: how many strangers would look this much like the photo."""
    count = 1000 * share
    number = "fewer than 1" if count < 1 else "more than 900" if count > 900 else f"{count:.0f}"
    return f"of 1,000 strangers, {number} would look this much like the photo"
