"""The studio's form: what it offers, and that it is read back as the settings that it was made from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from portrait.recipes.load import load_recipe
from portrait.settings import Settings
from portrait.studio import controls
from portrait.studio.controls import FieldError, controls_html, first_form, fitting, form_of, settings_asked
from portrait.studio.session import Session
from portrait.studio.web_settings import Choices, web_settings


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(style=("oil",), balance=0.35, seed=2001, frame="head", variants=4),
        Settings(keep=("pose", "colors", "region:10,20,30,40")),
        Settings(frame="head", shift="-0.1,0.05"),
        Settings(background="gradient:#112233,#445566"),
        Settings(background="#102030"),
        Settings(background="transparent", until="best", max_attempts=9, far=0.001),
        Settings(strength=0.0, guidance_scale=1.25, num_inference_steps=20),
    ],
)
def test_the_form_is_read_as_the_settings_that_it_was_made_from(settings: Settings) -> None:
    assert web_settings(Settings(), settings_asked(form_of(settings))) == settings


def test_what_is_left_to_the_balance_is_absent() -> None:
    form = form_of(Settings())
    assert "strength" not in dict(form)
    assert "strength" not in settings_asked(form)
    assert settings_asked(form.model_copy(update={"strength": "0"}))["strength"] == 0.0  # 0 counts


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("seed", "seven", "Seed must be a whole number, got 'seven'"),
        ("far", "much", "Strictness of the check must be a number, got 'much'"),
        ("max_attempts", "99", "Attempts at most must be between 1 and 32, got 99"),
    ],
)
def test_a_wrong_field_is_named_as_the_page_names_it(field: str, text: str, says: str) -> None:
    with pytest.raises(FieldError) as refused:
        settings_asked(form_of(Settings()).model_copy(update={field: text}))
    assert (refused.value.field, str(refused.value)) == (field, says)


def test_palettes_and_sizes_are_offered_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("mini")
    form = first_form(recipe, Settings())
    html = controls_html(recipe, form, ["mini"])
    assert ('name="palette"' in html) == bool(recipe.palettes_of(recipe.style(recipe.styles[0])))
    some = Choices(sizes=(recipe.resolution, 1024), palettes=("turquoise", "rust"), advanced=("seed",))
    monkeypatch.setattr(controls, "choices_for", lambda recipe, style: some)
    form = form.model_copy(update={"palette": "rust", "size": "1024"})
    html = controls_html(recipe, form, ["mini"])
    assert re.findall(r'name="palette" value="(\w*)"', html) == ["", "turquoise", "rust"]
    assert re.search(r'name="palette" value="rust"[^>]* checked', html)
    assert re.search(r'name="size" value="1024"[^>]* checked', html)
    assert "advanced-seed" in html
    assert "advanced-far" not in html
    assert fitting(form, recipe).palette == "rust"


def test_what_another_recipe_or_style_lacks_is_not_kept() -> None:
    recipe = load_recipe("mini")
    wrong = {"style": "cubism", "palette": "rust", "size": "333"}
    form = fitting(form_of(Settings()).model_copy(update=wrong), recipe)
    assert (form.style, form.palette, form.size) == (recipe.styles[0], "", "0")


def test_a_model_without_a_language_is_offered_no_prompt() -> None:
    for name in ("mini", "sd15-faceid", "klein4b"):
        recipe = load_recipe(name)
        html = controls_html(recipe, first_form(recipe, Settings()), [name])
        assert ('name="prompt"' in html) == (name != "mini")


def test_every_text_in_the_form_is_escaped(tmp_path: Path) -> None:
    recipe = load_recipe("mini")
    form = first_form(recipe, replace(Settings(), prompt='"><script>'))
    session = Session(tmp_path)
    session.backdrop = tmp_path / "<u>.png"
    for html in (
        controls_html(recipe, form.model_copy(update={"region": '"><b>'}), ["<i>"], session),
        controls_html(replace(recipe, prompts="rich"), form, ["mini"]),
    ):
        assert not re.search(r"<script>|<b>|<i>|<u>", html)
