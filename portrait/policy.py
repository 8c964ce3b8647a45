"""How the knobs move after a rejection: by its reasons, within the ranges that the model was trained in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import ceil

from portrait.records import Knobs

_STEP = {"ip_adapter_scale": 0.2, "controlnet_conditioning_scale": 0.1, "strength": 0.1, "guidance_scale": 0.5}
_RANGE = {
    "ip_adapter_scale": (0.0, 1.4),
    "controlnet_conditioning_scale": (0.55, 1.0),  # below, the likeness of `mini` falls steeply: eval/curves.json
    "strength": (0.3, 1.0),
    "guidance_scale": (1.0, 7.5),
}


def next_knobs(knobs: Knobs, reasons: Sequence[str], fixed: Collection[str] = ()) -> Knobs:
    """The knobs of the next attempt, after one was rejected for `reasons`.

    identity_low, no_face, swapped: more adapter, more structure, less strength, less guidance. not_stylized:
    less structure, more strength, more guidance. broken_keep: more structure, less strength, less guidance.
    burned: less guidance. Where wishes are opposite they cancel out. Knobs that the user set, `fixed`, never
    move; the next attempt then differs by its seed.
    """
    wish = dict.fromkeys(_STEP, 0.0)
    codes = {reason.partition(":")[0] for reason in reasons}
    if codes & {"identity_low", "no_face", "swapped"}:
        wish["ip_adapter_scale"] += 1
        wish["controlnet_conditioning_scale"] += 1
        wish["strength"] -= 1
        wish["guidance_scale"] -= 1
    if "not_stylized" in codes:
        wish["controlnet_conditioning_scale"] -= 1
        wish["strength"] += 1
        wish["guidance_scale"] += 1
    if "broken_keep" in codes:
        wish["controlnet_conditioning_scale"] += 1
        wish["strength"] -= 1
        wish["guidance_scale"] -= 1
    if "burned" in codes:
        wish["guidance_scale"] = -1
    moved = {}
    for name, direction in wish.items():
        if name in fixed:
            continue
        low, high = _RANGE[name]
        value = getattr(knobs, name)
        low, high = min(low, value), max(high, value)  # a user's own value is never pulled back into the range
        moved[name] = round(min(max(value + direction * _STEP[name], low), high), 4)
    if "strength" in moved:
        moved["strength"] = max(moved["strength"], ceil(100 / knobs.num_inference_steps) / 100)
    return replace(knobs, **moved)
