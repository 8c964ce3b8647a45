"""Recipes: the balance, what a file may contain, errors that name the key and the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from portrait.errors import SettingsError, WeightsMissingError
from portrait.recipes.load import load_recipe
from portrait.records import Knobs
from tests.tiny import RECIPE


def test_the_dial_is_linear_between_the_points_and_bounded(tiny_recipe: Path) -> None:
    recipe = load_recipe(str(tiny_recipe))
    assert recipe.knobs_at(0.5) == Knobs(
        strength=0.5,
        guidance_scale=5.0,
        ip_adapter_scale=0.8,
        controlnet_conditioning_scale=0.75,
        num_inference_steps=10,
    )
    with pytest.raises(SettingsError, match="balance 1.2 is outside"):
        recipe.knobs_at(1.2)


def test_unknown_recipes_and_styles_suggest_the_near_one() -> None:
    with pytest.raises(SettingsError, match="did you mean mini"):
        load_recipe("mimi")
    with pytest.raises(SettingsError, match="did you mean watercolor"):
        load_recipe("mini").style("watercolour")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("structure =", "structur ="), "unknown key 'structur'; did you mean structure"),
        (('"none"', '"magic"'), "structure 'magic' is not one of"),
        (("strength = 0.3", "strenght = 0.3"), r"\[\[balance\]\] 1: unknown key 'strenght'; did you mean strength"),
        (("at = 1.0", "at = 0.0"), r"must rise .*; got \[0.0, 0.0\]"),
        (('"oil"]', '"fresco"]'), "no such style: fresco"),
        (('name = "tiny"', ""), "lacks: name"),
        (('name = "tiny"', "name ="), "is not TOML"),
    ],
)
def test_a_recipe_that_does_not_fit_says_where(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(SettingsError, match=says):
        load_recipe(str(path))


def test_a_recipe_without_its_model_says_where_it_looked(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE)
    with pytest.raises(WeightsMissingError, match="sd"):
        load_recipe(str(path))
