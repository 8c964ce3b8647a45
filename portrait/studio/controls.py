"""The controls of settings: made from what `Settings` says of each, and read back as it takes them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr

from portrait.settings import Settings
from portrait.studio import strings

ADVANCED = [
    "frame",
    "seed",
    "far",
    "max_attempts",
    "until",
    "strength",
    "guidance_scale",
    "ip_adapter_scale",
    "controlnet_conditioning_scale",
    "num_inference_steps",
    "prompt",
    "negative_prompt",
]


def make_control(name: str, base: Settings) -> Any:
    """Make the control of one setting.

    Numbers are texts: Gradio's own field makes 0 of an empty one, and 0 counts.
    """
    rule = _rule(name)
    value = to_text(getattr(base, name))
    common = {"label": name, "info": rule["help"], "elem_id": f"advanced-{name}", "interactive": True}
    if rule.get("choices"):
        return gr.Radio(list(rule["choices"]), value=value, **common)
    return gr.Textbox(value, placeholder=strings.FROM_BALANCE if rule.get("knob") else None, **common)


def to_text(value: Any) -> str:
    """What a control shows of a value."""
    return "" if value is None else str(value)


def parse_value(name: str, text: str | None) -> Any:
    """The value of a control: None for an empty one; what is not a number stays a text, which `Settings` refuses."""
    kind = _rule(name)["kind"]
    text = (text or "").strip()
    if kind is str or not text:
        return text or None
    try:
        return kind(text)
    except ValueError:
        return text


def _rule(name: str) -> Any:
    return next(f.metadata for f in fields(Settings) if f.name == name)
