"""Put the measurements against the thresholds: accepted, or rejected with reasons.

| reason | what is measured | unit | limit |
|---|---|---|---|
| identity_low:JUDGE | `verification.similarity` to the person | cosine, larger is more alike | least, from a false accept rate |
| identity_low:together | `thresholds.Gate.evidence` of all judges | nats, a log-likelihood ratio | least, from a false accept rate |
| no_face | whether any detector finds a face where the photo has it | yes or no | yes |
| no_face:features | `changes.features_shown` | correlation, -1 to 1 | least, by a rate of right pictures |
| not_stylized | `checks.style_on_face` | share of structure drawn anew, 0 to 1 | least, above what copies reach |
| not_stylized:STYLE | `style_judge.StyleJudge.probabilities` | probability, 0 to 1 | least, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_distance` | deviations of the style's own faces | most, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_lead` over the other styles | nats | least, by a rate of right pictures |
| not_stylized:STYLE | `checks.style_on_face` | share of structure drawn anew, 0 to 1 | least, by a rate of right pictures |
| burned | `checks.burned_share` | share of pixels, 0 to 1 | most, twice what portraits usually show |
| changed:skin | `changes.SkinLimits.change` | units of CIE L, 0 to 100 | most, by a rate of right pictures, either way |
| changed:expression | `changes.mouth_shift` | distances between the eyes | most, by a rate of right pictures, either way |
| swapped | `verification.swap_margin` to other known people | cosine | 0: more like another by every judge |
| broken_keep:NAME | `checks.point_displacement`, `edge_agreement`, `color_distance`, `psnr_inside` | `KEEP_LIMITS` | `KEEP_LIMITS` |

The limits of identity_low, not_stylized and burned come from `portrait calibrate`, those of the style judge from
`weights/training/style_judge.py`, those of `KEEP_LIMITS` from `eval/keep.py`. Weights that have a style judge need no
`style_distance`. The tests of each are listed in `tests/test_broken.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portrait.judge.thresholds import Thresholds

FEATURES = "features"
"""What `no_face` is about where a detector sees a face, and eyes or mouth are not those of the photo."""
TOGETHER = "together"
"""What `identity_low` is about where each judge reaches its floor and all of them together do not reach their limit."""
REASONS = {
    "no_face": "no face was found in the picture",
    "identity_low": "it does not look enough like the person",
    "not_stylized": "the face is still the photo",
    "burned": "colors are burned out",
    "changed": "the person was changed",
    "swapped": "it looks more like another person of the photo or the campaign",
    "broken_keep": "what was to stay has changed",
}
"""Code -> words. `identity_low:JUDGE` and `broken_keep:NAME` say which; `not_stylized:STYLE` that the face is drawn anew,
but not as that style is; `changed:WHAT` what of the person is not as this style would draw it."""

CHANGES = {
    "skin": "the skin is lighter or darker than this style draws it",
    "expression": "the mouth is not as it is in the photo",
}
"""What `changed:WHAT` is about, in words."""

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

    `similarity` per recognizer; when `face_found` is False no detector saw a face in the picture, and the photo's
    landmarks were used to align it (img2img keeps the layout): such a picture is rejected, whatever it is like. `kept`
    is the name of each keep and its measure: inter-eye distances for pose, edge correlation for composition, CIE Lab
    units for colors, dB for what stays pixel by pixel. `style_distance` is how far the face is from the style's
    statistics, in deviations, and `style_lead` by how many nats the style is more probable than any other; None where
    there are none. `style_probability` is how sure the style judge is of the
    style that was asked for; None without one. `features_shown` is how much of the photo's eyes and mouth is to be seen;
    None where nobody asked. `changed` is what of the person was changed by how much, as
    `StyleLimits.changes` measures it. `swap` is by how much another known person is more alike than the right one, as
    `verification.swap_margin`; None when nobody else is known.
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

    `margin` is the worst of (similarity - threshold) over the judges, and of what all together lack, for ordering
    rejected attempts.
    """

    accepted: bool
    reasons: tuple[str, ...] = ()
    margin: float = field(default=0.0)


def decide(measured: Measurement, thresholds: Thresholds) -> Verdict:
    """Accept when every recognizer passes its own threshold, all together pass the gate's, and no other check fails.

    A picture without a detectable face is rejected, even if every judge recognizes the person at the photo's landmarks:
    a blur in the photo's layout is no portrait. The missing face is then the first reason. Another known person's face
    comes before the photo's eyes and mouth, which it cannot show.
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
    """Judge -> its likeness above its threshold; `TOGETHER` -> the evidence of all of them above the gate's."""
    margins = {name: measured.similarity[name] - least for name, least in thresholds.identity.items()}
    gate = thresholds.gate
    if gate is not None and gate.weights:
        margins[TOGETHER] = gate.evidence(measured.similarity) - gate.least
    return margins


def _identity_reasons(margins: Mapping[str, float]) -> list[str]:
    """The judges that find too little likeness; all of them together only where each alone finds enough."""
    too_low = [name for name, margin in margins.items() if margin < 0]
    alone = [name for name in too_low if name != TOGETHER]
    return [f"identity_low:{name}" for name in alone or too_low]


def _face_reasons(measured: Measurement, thresholds: Thresholds) -> list[str]:
    """What is missing of the face itself."""
    if not measured.face_found:
        return ["no_face"]
    least, shown = thresholds.features_shown, measured.features_shown
    return [f"no_face:{FEATURES}"] if least is not None and shown is not None and shown < least else []


def _stayed(name: str, value: float) -> bool:
    """Whether what was to stay did, by its measure."""
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
    reasons += [f"changed:{what}" for what, most in limits.items() if abs(measured.changed.get(what, 0.0)) > most]
    return reasons


def _drawn_as_asked(measured: Measurement, thresholds: Thresholds) -> bool:
    """Whether the face is drawn in the style that was asked for, as far as that can be told."""
    if thresholds.drawing is not None and measured.style_probability is not None:
        return measured.style_probability >= thresholds.drawing.probability
    if measured.style_on_face < thresholds.required_style_on_face:
        return False
    statistics, distance, lead = thresholds.statistics, measured.style_distance, measured.style_lead
    if statistics is None or distance is None:
        return True
    return distance <= statistics.limit and (lead is None or lead >= statistics.lead)


def describe_reason(reason: str) -> str:
    """A reason code as a person would say it."""
    code, _, judge = reason.partition(":")
    if code == "not_stylized" and judge:
        return f"the face is not drawn in the style {judge}"
    if code == "no_face" and judge == FEATURES:
        return "the eyes or the mouth of the face are not to be seen"
    if code == "changed" and judge in CHANGES:
        return CHANGES[judge]
    if judge == TOGETHER:
        judge = "all judges together"
    return REASONS.get(code, code) + (f" ({judge})" if judge else "")


def describe_strangers(share: float) -> str:
    """A judge's score as a person would say it: how many strangers would look this much like the photo."""
    count = 1000 * share
    number = "fewer than 1" if count < 1 else "more than 900" if count > 900 else f"{count:.0f}"
    return f"of 1,000 strangers, {number} would look this much like the photo"
