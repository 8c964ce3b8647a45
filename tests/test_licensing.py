"""Licenses, the user's own recipes and styles, other base models: what is read and refused before a model is loaded."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from portrait.cli import diagnosis as doctor
from portrait.cli.main import main
from portrait.errors import LicenseError, SettingsError, WeightsError
from portrait.hub import files as weights
from portrait.hub import store
from portrait.hub.judges import DETECTORS, FACE_TOOLS, FURTHER_JUDGES, JUDGES, SECOND_DETECTOR, face_files, tools_for
from portrait.hub.manifest import find_part
from portrait.judge.thresholds import photo_thresholds, thresholds_for
from portrait.loop.limits import resolve_thresholds
from portrait.recipes.licensing import (
    TRAINING_NOTES,
    license_chain,
    nearest_commercial_recipe,
    noncommercial_links,
    require_commercial,
)
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.override import with_overrides
from portrait.settings import settings_from


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    (folder / "recipes").mkdir(parents=True)
    monkeypatch.setenv("PORTRAIT_CONFIG", str(folder))
    return folder


# ---- licenses


def test_exactly_klein_z_image_qwen_edit_and_the_plus_face_recipes_are_for_business() -> None:
    allowed = {name for name in recipe_names() if not noncommercial_links(load_recipe(name))}
    assert allowed == {f"{base}-plus-face{speed}" for base in ("sd15", "sdxl") for speed in ("", "-fast")} | {
        "klein4b", "klein4b-fp8", "z-image-turbo", "z-image-turbo-bf16", "qwen-edit-2511-lightning",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "because", "nearest"),
    [
        ("sd15-faceid", "faceid_sd15", "sd15-plus-face"),
        ("sd15-faceid-plusv2-fast", "faceid-plusv2_sd15", "sd15-plus-face-fast"),
        ("sdxl-instantid", "instantid-identitynet", "sdxl-plus-face"),
        ("sdxl-faceid-fast", "buffalo_l", "sdxl-plus-face-fast"),
        ("mini", "w600k_mbf", "klein4b"),
    ],
)
def test_a_refusal_names_the_part_and_the_recipes_that_are_allowed(name: str, because: str, nearest: str) -> None:
    with pytest.raises(LicenseError, match=because) as caught:
        require_commercial(load_recipe(name))
    same_base = "" if nearest == "klein4b" else f" or, with the same base model, {nearest}"
    assert f"; use klein4b{same_base} instead; YuNet then finds the face, SFace and dlib judge" in str(caught.value)
    assert nearest_commercial_recipe(load_recipe(name)) == nearest


def test_unknown_and_conditional_parts_are_refused_too(tmp_path: Path) -> None:
    lora = tmp_path / "mine.safetensors"
    lora.write_bytes(b"x")
    recipe = with_overrides(load_recipe("sd15-plus-face"), loras=[f"{lora}:0.5"])
    with pytest.raises(LicenseError, match=r"mine\.safetensors \(unknown: unknown\)"):
        require_commercial(recipe)
    turbo = with_overrides(load_recipe("sdxl-plus-face"), base="sdxl-turbo")
    with pytest.raises(LicenseError, match="sdxl-turbo .conditional: Stability AI Community"):
        require_commercial(turbo)


def test_the_license_of_a_custom_model_folder_is_unknown_until_it_is_stated(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    recipe_file = tmp_path / "own.toml"
    text = 'extends = "sd15-plus-face"\nbase = "mine"\n'
    recipe_file.write_text(text)
    recipe = load_recipe(str(recipe_file))
    assert "sd15" not in recipe.part_names
    with pytest.raises(LicenseError, match=r"because of mine \(unknown: unknown\)"):
        require_commercial(recipe)
    recipe_file.write_text(text + '[[licenses]]\npart = "mine"\nlicense = "our own"\ncommercial = "yes"\n')
    require_commercial(load_recipe(str(recipe_file)))


def test_the_license_of_a_custom_lora_is_unknown_until_it_is_stated(tmp_path: Path) -> None:
    recipe_file = tmp_path / "own.toml"
    text = 'extends = "sd15-plus-face"\n[[loras]]\nfile = "ink.safetensors"\nweight = 0.6\n'
    recipe_file.write_text(text)
    with pytest.raises(LicenseError, match=r"because of ink\.safetensors \(unknown: unknown\)"):
        require_commercial(load_recipe(str(recipe_file)))
    recipe_file.write_text(text + '[[licenses]]\npart = "ink.safetensors"\nlicense = "our own"\ncommercial = "yes"\n')
    require_commercial(load_recipe(str(recipe_file)))


def test_a_part_that_is_no_checkpoint_is_no_base() -> None:
    with pytest.raises(SettingsError, match="--base faceid_sd15 is not one checkpoint"):
        with_overrides(load_recipe("sd15-plus-face"), base="faceid_sd15")


def test_the_chain_has_the_tools_that_judge_and_for_business_only_free_ones() -> None:
    recipe = load_recipe("klein4b")
    usual = {link.part for link in license_chain(recipe)}
    free = {link.part for link in license_chain(recipe, commercial=True)}
    assert {"w600k_mbf", "scrfd_500m_bnkps"} <= usual
    judges = {"yunet", "sface", weights.DLIB_RESNET.name, weights.DLIB_LANDMARKS.name}
    assert free == set(recipe.part_names) | judges


def test_stylize_refuses_before_anything_is_loaded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["stylize", str(photos / "astronaut.png"), "--commercial", "-o", str(tmp_path / "out")]
    assert main(argv) == 2
    printed = capsys.readouterr().err
    assert "recipe mini is not licensed for commercial use because of" in printed
    assert len(printed.splitlines()) == 1


def test_calibrate_refuses_too(people: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "calibrate",
        "--subjects",
        str(people[0].parent),
        "--far",
        "0.1",
        "--commercial",
        "-o",
        str(tmp_path / "t.json"),
    ]
    assert main(argv) == 2
    assert "recipe mini is not licensed for commercial use because of" in capsys.readouterr().err


def test_the_command_lists_chains_and_says_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "licenses", "sd15-plus-face", "--commercial"]) == 0
    assert "sd15-plus-face: commercial use allowed" in capsys.readouterr().out
    assert main(["weights", "licenses", "sd15-faceid", "--commercial"]) == 2
    assert "use instead: klein4b, sd15-plus-face" in capsys.readouterr().out
    assert main(["weights", "licenses", "sd15-plus-face"]) == 0
    assert "commercial use allowed with --commercial: YuNet then finds the face" in capsys.readouterr().out
    assert main(["weights", "licenses"]) == 0
    output = capsys.readouterr().out
    for name in ("FLUX.1-dev", "FLUX.1-Kontext-dev", "PuLID (for FLUX)", "InfiniteYou", "Qwen-Image-2.1"):
        assert f"  {name}: " in output
    assert main(["weights", "licenses", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == set(recipe_names())
    assert printed["sdxl-instantid"]["allowed"] is False


# ---- recipes and styles of one's own


def test_a_custom_recipe_extends_ours_and_has_a_name(config: Path) -> None:
    (config / "recipes" / "mine.toml").write_text(
        'extends = "sd15-faceid"\nname = "mine"\nadapter_lora = 0.7\n[parts]\nvae = "sd-vae-ft-mse"\n'
    )
    assert "mine" in recipe_names()
    recipe = load_recipe("mine")
    assert recipe.adapter_lora == 0.7
    assert recipe.part_names == load_recipe("sd15-faceid").part_names


def test_a_lora_is_added_to_those_of_the_recipe_that_is_extended(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    ink = '[[loras]]\nfile = "ink.safetensors"\nweight = 0.6\n'
    stated = '[[licenses]]\npart = "{}.safetensors"\nlicense = "our own"\ncommercial = "yes"\n'
    (tmp_path / "below" / "one.toml").write_text(
        f'extends = "sd15-plus-face-fast"\nname = "one"\n{ink}{stated.format("ink")}'
    )
    two = tmp_path / "two.toml"
    text = 'extends = "below/one.toml"\nname = "two"\n[[loras]]\nfile = "oil.safetensors"\nweight = 0.3\n'
    two.write_text(text + stated.format("oil"))
    recipe = load_recipe(str(two))
    assert [(lora.part or lora.path, lora.weight) for lora in recipe.loras] == [
        ("lcm-lora-sd15", 1.0),  # without it four steps of LCM are noise
        (tmp_path / "below" / "ink.safetensors", 0.6),
        (tmp_path / "oil.safetensors", 0.3),
    ]
    require_commercial(recipe)
    two.write_text('extends = "below/one.toml"\n[[loras]]\npart = "lcm-lora-sd15"\nweight = 0.8\n')
    assert [lora.weight for lora in load_recipe(str(two)).loras] == [0.6, 0.8]  # named again: it takes its place
    two.write_text('extends = "below/one.toml"\nloras = 3\n')
    with pytest.raises(SettingsError, match="loras must be a list of tables"):
        load_recipe(str(two))


def test_a_custom_style_works_with_every_public_recipe(config: Path) -> None:
    (config / "styles.toml").write_text('[noir]\ntitle = "Film noir"\nprompt = "film noir portrait, hard light"\n')
    recipe = load_recipe("sd15-plus-face")
    assert recipe.prompt_of(recipe.style("noir")) == "film noir portrait, hard light"
    with pytest.raises(SettingsError, match="recipe mini has no style 'noir'"):
        load_recipe("mini").style("noir")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[noir]\ntitle = "x"\n', r"\[noir\] lacks: prompt"),
        ('[noir]\ntitle = "x"\nprompt = "y"\nweight = "z"\n', "unknown key 'weight'"),
        ("[noir\n", "is not TOML"),
    ],
)
def test_a_style_that_does_not_fit_says_where(config: Path, text: str, says: str) -> None:
    (config / "styles.toml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_recipe("sd15-faceid")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('extends = "own.toml"\n', "extends must name another recipe"),
        ('extends = "sd15-faceid"\nscheduler = "Magic"\n', "scheduler 'Magic' is not one of"),
        ('extends = "sd15-faceid"\n[parts]\nimage_encoder = "clip-vit-h"\n', "must not name image_encoder"),
        ('extends = "sd15-faceid"\nadapter_kind = "plus-face"\nrecognizer = ""\n', "lacks image_encoder"),
        ('extends = "sd15-faceid"\n[parts]\nbrain = "sd15"\n', "unknown role 'brain'"),
        ('extends = "sd15-faceid"\n[[loras]]\nweight = 1.0\n', "has a weight and either part or file"),
        ('extends = "sd15-faceid"\ncontrol = "keypoints2"\n', "control 'keypoints2' is not one of"),
        ('extends = "sd15-faceid"\nmin_steps = "4"\n', "min_steps must be a whole number, got '4'"),
        ('extends = "sd15-faceid"\nresolution = inf\n', "resolution must be a whole number, got inf"),
        ('extends = "sd15-faceid"\nmemory = [5.0]\n', "GiB for the tiers full, offload and sequential; got"),
        ('extends = "sd15-faceid"\nmemory = [5.0, 3.5, -1]\n', "GiB for the tiers full, offload and sequential; got"),
        ('extends = "sd15-faceid"\nparts = 3\n', "parts must be a table"),
        ('extends = "sd15-faceid"\nbase = "."\n[parts]\nbase = "sd15"\n', "names its base twice"),
        ('extends = "sd15-faceid"\nlicenses = [3]\n', r"\[\[licenses\]\] 1 must be a table, got 3"),
        ('extends = "sd15-faceid"\n[[loras]]\nweight = nan\nfile = "x.safetensors"\n', "outside -4 to 4"),
        ("x = " + "[" * 5000, "is not TOML"),
    ],
)
def test_a_public_recipe_that_does_not_fit_says_where(tmp_path: Path, text: str, says: str) -> None:
    recipe_file = tmp_path / "own.toml"
    recipe_file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_recipe(str(recipe_file))


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    recipe_file = tmp_path / "own.toml"
    recipe_file.write_text('extends = "sd15-faceid"\n[parts]\nvae = "sd-vae-ft-mes"\n')
    with pytest.raises(WeightsError, match="did you mean sd-vae-ft-mse"):
        load_recipe(str(recipe_file))


# ---- another base, LoRAs


def test_another_base_replaces_the_licence_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    file.write_bytes(b"x")
    recipe = with_overrides(load_recipe("sd15-plus-face"), base=str(file))
    chain = {link.part: link.commercial for link in recipe.licenses}
    assert chain["style.safetensors"] == "unknown"
    assert "sd15" not in chain
    part = with_overrides(load_recipe("sd15-plus-face"), base="dreamshaper-8-single")
    assert "dreamshaper-8-single" in part.part_names
    assert not noncommercial_links(part)


@pytest.mark.parametrize(
    ("base", "loras", "says"),
    [
        ("nowhere.safetensors", [], "is neither a .safetensors file"),
        ("sd15", [], "--base sd15 is not one checkpoint"),
        ("", ["nowhere.safetensors:0.5"], "is not FILE.safetensors:WEIGHT"),
    ],
)
def test_a_base_or_lora_that_is_not_there_is_named(base: str, loras: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        with_overrides(load_recipe("sd15-faceid"), base, loras)


def test_mini_takes_no_other_base() -> None:
    with pytest.raises(SettingsError, match="recipe mini is one small model"):
        with_overrides(load_recipe("mini"), base="sd15-single")


def test_flags_and_files_set_the_new_settings(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('lora = "a.safetensors:0.5"\ncommercial = true\n')
    settings = settings_from({"base": "b.safetensors"}, file)
    assert settings.lora == ("a.safetensors:0.5",)
    assert settings.commercial is True
    assert settings.base == "b.safetensors"
    with pytest.raises(SettingsError, match="commercial must be bool, got 1"):
        settings_from({"commercial": 1})


# ---- the judges


def test_a_further_judge_is_called_like_its_part() -> None:
    assert all(name in JUDGES[name].parts for names in FURTHER_JUDGES.values() for name in names)


@pytest.mark.parametrize("tools", FACE_TOOLS)
def test_each_judge_is_one_entry_from_which_its_classes_and_licenses_follow(tools: str) -> None:
    first, *further = [JUDGES[name] for name in FACE_TOOLS[tools]]
    for judge, path in [(first, first.analyzer), *((judge, judge.recognizer) for judge in further)]:
        module, _, name = path.partition(":")
        loaded = getattr(importlib.import_module(module), name)
        assert loaded.name == judge.name
        assert judge.parts or loaded.licenses == judge.files  # those of parts are known once they were fetched


def test_a_second_detector_is_in_the_chain_and_in_doctor_once_it_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def parts() -> list[str]:
        return [link.part for link in license_chain(load_recipe("mini"))]

    assert SECOND_DETECTOR not in parts()
    assert any(
        "none; yunet comes with: portrait weights fetch judges" in line
        for line in doctor.in_lines(doctor.diagnose("cpu"))
    )
    part = find_part(SECOND_DETECTOR)
    whole = store.Status(part=part, here=len(part.files), bytes=part.size)
    monkeypatch.setattr(store, "status", lambda asked, status=store.status: whole if asked is part else status(asked))
    assert parts()[-1] == SECOND_DETECTOR
    assert any(line.endswith("no face is found: yunet") for line in doctor.in_lines(doctor.diagnose("cpu")))


# ---- faces without InsightFace


def test_the_notes_on_training_photos_are_printed_with_the_licenses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "licenses", "sd15-plus-face", "--commercial"]) == 0
    printed = capsys.readouterr().out
    assert "yunet: MIT; commercial use: yes (note: trained on WIDER FACE" in printed
    assert "sface: Apache-2.0; commercial use: yes (note: the publisher does not say which photos" in printed
    assert printed.count("(note: ") == len(TRAINING_NOTES) - (
        "auraface" not in printed
    )  # in the chain once it was fetched
    assert "InsightFace" not in printed


def test_an_uncalibrated_recipe_for_business_is_judged_by_sface_and_dlib_on_yunets_faces() -> None:
    recipe = load_recipe("sd15-plus-face")
    tools = tools_for(commercial=True)
    limits, note = resolve_thresholds(recipe, "oil", 0.01, judges=FACE_TOOLS[tools], detector=DETECTORS[tools])
    assert limits.identity == photo_thresholds("yunet").limits
    assert limits.identity.keys() == {"sface", "dlib"}
    assert limits.far == 0.001
    assert "not calibrated" in note
    assert resolve_thresholds(recipe, "oil", 0.01)[0].identity.keys() == {"arcface", "dlib"}


def test_thresholds_for_business_name_dlib_alone(tmp_path: Path) -> None:
    style = {"recognisers": {"dlib": {"thresholds": {"0.01": 0.9}}}, "style_on_face": {"limit": 0.2}}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"styles": {"oil": style}, "burned": {"limit": 0.05}}))
    recipe = load_recipe("sd15-plus-face")
    assert resolve_thresholds(recipe, "oil", 0.01, file, judges=("dlib",))[0].identity == {"dlib": 0.9}
    with pytest.raises(SettingsError, match="two are needed"):
        resolve_thresholds(recipe, "oil", 0.01, file)
    with pytest.raises(SettingsError, match="are for dlib, not for arcface"):
        resolve_thresholds(recipe, "oil", 0.01, file, judges=("arcface", "dlib"))
    assert thresholds_for("mini", "oil", 0.01, judges=("dlib",)).identity.keys() == {"dlib"}


@pytest.mark.slow
def test_compare_takes_provisional_thresholds_and_says_so(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(photos / "astronaut.png")
    assert main(["compare", photo, photo, "--recipe", "sd15-plus-face", "--style", "oil"]) == 0
    printed = capsys.readouterr().out
    assert "thresholds: sd15-plus-face / oil, false accept rate 0.001" in printed
    assert "this recipe is not calibrated" in printed


# ---- doctor


@dataclass
class Disk:
    free: int


def test_doctor_without_torch_says_so_and_that_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import portrait.generate

    importlib.import_module("portrait.generate.memory")
    monkeypatch.delitem(sys.modules, "portrait.generate.memory")
    monkeypatch.delattr(portrait.generate, "memory")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "torch" else "1")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "device: unknown\n" in printed
    assert "problem: torch is not installed; run: pip install torch" in printed
    assert main(["doctor", "--json"]) == 1
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert {entry["do"] for entry in recipes.values()} == {"torch not installed; run: pip install torch"}


def test_doctor_lets_nothing_run_that_lacks_a_package_a_face_model_or_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("portrait.generate.memory.free_memory", lambda device: 100.0)
    monkeypatch.setattr("shutil.disk_usage", lambda place: Disk(free=2**30))
    names = [file.name for file in face_files("insightface")]

    def found(name: str, package: str = "", faces: Sequence[str] = names) -> doctor.RecipeState:
        """The diagnosis of a recipe if one package is missing and only these face models are installed."""
        with monkeypatch.context() as patch:
            patch.setattr(doctor, "_version", lambda each: "" if each == package else "1")
            patch.setattr(doctor, "_faces", lambda: {n: "here" if n in faces else f"no {n}" for n in names})
            return doctor.diagnose("cpu").recipes[name]

    assert "GiB must be fetched, but only 1.0 GiB are free" in found("sdxl-plus-face").do
    whole = partial(store.Status, bytes=0)
    monkeypatch.setattr(store, "status", lambda part: whole(part=part, here=len(part.files)))
    assert all(found(name).runs for name in ("mini", "sd15-plus-face", "sd15-faceid"))
    assert found("mini", package="peft").do == "peft not installed; run: pip install peft"
    assert found("sd15-faceid", package="insightface").do == "insightface not installed; run: pip install insightface"
    assert found("sd15-faceid", faces=names[2:]).do == f"no {names[0]}"
    assert found("sd15-plus-face", package="insightface", faces=names[2:]).runs  # YuNet, SFace and dlib, for business
    assert not found("sd15-plus-face", faces=names[:3]).runs


def test_doctor_says_what_runs_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path / "insight"))
    monkeypatch.setattr("portrait.generate.memory.free_memory", lambda device: 20.0)
    monkeypatch.setattr("shutil.disk_usage", lambda place: Disk(free=100 * 2**30))
    assert main(["doctor", "--device", "cpu"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["sdxl-instantid"].endswith("this recipe needs about 29.0 GiB on cpu, but only 20.0 GiB are free")
    assert "portrait weights fetch sd15-faceid " in lines["sd15-faceid"]
    assert "mini is made for CPUs" in lines["No"]
    monkeypatch.setattr("portrait.generate.memory.free_memory", lambda device: 100.0)
    assert main(["doctor", "--json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["recipes"]["mini"]["runs"] is True
    public = printed["recipes"]["sdxl-instantid"]
    assert public["runs"] is False
    assert public["do"] == "portrait weights fetch sdxl-instantid"
    assert public["missing_bytes"] > 10 * 2**30
    assert set(public["memory_gib"]) == {"full", "offload", "sequential"}
    assert all(state == "here" for state in printed["faces"].values())
    assert main(["doctor", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "mini" in text
    assert "portrait weights fetch sd15-faceid" in text
