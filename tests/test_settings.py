"""Settings: one list, flag over file over default, errors that name the key and the value."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import pytest

from portrait.errors import SettingsError
from portrait.recipes.load import load_recipe
from portrait.settings import Settings, add_flags, flags_of, settings_from


def test_flag_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('balance = 0.2\nstyle = "oil"\nmax_attempts = 9\n')
    settings = settings_from({"balance": 0.0}, file)
    assert settings.balance == 0.0  # zero counts as given
    assert settings.style == ("oil",)
    assert settings.max_attempts == 9
    assert settings.frame == "bust"


def test_an_unknown_key_says_which_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("guidance = 3\n")
    with pytest.raises(SettingsError, match="unknown setting 'guidance'; did you mean guidance_scale"):
        settings_from({}, file)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"balance": 1.5}, "balance 1.5 is outside 0 to 1"),
        ({"frame": "knee"}, "frame 'knee' is not one of: head, bust, full"),
        ({"max_attempts": 0}, "max_attempts 0 is outside"),
        ({"shift": "0.1"}, "shift '0.1' is not X,Y: two numbers from -1 to 1"),
        ({"shift": "0,-1.5"}, "shift '0,-1.5' is not X,Y"),
        ({"shift": "nan,0"}, "shift 'nan,0' is not X,Y"),
        ({"seed": "x"}, "seed must be int, got 'x'"),
        ({"balance": True}, "balance must be float, got True"),
        ({"strength": -0.1}, "strength -0.1 is outside"),
        ({"stop": "later"}, "stop 'later' is not one of: first, best"),
        ({"keep": 3}, "keep must be one or more texts, got 3"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_from(values)


@pytest.mark.parametrize(("said", "recorded"), [("first", "accepted"), ("best", "best")])
def test_stop_is_recorded_under_its_older_name(said: str, recorded: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert settings_from(vars(parser.parse_args(["--stop", said]))).until == recorded
    assert settings_from(vars(parser.parse_args(["--until", recorded]))).until == recorded
    file = tmp_path / "s.toml"
    file.write_text(f'stop = "{said}"\n')
    assert settings_from({}, file).until == recorded
    assert settings_from(asdict(settings_from({}, file))).until == recorded  # a record is read back
    flags = flags_of(settings_from({"until": recorded}))
    assert flags == ["--style", "watercolor", *(["--stop", "best"] if said == "best" else [])]
    assert "--until" not in parser.format_help()


def test_a_knob_of_zero_replaces_the_recipes() -> None:
    knobs = load_recipe("mini").knobs_at(0.5)
    with_zero = Settings(ip_adapter_scale=0.0).knobs(knobs)
    assert with_zero.ip_adapter_scale == 0.0
    assert with_zero.strength == knobs.strength
