"""The controls of settings: made from what `Settings` says of each, and read back as it takes them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from portrait.settings import RULES, Settings
from portrait.studio import strings


def make_control(name: str, base: Settings) -> Any:
    """Make the control of one setting.

    Numbers are texts: Gradio's own field makes 0 of an empty one, and 0 counts.
    """
    rule = RULES[name]
    value = to_text(getattr(base, name))
    common = {"label": name, "info": rule.help, "elem_id": f"advanced-{name}", "interactive": True}
    if rule.choices:
        return gr.Radio(list(rule.choices), value=value, **common)
    return gr.Textbox(value, placeholder=strings.FROM_BALANCE if rule.knob else None, **common)


def to_text(value: object) -> str:
    """What a control shows of a value."""
    return "" if value is None else str(value)


def parse_value(name: str, text: str | None) -> object:
    """The value of a control: None for an empty one; what is not a number stays a text, which `Settings` refuses."""
    kind = RULES[name].kind
    text = (text or "").strip()
    if kind is str or not text:
        return text or None
    try:
        return kind(text)
    except ValueError:
        return text
