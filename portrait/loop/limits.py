"""The limits by which a recipe is judged: calibrated ones, or provisional ones that the record marks as such."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from portrait.errors import SettingsError
from portrait.judge.thresholds import DEFAULT_DETECTOR, Thresholds, photo_thresholds, thresholds_for
from portrait.recipes.recipe import Recipe

UNCALIBRATED_NOTE = (
    "this recipe is not calibrated: judged by photo-to-photo thresholds, which are usually stricter than its own "
    "would be; the false accept rate is that of photos. portrait calibrate measures its own"
)

_BORROWED = ("mini", "watercolor", 0.01)
"""Recipe, style and rate of the calibration from which uncalibrated recipes borrow limits on copies and burned colors: these are
measured on copies of photos, and are the same for each style and rate."""


def resolve_thresholds(
    recipe: Recipe,
    style: str,
    far: float,
    file: Path | str | None = None,
    weights: Mapping[str, str] | None = None,
    judges: Collection[str] = (),
    detector: str = "",
    form: str = "",
) -> tuple[Thresholds, str]:
    """The thresholds that pictures of a recipe and style are judged by.

    A recipe that says `thresholds = "photo"` was never calibrated. Two photos of one person are more alike than a
    photo and a drawing, so photo-to-photo thresholds reject more than needed; `far` is then theirs. The limits on copies and
    burned colors are those of `mini`: the values of copied photos do not depend on the recipe. The user's own calibration in
    `file` takes precedence. Arguments and errors are those of `thresholds_for`.

    Returns:
        The thresholds, and a note if they are not the recipe's own, else empty.
    """
    if file or recipe.thresholds != "photo":
        return thresholds_for(recipe.name, style, far, file, weights, judges, detector, form), ""
    table = photo_thresholds(detector or DEFAULT_DETECTOR)
    identity = {name: limit for name, limit in table.limits.items() if not judges or name in judges}
    return replace(
        thresholds_for(*_BORROWED),
        identity=identity,
        far=table.far,
        style=style,
        statistics=None,  # that is how mini draws
        gate=None,
        strangers={},
        features_shown=None,  # models that draw freely may move features
    ), UNCALIBRATED_NOTE


def style_limit(recipe: Recipe, style: str, weights: Mapping[str, str]) -> float:
    """The calibrated limit of `style_on_face`, the same for all rates; 0 if there is none for these weights."""
    try:
        return resolve_thresholds(recipe, style, 0.01, weights=weights)[0].style_on_face
    except SettingsError:
        return 0.0
