"""The direction in which each reason for a rejection pushes the knobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import ceil

from portrait.loop.response import RANGE, STEP
from portrait.records import Knobs

_CLOSER_TO_THE_PHOTO = {"controlnet_conditioning_scale": 1, "strength": -1, "guidance_scale": -1}
_MORE_LIKENESS = _CLOSER_TO_THE_PHOTO | {"ip_adapter_scale": 1}
_MORE_STYLE = {"controlnet_conditioning_scale": -1, "strength": 1, "guidance_scale": 1}
_WISHES: Mapping[str, Mapping[str, int]] = {
    "identity_low": _MORE_LIKENESS,
    "no_face": _MORE_LIKENESS,
    "swapped": _MORE_LIKENESS,
    "not_stylized": _MORE_STYLE,
    "broken_keep": _CLOSER_TO_THE_PHOTO,
    "changed": _CLOSER_TO_THE_PHOTO,
    "burned": {"guidance_scale": -1},
}
"""Reason code -> knob -> 1 for up, -1 for down."""


def directions(reasons: Sequence[str], *, overdrawn: bool) -> dict[str, int]:
    """Where each knob should go after these reasons: 1 up, -1 down, 0 if it stays or the reasons contradict each other.

    If the picture is `overdrawn`, it has the requested style, and `not_stylized:STYLE` means that it went too far.
    """
    wishes = [_wish(reason, overdrawn) for reason in reasons]
    combined = {}
    for name in STEP:
        signs = {wish[name] for wish in wishes if name in wish}
        combined[name] = signs.pop() if len(signs) == 1 else 0
    return combined


def _wish(reason: str, overdrawn: bool) -> Mapping[str, int]:
    code, _, detail = reason.partition(":")
    if code == "not_stylized" and detail and overdrawn:
        return _CLOSER_TO_THE_PHOTO
    return _WISHES.get(code, {})


def next_knobs(knobs: Knobs, reasons: Sequence[str], fixed: Collection[str] = (), *, overdrawn: bool = False) -> Knobs:
    """The knobs after a picture was rejected for `reasons`, each moved by at most one `STEP` within its `RANGE`.

    identity_low, no_face, swapped: more adapter, more structure, less strength, less guidance. not_stylized:
    less structure, more strength, more guidance. broken_keep, changed: more structure, less strength, less guidance.
    burned: less guidance. A knob that the reasons pull both ways stays, however many are on either side; so do the knobs
        in `fixed`.
    """
    moved = {}
    for name, direction in directions(reasons, overdrawn=overdrawn).items():
        if name in fixed:
            continue
        low, high = RANGE[name]
        value = getattr(knobs, name)
        low, high = min(low, value), max(high, value)  # a value that the user chose is never pulled back into the range
        moved[name] = round(min(max(value + direction * STEP[name], low), high), 4)
    proposed = replace(knobs, **moved)
    if "strength" in moved:
        return replace(proposed, strength=max(proposed.strength, ceil(100 / knobs.num_inference_steps) / 100))
    return proposed
