"""Puts the shipped model and the weights manifest into the wheel; an editable install reads it from the checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ModelHook(BuildHookInterface):
    """Adds the files; hatchling finds it by pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["weights/mini"] = "portrait/weights_data/mini"
            build_data["force_include"]["weights/manifest.toml"] = "portrait/weights_data/manifest.toml"
