"""Tables of TOML files: errors name the place, the value and what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, field_validator

from portrait.errors import SettingsError, WeightsError
from portrait.file_model import Entries, FileModel
from portrait.validation import check_names, did_you_mean, parse_toml, read_text


class Brush(FileModel):
    width: int = Field(ge=1, le=9)
    hair: Literal["", "hog", "sable"] = ""


class Studio(FileModel):
    name: str
    brushes: Entries[Brush] = ()
    colors: Entries[str] = Field(default=(), min_length=1)
    prices: dict[str, float] = Field(default_factory=dict)
    rent: float = Field(default=0.0, ge=0)
    is_open: bool = True
    best: Brush | None = None

    @field_validator("colors")
    @classmethod
    def _check_colors(cls, colors: tuple[str, ...]) -> tuple[str, ...]:
        if "beige" in colors:
            raise ValueError("must not have beige")
        return colors


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"nam": "x"}, "s.toml: unknown key 'nam'; did you mean name?"),
        ({"name": "x", "street": 1}, "s.toml: unknown key 'street'; it goes on the letter"),
        ({"name": "x", "zzz": 1}, "s.toml: unknown key 'zzz'"),
        ({}, "s.toml lacks: name"),
        ({"name": 3}, "s.toml: name must be text, got 3"),
        ({"name": "x", "rent": -1}, "s.toml: rent must be at least 0, got -1"),
        ({"name": "x", "rent": True}, "s.toml: rent must be a number, got True"),
        ({"name": "x", "is_open": 1}, "s.toml: is_open must be true or false, got 1"),
        ({"name": "x", "colors": "red"}, "s.toml: colors must be a list, got 'red'"),
        ({"name": "x", "colors": []}, "s.toml: colors must not be empty"),
        ({"name": "x", "colors": ["red", 2]}, "s.toml: colors 2 must be text, got 2"),
        ({"name": "x", "colors": ["beige"]}, "s.toml: colors must not have beige"),
        ({"name": "x", "prices": {"red": "dear"}}, "s.toml: [prices] red must be a number, got 'dear'"),
        ({"name": "x", "prices": 3}, "s.toml: [prices] must be a table, got 3"),
        ({"name": "x", "brushes": [{"width": 10}]}, "s.toml: [[brushes]] 1 width 10 is outside 1 to 9"),
        ({"name": "x", "brushes": [{"width": 1}, {"wdth": 1}]}, "s.toml: [[brushes]] 2: unknown key 'wdth'; did you mean width?"),
        ({"name": "x", "brushes": [{"width": 1}, {}]}, "s.toml: [[brushes]] 2 lacks: width"),
        ({"name": "x", "brushes": [4]}, "s.toml: [[brushes]] 1 must be a table, got 4"),
        ({"name": "x", "best": {"width": 1, "hair": "cat"}}, "s.toml: [best] hair 'cat' is not one of: hog, sable"),
    ],
)  # fmt: skip
def test_errors_name_place_and_value(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Studio.from_table(table, "s.toml", {"street": "it goes on the letter"})
    assert str(caught.value) == message


def test_a_table_that_fits_is_a_value_and_cannot_be_changed() -> None:
    studio = Studio.from_table({"name": "x", "colors": ["red"], "brushes": [{"width": 2}], "rent": 3}, "s.toml")
    assert studio.colors == ("red",)
    assert studio.brushes == (Brush(width=2),)
    with pytest.raises(ValueError, match="frozen"):
        studio.name = "y"


def test_the_error_is_of_the_requested_class() -> None:
    with pytest.raises(WeightsError, match="lacks: name"):
        Studio.from_table({}, "s.toml", kind=WeightsError)


def test_the_nearest_name_is_proposed_and_nothing_far_away() -> None:
    assert did_you_mean("watercolour", ["oil", "watercolor"]) == "; did you mean watercolor?"
    assert did_you_mean("oi", ["oil"], "did you mean {}? ") == "did you mean oil? "
    assert did_you_mean("x", ["oil", "watercolor"]) == ""
    with pytest.raises(SettingsError, match=r"^\[here\]: unknown key 'oi'; did you mean oil\?$"):
        check_names(["oil", "oi"], "[here]", ["oil"], "key")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    with pytest.raises(SettingsError, match="^cannot read plan x: No such file or directory$"):
        read_text(file, "plan x")
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="s.toml is not UTF-8 text"):
        read_text(file)
    file.write_bytes("\ufeffname = 1".encode())
    assert parse_toml(read_text(file), "s.toml") == {"name": 1}
    with pytest.raises(SettingsError, match="^s.toml is not TOML: "):
        parse_toml("name =", "s.toml")
