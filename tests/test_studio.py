"""The studio without a browser: sessions, the queue, jobs, what visitors may request, what is left behind."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from portrait.campaign.ledger import Ledger
from portrait.cli.main import build_parser, main
from portrait.cli.studio import credentials, is_loopback
from portrait.errors import (
    CampaignError,
    EvaluationError,
    FaceError,
    ImageReadError,
    InputError,
    NoFaceError,
    PortraitError,
    SettingsError,
    WeightsMissingError,
)
from portrait.files import write_bytes
from portrait.hub.files import verify_manifest
from portrait.hub.manifest import find_part
from portrait.images import PHOTO_SUFFIXES, Photo, encode_picture, pixels_sha256, write_picture
from portrait.judge.verdict import describe_reason
from portrait.loop.attempt_loop import VARIANT_STRIDE, AttemptLoop
from portrait.loop.types import StylizedPortrait
from portrait.recipes.load import load_recipe
from portrait.recipes.style import Style
from portrait.records import RgbImage
from portrait.records.portrait import Status, read_portrait
from portrait.records.reasons import Reason
from portrait.settings import Settings, flags_of, settings_from
from portrait.studio import controls, guard, page, scores, serve, strings, viewer
from portrait.studio import session_registry as registry
from portrait.studio.device_queue import DeviceQueue, QueueFullError
from portrait.studio.downloads import file_of, links
from portrait.studio.jobs import RenderJob
from portrait.studio.model_host import ModelHost
from portrait.studio.presets import preset_toml, read_preset
from portrait.studio.render import sample_of
from portrait.studio.reports import Reports
from portrait.studio.serve import private_folder
from portrait.studio.session import MAX_HISTORY, Form, Session
from portrait.studio.uploads import decoder, read_upload
from portrait.studio.web_settings import choices_for, installed_recipes, web_settings
from tests import public
from tests.campaigns import faces, person, write_campaign
from tests.fakes import SIZE, a_face, needs_sigstop, stop_answering
from tests.hub_server import serving as serving_hub
from tests.hub_server import use
from tests.studio import (
    STEPS,
    SteppingGenerator,
    a_photo,
    a_session,
    a_shop,
    ask,
    finished,
    requested,
    send,
    serving,
    tab,
    until,
)


@pytest.fixture
def gate() -> Iterator[threading.Semaphore]:
    """Each step waits for one release. After the test everything is let through, so that no thread is left behind."""
    gate = threading.Semaphore(0)
    yield gate
    gate.release(1000)


# --- the queue


def test_the_queue_serves_in_order_and_reports_each_position() -> None:
    queue = DeviceQueue()
    first, second, third = queue.join(), queue.join(), queue.join()
    assert [ticket.ahead for ticket in (first, second, third)] == [0, 1, 2]
    assert first.wait(0)
    assert not third.wait(0)
    with second:
        pass  # gives up
    assert third.ahead == 1
    with first:
        pass
    assert third.wait(0)


def test_a_queue_that_is_too_long_is_refused() -> None:
    queue = DeviceQueue(max_waiting=2)
    for _ in range(3):
        queue.join()
    with pytest.raises(QueueFullError, match="2 people are already waiting"):
        queue.join()


def test_who_is_patient_comes_after_all_others_and_counts_for_nobody() -> None:
    queue = DeviceQueue(max_waiting=1)
    patient = queue.join(patient=True)
    assert patient.wait(0)
    assert not patient.kept_waiting
    first, second = queue.join(), queue.join()
    also_patient = queue.join(patient=True)  # is not refused
    assert patient.kept_waiting
    assert (first.ahead, second.ahead) == (0, 1)
    with patient:
        pass  # gives way
    for ticket in (first, second, also_patient):
        assert ticket.wait(0)
        with ticket:
            pass


# --- jobs


def test_a_late_follower_of_a_job_gets_the_last_event(tmp_path: Path, gate: threading.Semaphore) -> None:
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    job = shop.start(a_photo(), requested(shop, max_attempts=1))
    first = job.events()
    gate.release()
    while next(first).step != 1:
        pass
    del first  # the page was loaded anew
    second = job.events()
    assert next(second).step == 1
    gate.release(10)
    assert [event.kind for event in second][-1] == "portrait"
    assert [event.kind for event in job.events()] == ["portrait"]
    assert job.is_over


def test_a_picture_is_kept_even_if_nobody_looks_and_errors_are_reported(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    settings: list[Settings] = []
    shop.start(a_photo(), requested(shop), on_portrait=lambda portrait, alone: settings.append(alone)).wait(20)
    assert [alone.seed for alone in settings] == [1]

    def full(portrait: StylizedPortrait, alone: Settings) -> None:
        raise InputError("no space left")

    *_, event = shop.start(a_photo(), requested(shop), on_portrait=full).events()
    assert (event.kind, event.sentence) == ("portrait", "no space left")
    assert event.portrait is not None


def previews_of(job: RenderJob) -> list[tuple[str, float]]:
    return [(event.style, event.balance) for event in job.events() if event.kind == "preview"]


def test_previews_are_small_and_come_in_order(tmp_path: Path) -> None:
    generator = SteppingGenerator()
    shop = a_shop(tmp_path, generator)
    wishes = [("oil", 0.5), ("comic", 0.5), ("oil", 1.0)]
    job = shop.start_previews(a_photo(), requested(shop), wishes)
    events = list(job.events())
    assert [(event.style, event.balance) for event in events] == wishes
    assert events[0].preview is not None
    assert max(events[0].preview.shape) <= 256
    assert len(generator.calls) == len(wishes)  # one attempt each
    assert {knobs.num_inference_steps for knobs, _ in generator.calls} == {1}  # of four


@pytest.mark.slow
def test_previews_give_way_to_a_portrait_within_a_step_and_continue_after_it(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    previews = shop.start_previews(a_photo(), requested(shop), [("comic", 0.5)])
    assert generator.started.wait(60)  # in its first step
    portrait = shop.start(a_photo(2), requested(shop, max_attempts=1))
    until(lambda: len(shop.queue) == 2)
    gate.release(1 + STEPS)  # the rest of that step, and all of the portrait
    assert [event.kind for event in portrait.events()][-1] == "portrait"
    assert not previews.is_over
    gate.release(STEPS)
    assert previews_of(previews) == [("comic", 0.5)]
    assert generator.finished == 2


def test_previews_are_cancelled_by_a_new_photo_and_keep_nothing(tmp_path: Path, gate: threading.Semaphore) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop, session = a_shop(tmp_path, generator), Session(tmp_path / "files")
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    wishes = session.missing_previews("mini", "bust", [("oil", 0.5)])
    job = session.begin_previews(lambda: shop.start_previews(a_photo(), requested(shop), wishes))
    assert generator.started.wait(60)
    assert session.keep_preview(job, ("mini", "oil", "bust", 0.5), "data:,")
    assert session.missing_previews("mini", "bust", wishes) == []
    session.open(a_photo(2), [a_face()], has_file=True, face=0)
    gate.release(10)
    assert [event.kind for event in job.events()] == ["cancelled"]
    assert not session.keep_preview(job, ("mini", "oil", "bust", 0.5), "data:,")
    assert session.previews == {}


def test_previews_of_somebody_who_left_leave_nothing_in_the_models(
    tmp_path: Path, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop, session = a_shop(tmp_path, generator), Session(tmp_path / "files")
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    job = session.begin_previews(lambda: shop.start_previews(a_photo(), requested(shop), [("oil", 0.5)]))
    assert generator.started.wait(60)
    cleared: list[bool] = []
    monkeypatch.setattr(shop.loop("mini"), "clear_cache", lambda: cleared.append(job.is_over))
    session.forget()
    gate.release(10)
    job.wait(20)
    assert cleared == [False]  # in the job's thread, after its last step


def test_previews_unload_no_models_of_others(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    shop._loaded = ("another", shop.loop("mini"))
    assert previews_of(shop.start_previews(a_photo(), requested(shop), [("oil", 0.5)])) == []
    assert shop.is_loaded("another")


def test_a_job_reports_every_step_and_preview_and_ends_in_a_portrait(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    events = list(shop.start(a_photo(), requested(shop, max_attempts=1)).events())
    assert events[0].kind == "loading"
    assert [e.step for e in events if e.kind == "step" and e.preview is None] == [1, 2, 3, 4]
    previews = [e.preview for e in events if e.preview is not None]
    assert [int(p[0, 0, 0]) for p in previews] == [1, 2, 3]  # the last step's is the picture itself
    assert events[-1].kind == "portrait"


def test_looking_at_the_picture_as_it_forms_does_not_change_it(mini: AttemptLoop, astronaut: Photo) -> None:
    subject, previews = mini.subjects(astronaut)[0], list[RgbImage]()
    settings = Settings(max_attempts=1)
    plain = mini.stylize(subject, "watercolor", settings)
    watched = mini.stylize(subject, "watercolor", settings, on_preview=previews.append)
    np.testing.assert_array_equal(plain.picture, watched.picture)
    assert len(previews) == 3  # of four steps
    off = [float(np.abs(picture.astype(int) - plain.picture).mean()) for picture in previews]
    assert off[-1] < off[0]  # it comes nearer


def test_cancel_ends_between_two_steps(tmp_path: Path, gate: threading.Semaphore) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    job = shop.start(a_photo(), requested(shop))
    gate.release()
    kinds = []
    for event in job.events():
        kinds.append(event.kind)
        if event.kind == "step":
            job.cancel()
            gate.release()
    assert kinds[-1] == "cancelled"
    assert generator.finished == 0
    assert shop.queue.join().ahead == 0  # the place is free again


@pytest.mark.slow
def test_the_second_visitor_waits_and_knows_their_place(tmp_path: Path, gate: threading.Semaphore) -> None:
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    first = shop.start(a_photo(), requested(shop, max_attempts=1))
    while not shop.is_loaded("mini"):
        time.sleep(0.01)
    second = shop.start(a_photo(2), requested(shop, max_attempts=1))
    events = second.events()
    waiting = next(events)
    assert (waiting.kind, waiting.position) == ("waiting", 2)
    for _ in range(2 * STEPS):
        gate.release()
    assert [e.kind for e in first.events()][-1] == "portrait"
    assert [e.kind for e in events][-1] == "portrait"


@pytest.mark.slow
def test_a_visitor_who_waits_can_leave_the_line(tmp_path: Path, gate: threading.Semaphore) -> None:
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    first = shop.start(a_photo(), requested(shop, max_attempts=1))
    while not shop.is_loaded("mini"):
        time.sleep(0.01)
    second = shop.start(a_photo(2), requested(shop))
    events = second.events()
    assert next(events).kind == "waiting"
    second.cancel()
    assert [e.kind for e in events] == ["cancelled"]
    for _ in range(STEPS):
        gate.release()
    assert [e.kind for e in first.events()][-1] == "portrait"


@pytest.mark.slow
def test_a_visitors_ending_request_does_not_count_as_another_in_the_queue(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    first = shop.start(a_photo(), requested(shop))
    assert generator.started.wait(60)
    first.cancel()  # and is in the middle of a step
    waiting = next(shop.start(a_photo(), requested(shop)).events())
    assert (waiting.kind, waiting.position) == ("waiting", 1)
    session = Session(tmp_path)
    assert strings.NEXT in viewer.working_html(session, waiting, 1, "", "")
    assert strings.IN_LINE[2] in viewer.working_html(session, replace(waiting, position=2), 1, "", "")
    assert "you are number 5 in line" in viewer.working_html(session, replace(waiting, position=5), 1, "", "")
    gate.release(10 * STEPS)


def test_variants_are_pictures_that_the_command_line_makes_one_by_one(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    portraits = finished(shop, requested(shop, variants=3, seed=7))
    assert [e.settings.seed for e in portraits if e.settings] == [7, 7 + VARIANT_STRIDE, 7 + 2 * VARIANT_STRIDE]
    for event in portraits:
        assert event.settings is not None
        (alone,) = finished(shop, event.settings)
        assert alone.portrait is not None
        assert event.portrait is not None
        np.testing.assert_array_equal(alone.portrait.picture, event.portrait.picture)


def test_an_error_is_the_sentence_of_the_command_line(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    nobody = Photo(pixels=RgbImage(np.full((SIZE, SIZE, 3), 255, np.uint8)), path=Path("cat.png"), sha256="0")
    (event,) = [e for e in shop.start(nobody, requested(shop)).events() if e.kind == "failed"]
    assert event.sentence.startswith("no face found in cat.png")


def test_a_bug_is_reported_and_does_not_block_the_queue(tmp_path: Path) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    shop = a_shop(tmp_path, SteppingGenerator(broken))
    assert "ZeroDivisionError" in [e.sentence for e in shop.start(a_photo(), requested(shop)).events()][-1]
    assert shop.queue.join().ahead == 0


def test_who_it_is_is_found_once(tmp_path: Path) -> None:
    shop, session = a_shop(tmp_path), Session(tmp_path / "files")
    photo = a_photo()
    session.open(photo, faces(photo.pixels), has_file=True, face=0)
    settings = requested(shop)
    list(shop.start(photo, settings, on_subject=lambda s: session.remember_subject("mini", 0, s)).events())
    subject = session.subject("mini", 0)
    assert subject is not None
    assert session.subject("other", 0) is None
    session.open(a_photo(2), [a_face()], has_file=True, face=0)
    assert session.subject("mini", 0) is None


# --- what visitors may ask for


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"keep": ["mask:/etc/passwd"]}, "mask:FILE, like:FILE and each are not available"),
        ({"face": "like:/etc/passwd"}, "mask:FILE, like:FILE and each are not available"),
        ({"face": "each"}, "mask:FILE, like:FILE and each are not available"),
        ({"thresholds": "/etc/passwd"}, "unknown setting 'thresholds'"),
        ({"lora": ["x.safetensors:1"]}, "unknown setting 'lora'"),
        ({"recipe": "/tmp/mine.toml"}, "no recipe '/tmp/mine.toml' here; installed: mini"),
        ({"style": "baroque"}, "baroque"),
        ({"balance": 2.0}, "balance 2.0 is outside 0 to 1"),
        ({"balence": 0.5}, "did you mean balance"),
    ],
)
def test_a_visitor_may_not_name_files_or_nonsense(tmp_path: Path, wish: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        requested(a_shop(tmp_path), **wish)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"background": "/etc/passwd.png"}, "is a file, which the studio does not read"),
        ({"background": "picture"}, strings.NEED_BACKDROP),
        ({"background": "#12"}, "is not #rrggbb"),
        ({"size": 2048}, "2048 exceeds the studio's limit for one visitor"),
        ({"size": 500}, "recipe mini draws at"),
        ({"palette": "mud"}, "no palette 'mud'"),
    ],
)
def test_background_size_and_palette_are_checked_before_anything_is_made(
    tmp_path: Path, wish: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        requested(a_shop(tmp_path), **wish)


def test_only_what_the_recipe_knows_is_to_choose_from() -> None:
    style = Style(name="oil", title="Oil", prompt="oil", palettes=("warm", "cold"))
    recipe = replace(load_recipe("mini"), sizes=(512, 768, 1024))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portrait.recipes.recipe.styles", lambda: {"oil": style})
        knows = choices_for(recipe, "oil")
        assert (knows.sizes, knows.palettes) == ((512, 768, 1024), ("warm", "cold"))
        assert not {"prompt", "negative_prompt"} & set(knows.advanced)
        rich = choices_for(replace(recipe, prompts="rich"), "oil")
    assert rich.palettes == ()
    assert {"prompt", "negative_prompt", "strength"} <= set(rich.advanced)


# --- presets


LOOKS = [
    Settings(style=("oil",)),
    Settings(
        style=("comic",), balance=0.3, seed=7, background="gradient:#ffe0b0,#7090c0", until="best", shift="-0.1,0"
    ),
    Settings(style=("oil",), keep=("pose", "colors"), strength=0.0, negative_prompt='a "quoted" \\ \n \x7f \u5f71'),
]


@pytest.mark.parametrize("look", LOOKS)
def test_a_preset_is_what_page_and_command_line_read(tmp_path: Path, look: Settings) -> None:
    text = preset_toml(look)
    assert read_preset(text, Settings()) == look
    (tmp_path / "look.toml").write_text(text)
    assert settings_from({}, tmp_path / "look.toml") == look


def test_a_preset_leaves_out_what_belongs_to_one_photo_and_says_so(tmp_path: Path) -> None:
    regions = preset_toml(Settings(style=("oil",), face="2", keep=("pose", "region:1,2,3,4")))
    assert read_preset(regions, Settings()) == Settings(style=("oil",), keep=("pose",))
    assert "# left out: region:1,2,3,4\n" in regions
    backdrop = preset_toml(Settings(style=("oil",), background=str(tmp_path / "beach.png")))
    assert read_preset(backdrop, Settings()) == Settings(style=("oil",))
    assert "# left out: the background beach.png\n" in backdrop
    assert str(tmp_path) not in backdrop


def test_the_record_of_a_picture_is_a_look_for_other_photos(tmp_path: Path) -> None:
    keep = ["pose", "region:1,2,3,4"]
    (entry,) = a_session(tmp_path, a_shop(tmp_path), balance=0.3, keep=keep, variants=1).history
    look = read_preset(entry.portrait.record.to_json(), Settings(device="cpu"))
    assert look == Settings(style=("oil",), balance=0.3, keep=("pose",), device="cpu")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("style = ", "the preset is not TOML"),
        ("{}", "the preset is not a record"),
        ("stile = 'oil'", "the preset: unknown setting 'stile'; did you mean style"),
        ("style = ['oil', 'comic']", "a studio makes one style at a time"),
        ("thresholds = '/etc/passwd'", "unknown setting 'thresholds'"),
        ("balance = true", "balance must be float"),
        ("style = 'oil'\nbackground = '/etc/passwd.png'", "is a file"),
    ],
)
def test_a_preset_that_does_not_fit_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_preset(text, Settings())


# --- more photos of one person


def test_a_further_photo_must_show_the_same_person(tmp_path: Path) -> None:
    def in_color(red: int, blue: int, name: str) -> Photo:  # who somebody is to the fake judge is how red they are
        pixels = RgbImage(np.full((SIZE, SIZE, 3), (red, 0, blue), np.uint8))
        return Photo(pixels=pixels, path=Path(name), sha256=pixels_sha256(pixels))

    shop, anna = a_shop(tmp_path), in_color(0, 60, "anna.png")
    shop.check_reference(anna, a_face(), in_color(40, 60, "anna2.png"))
    with pytest.raises(FaceError, match=r"no face in ben.png matches the reference"):
        shop.check_reference(anna, a_face(), in_color(255, 60, "ben.png"))
    with pytest.raises(NoFaceError, match=r"in cat.png"):
        shop.check_reference(anna, a_face(), in_color(0, 255, "cat.png"))


def test_further_photos_are_in_record_and_command_and_go_with_the_person(tmp_path: Path) -> None:
    shop, session = a_shop(tmp_path), Session(tmp_path / "files")
    session.open(a_photo(), [a_face(), a_face()], has_file=True, face=0)
    session.add_reference(a_photo(1, "-anna2.png"))
    photo = session.photo
    assert photo is not None
    job = shop.start(
        photo,
        requested(shop, max_attempts=1),
        references=session.references,
        on_subject=lambda subject: session.remember_subject("mini", 0, subject),
    )
    *_, event = job.events()
    assert event.portrait is not None
    assert session.subject("mini", 0) is not None
    entry = session.add(event.portrait, requested(shop), person(1), photo, has_file=True)
    assert shlex.split(entry.command())[2:5] == ["anna.png", "--reference", "./-anna2.png"]
    assert [file.path for file in entry.portrait.record.input.references] == ["-anna2.png"]
    with pytest.raises(SettingsError, match="At most 4 more photos"):
        for n in range(4):
            session.add_reference(a_photo(1, f"anna{n}.png"))
    session.drop_reference(0)
    assert session.subject("mini", 0) is None  # who it is was found with that photo
    session.add_reference(a_photo(1, "anna2.png"))
    session.choose(1)
    assert session.references == ()


@pytest.fixture
def public_recipe(tmp_path: Path) -> Iterator[str]:
    """A user's recipe: `sd15-faceid-fast` made small; its tiny random models are on a hub on loopback."""
    parts = [find_part(part) for part in load_recipe("sd15-faceid-fast").part_names]
    with pytest.MonkeyPatch.context() as patch, serving_hub() as hub:
        hub.files, hub.archives, manifest = public.shelf(parts)
        (tmp_path / "manifest.toml").write_text(manifest)
        use(patch, hub, tmp_path)
        patch.setenv("PORTRAIT_CONFIG", str(tmp_path / "config"))
        recipe_file = tmp_path / "config" / "recipes" / "small.toml"
        recipe_file.parent.mkdir(parents=True)
        recipe_file.write_text('extends = "sd15-faceid-fast"\nname = "small"\nresolution = 128\n')
        yield "small"


@pytest.mark.slow
def test_a_public_recipe_is_listed_when_it_is_installed_and_says_how_to_when_not(
    public_recipe: str, astronaut: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = ModelHost(Settings(device="cpu", memory="full", threads=1))
    for name in (public_recipe, "sd15-faceid-fast"):
        assert name not in installed_recipes()
        with pytest.raises(WeightsMissingError, match=f"run: portrait weights fetch {name}$"):
            requested(shop, recipe=name)
        assert main(["studio", "--recipe", name]) == 1
        assert f"run: portrait weights fetch {name}" in capsys.readouterr().err
    assert main(["weights", "fetch", public_recipe, "--quiet"]) == 0
    assert {"mini", public_recipe, "sd15-faceid-fast"} <= set(installed_recipes())
    chosen = load_recipe(public_recipe)
    html = controls.controls_html(chosen, controls.first_form(chosen, Settings()), installed_recipes())
    assert strings.NO_SAMPLE in html
    assert f'<option value="{public_recipe}" selected>' in html

    session = Session(tmp_path / "files")
    session.open(astronaut, shop.detect_faces(astronaut)[0], has_file=True, face=0)
    events = list(shop.start(astronaut, requested(shop, recipe=public_recipe, max_attempts=1)).events())
    assert [event.kind for event in events if event.kind != "step"][-1] == "portrait", events[-1].sentence
    portrait, settings = events[-1].portrait, events[-1].settings
    assert portrait is not None
    assert settings is not None
    assert portrait.picture.shape == (128, 128, 3)
    session.add(portrait, settings, portrait.picture, astronaut, has_file=True)
    html = viewer.result_html(session, load_recipe("mini"))
    assert portrait.record.status == "rejected"  # random weights keep nobody's likeness
    assert all(describe_reason(reason) in unescape(html) for reason in portrait.record.reasons)
    assert portrait.record.provisional_thresholds in unescape(html)
    assert f"--recipe {public_recipe}" in html


def test_a_photo_of_a_hundred_megapixels_gets_a_sentence(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(ImageReadError, match="huge.png has 10000 x 10000 pixels: more than the limit of 64 million"):
        read_upload((tmp_path / "huge.png").read_bytes(), "huge.png")
    with pytest.raises(ImageReadError, match="is empty"):
        read_upload(b"", "empty.png")


# --- sessions


def test_undo_goes_back_and_the_history_stays(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path), 3)
    assert session.current == 3
    assert [session.undo().number, session.undo().number] == [2, 1]  # type: ignore[union-attr]
    assert not session.can_undo
    assert session.undo() is None
    assert len(session.history) == 3
    session.compare(3)
    assert session.compared == 3
    session.compare(1)  # the one that is shown
    assert session.compared is None


def test_undo_takes_back_what_was_shown_starred_and_deleted(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path), 3)
    session.star(2, True)
    session.show(2)
    next_shown = session.delete(2)
    assert next_shown is not None
    assert (next_shown.number, [entry.number for entry in session.history]) == (3, [1, 3])
    undone = session.undo()
    assert undone is not None
    assert (undone.number, undone.is_starred) == (2, True)
    assert [entry.number for entry in session.history] == [1, 2, 3]
    assert session.undo().number == 3  # type: ignore[union-attr]  # it was shown
    session.undo()  # the star
    assert not session.history[1].is_starred


def test_the_last_picture_can_be_deleted_and_comes_back(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    assert session.delete(1) is None
    assert session.current is None
    assert session.undo().number == 1  # type: ignore[union-attr]


def test_a_full_history_keeps_what_has_a_star_and_counts_what_it_lost(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    (entry,) = session.history
    session.star(1, True)
    for _ in range(MAX_HISTORY + 1):
        session.add(entry.portrait, entry.settings, entry.thumbnail, a_photo(), has_file=True)
    assert [one.number for one in session.history[:2]] == [1, 4]
    assert session.dropped == 2


def test_forget_lets_go_of_everything(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    session.take_backdrop(encode_picture(person(1), "png"), "beach.png")
    assert session.folder.exists()
    session.forget()
    assert not session.folder.exists()
    assert (session.photo, session.faces, session.history, session._subjects) == (None, [], [], {})


def test_no_two_files_of_a_tab_have_the_same_name_even_after_it_started_over(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    (first,) = session.history
    session.forget()
    second = session.add(first.portrait, first.settings, first.thumbnail, a_photo(name=first.photo), has_file=True)
    assert links(session, first).picture.name != links(session, second).picture.name


def test_the_oldest_pictures_go_first(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    (entry,) = session.history
    for _ in range(MAX_HISTORY + 3):
        session.add(entry.portrait, entry.settings, entry.thumbnail, a_photo(), has_file=True)
    assert len(session.history) == MAX_HISTORY
    assert session.history[-1].number == MAX_HISTORY + 4


def test_the_models_forget_the_last_photo(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    list(shop.start(a_photo(), requested(shop, keep=["background"]), on_subject=lambda subject: None).events())
    loop = shop.loop("mini")
    assert len(loop._kept) == 1
    shop.clear_cache()
    assert len(loop._kept) == 0


# --- the command


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(style=("oil",), balance=0.1, seed=2001, keep=("pose", "region:1,2,30,40"), frame="full", face="3"),
        Settings(strength=0.0, prompt="-a 'quoted' prompt", commercial=True, max_seconds=1e-7),
        Settings(shift="-0.1,0.05"),
        Settings(style=("a", "b"), lora=("x y.safetensors:0.5",), num_inference_steps=7),
    ],
)
def test_the_flags_of_settings_read_as_the_same_settings(settings: Settings) -> None:
    args = build_parser().parse_args(["stylize", "anna.jpg", *shlex.split(shlex.join(flags_of(settings)))])
    assert settings_from(vars(args)) == settings


def test_the_command_names_photo_style_and_what_is_not_default(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path), name="anna's photo.png", balance=0.3)
    command = session.history[0].command()
    assert shlex.split(command)[:3] == ["portrait", "stylize", "anna's photo.png"]
    assert "--style oil --balance 0.3" in command
    assert "--far" not in command


# --- the page


def test_a_name_with_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path), name="<img src=x onerror=alert(1)>${2}{{3}}.png")
    html = viewer.result_html(session, load_recipe("mini"))
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html
    assert "&lt;b&gt;" in page.alert("<b>")


def test_the_verdict_has_words_numbers_thresholds_and_reasons(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    record = session.history[0].portrait.record
    html = viewer.result_html(session, load_recipe("mini"))
    attempt = record.chosen_attempt
    for judge, value in attempt.similarity.items():
        assert f"{value:.2f}, needs {record.thresholds[judge].value:.2f}" in html
    burned = f"{attempt.burned:.1%}, at most {record.limits.burned:.1%}"
    assert f"{strings.BURNED}<span>{burned}</span>" in html
    assert strings.BURNED_WORDS[True] in html
    assert strings.DISTANCE_WORDS[True] not in html  # this calibration has no statistics of styles
    rejected = record.model_copy(update={"status": Status.REJECTED, "reasons": (Reason("identity_low:dlib"),)})
    portrait = StylizedPortrait(picture=person(1), before=person(1), record=rejected, embeddings={})
    session.history[0] = replace(session.history[0], portrait=portrait)
    assert strings.UNLIKE in viewer.result_html(session, load_recipe("mini"))


def test_unused_parts_of_a_text_are_named_below_the_picture(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    portrait = session.history[0].portrait
    record = portrait.record.model_copy(update={"warnings": ("the prompt's end is not used: <tiger>",)})
    session.history[0] = replace(session.history[0], portrait=replace(portrait, record=record))
    html, _, panel = viewer.result_html(session, load_recipe("mini")).partition('class="panel"')
    for part in (html, panel):
        assert "the prompt&#39;s end is not used: &lt;tiger&gt;" in part


def test_what_burned_or_missed_the_style_is_shown_with_its_limit(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path), keep=["pose", "background"])
    record = json.loads(session.history[0].portrait.record.to_json())
    chosen = record["attempts"][record["chosen"]]
    record["limits"] |= {"style_distance": 1.5, "burned": 0.02}
    chosen |= {"style_distance": 2.25, "burned": 0.034, "reasons": ["broken_keep:pose"]}
    chosen["kept"] |= {"pose": 0.25}
    changed = read_portrait(json.dumps(record))
    portrait = StylizedPortrait(picture=person(1), before=person(1), record=changed, embeddings={})
    session.history[0] = replace(session.history[0], portrait=portrait)
    html = viewer.result_html(session, load_recipe("mini"))
    for label, numbers, words in (
        ("Oil painting", "2.25, at most 1.50", strings.DISTANCE_WORDS[False]),
        (strings.BURNED, "3.4%, at most 2.0%", strings.BURNED_WORDS[False]),
        ("Keep pose", "0.25, at most 0.1", strings.BROKEN),
        ("Keep background", "100, needs 100", strings.KEPT),
    ):
        tone = "good" if words == strings.KEPT else "bad"
        assert f'<dt>{label}<span>{numbers}</span></dt><dd><b class="{tone}">{words}</b>' in html


def test_the_style_judges_scores_and_changes_of_the_person_are_shown_with_limits(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    record = json.loads(session.history[0].portrait.record.to_json())
    chosen = record["attempts"][record["chosen"]]
    record["limits"] |= {"style_probability": 0.4, "changed": {"skin": 6.5, "expression": 0.05}}
    chosen |= {"style_probability": 0.125, "changed": {"skin": -14.26, "expression": 0.01}}
    portrait = StylizedPortrait(
        picture=person(1), before=person(1), record=read_portrait(json.dumps(record)), embeddings={}
    )
    session.history[0] = replace(session.history[0], portrait=portrait)
    html = viewer.result_html(session, load_recipe("mini"))
    for label, numbers, words, tone in (
        ("Oil painting", "0.12, needs 0.40", strings.DISTANCE_WORDS[False], "bad"),
        ("Lightness of the skin", "14.3, at most 6.5", strings.CHANGED_WORDS[False], "bad"),
        ("Mouth", "0.01, at most 0.05", strings.CHANGED_WORDS[True], "good"),
    ):
        assert f'<dt>{label}<span>{numbers}</span></dt><dd><b class="{tone}">{words}</b>' in html


def test_likeness_in_words_follows_the_threshold() -> None:
    words = [scores.likeness(margin) for margin in (0.2, 0.01, -0.01, -0.5)]
    assert words == ["clearly the same person", "the same person", "not quite the person", "not this person"]


def test_every_style_of_mini_has_a_sample_and_another_recipe_says_that_it_has_none() -> None:
    recipe = load_recipe("mini")
    assert all(sample_of("mini", style) for style in recipe.styles)
    made_with = json.loads((Path(page.__file__).parent / "samples" / "mini" / "weights.json").read_text())
    assert made_with == verify_manifest(recipe.base)  # else run eval/style_samples.py
    for name, has_sample in (("mini", True), ("sd15-faceid", False)):
        chosen = load_recipe(name)
        wishes = controls.first_form(chosen, Settings()).model_copy(update={"style": "oil"})
        html = controls.controls_html(chosen, wishes, ["mini"])
        assert (strings.NO_SAMPLE not in html) == has_sample
        assert re.search(r'value="oil"[^>]* checked>', html)


def test_who_is_not_known_has_to_be_clicked(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.open(a_photo(), [a_face(), a_face(), a_face()], has_file=True, face=None)
    html = viewer.result_html(session, load_recipe("mini"))
    assert strings.CHOOSE_FACE in html
    assert html.count('aria-pressed="false" aria-label="Face') == 3
    session.choose(1)
    assert 'aria-pressed="true" aria-label="Face 1, one of 3"' in page.photo_html(session)
    session.choose(9)
    assert session.face == 1


def test_the_zip_has_the_picture_every_size_and_the_record(tmp_path: Path) -> None:
    session = a_session(tmp_path, a_shop(tmp_path))
    (entry,) = session.history
    files = links(session, entry)
    assert files.picture.href == f"studio/{session.key}/1/anna-oil-1.png"
    data = file_of(entry, files.archive.name)
    assert data is not None
    names = set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    assert names == {"anna-oil-1.png", "anna-oil-1.json", *(link.name for link in files.sizes)}
    assert {"anna-oil-1-avatar-400.jpg", "anna-oil-1-round-1024.png", "anna-oil-1-story.jpg"} <= names
    (avatar,) = [link for link in files.sizes if link.size == "avatar-400"]
    assert (avatar.width, avatar.is_enlarged) == (400, True)  # of 96 px
    assert file_of(entry, "anna-oil-2.png") is None


def test_what_is_cut_out_of_a_transparent_picture_is_transparent(tmp_path: Path) -> None:
    from PIL import Image

    session = a_session(tmp_path, a_shop(tmp_path))
    (entry,) = session.history
    picture = entry.portrait.picture
    cutout = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    cutout[:, : SIZE // 2, 3] = 0
    entry = replace(entry, portrait=replace(entry.portrait, cutout=cutout))
    names = {link.size: link.name for link in links(session, entry).sizes}
    for size in ("avatar-400", "round-400", "wide"):
        assert names[size].endswith(".png")
        data = file_of(entry, names[size])
        assert data is not None
        alpha = np.asarray(Image.open(io.BytesIO(data)))[..., 3]
        height, width = alpha.shape
        assert alpha[height // 2, width // 4] == 0
        assert alpha[height // 2, width * 5 // 8] == 255


def test_a_custom_background_leaves_its_name_in_record_and_command_and_no_path(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    session = a_session(tmp_path, shop)
    session.take_backdrop(encode_picture(person(2), "png"), "beach.png")
    settings = web_settings(shop.settings, {"style": "oil", "background": "picture"}, session.backdrop)
    assert settings.background == str(session.backdrop)
    (event,) = finished(shop, settings)
    assert event.portrait is not None
    entry = session.add(event.portrait, settings, person(1), a_photo(), has_file=True)
    assert "--background beach.png" in entry.command()
    assert str(tmp_path / "files") not in entry.portrait.record.to_json() + entry.command()
    assert entry.portrait.record.background.value == "beach.png"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["../beach.png", "beach?.png", "b" * 400 + ".png"])
def test_a_background_whose_name_is_no_name_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    session = Session(tmp_path / "files")
    with pytest.raises(InputError, match="cannot be the name of a file"):
        session.take_backdrop(encode_picture(person(2), "png"), name)
    with pytest.raises(ImageReadError):
        session.take_backdrop(b"no picture", "beach.png")
    assert not session.folder.exists()


def test_the_file_dialog_offers_every_kind_of_photo_that_is_read() -> None:
    (accepted,) = re.findall('data-file="photo".* accept="(.*?)"', page.photo_html(None))
    assert {"image/*", *PHOTO_SUFFIXES} == set(accepted.split(","))


def test_faces_are_cut_out_with_room_and_the_frame_is_shown_on_the_photo(tmp_path: Path) -> None:
    session = Session(tmp_path / "files")
    photo = a_photo()
    session.open(photo, [a_face(), a_face()], has_file=True, face=None)
    assert session.face_crop(1).shape == (160, 160, 3)
    assert session.square("head") is None
    assert list(session.advice) == []
    session.choose(1)
    head, bust = session.square("head"), session.square("bust")
    assert head is not None
    assert bust is not None
    assert head.side < bust.side
    assert head.left + head.side <= SIZE
    assert any("hard to keep" in note for note in session.advice)  # the fake's face is small
    with pytest.raises(InputError, match="no face 7"):
        session.face_crop(7)


# --- reports


@pytest.mark.slow
def test_the_viewer_opens_runs_below_its_folder_and_nothing_else(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path / "plan", people=3)
    run: list[str | Path] = ["campaign", "run", plan, "-o", tmp_path / "runs" / "june", "--quiet"]
    subprocess.run([sys.executable, "-m", "tests.campaigns", "0", *run], check=True)
    reports = Reports(tmp_path / "runs")
    assert reports.names() == ["june"]
    assert "<html" in reports.page("june")
    assert "<html" in reports.page("june", "june")
    for name in ("../plan", "/etc", "july"):
        with pytest.raises(CampaignError, match="no run"):
            reports.page(name)
    html = page.report_html('<p class="x">"quoted"</p>', "june")
    assert "&quot;quoted&quot;" in html
    assert 'sandbox="allow-scripts"' in html


def test_the_page_of_a_run_that_continued_is_made_again(tmp_path: Path) -> None:
    """Even while its newest rows are only in the log beside the ledger."""
    file, page = tmp_path / "june" / "ledger.sqlite", tmp_path / "june" / "report" / "index.html"
    with Ledger.create(file.parent) as ledger:
        ledger.set(name="june")
        write_bytes(page, b"the page of before")
        for path, seconds in ((file, 1), (page, 2), (file.with_name("ledger.sqlite-wal"), 1)):
            os.utime(path, (seconds, seconds))
        assert Reports(tmp_path).page("june") == "the page of before"
        ledger.set(name="July")
        with pytest.raises(EvaluationError, match="nothing was made yet"):
            Reports(tmp_path).page("june")


def test_the_reports_tab_is_there_where_there_are_runs(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
    from portrait.studio.reports_tab import ReportsTab

    tab = ReportsTab(Reports(tmp_path))
    assert not tab._on_load()[0]["visible"]
    (tmp_path / "june").mkdir()
    (tmp_path / "june" / "ledger.sqlite").touch()
    assert tab._on_load()[0]["visible"]


# --- the command line


def test_other_computers_need_a_password(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTRAIT_STUDIO_AUTH", raising=False)
    assert main(["studio", "--host", "0.0.0.0"]) == 2
    assert "--auth NAME:PASSWORD" in capsys.readouterr().err
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.5", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert credentials("anna:se:cret") == ("anna", "se:cret")
    assert credentials("") is None
    with pytest.raises(SettingsError, match="NAME:PASSWORD"):
        credentials("anna")


def test_without_gradio_the_message_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import portrait.cli.studio

    monkeypatch.setattr(portrait.cli.studio, "find_spec", lambda name: None)
    assert main(["studio"]) == 2
    assert "pip install 'portrait-stylizer[studio]'" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_killed_studio_left_behind_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from portrait.studio.serve import private_folder as p\nwith p() as f: print(f, flush=True); input()"
    lives, ends = (
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    live, left = (Path(process.stdout.readline().strip()) for process in (lives, ends) if process.stdout)
    (left / "anna.png").write_bytes(b"a photo")
    ends.kill()
    ends.wait()
    monkeypatch.setattr(os, "kill", None)  # on Windows it ends a process, whatever the signal
    with private_folder() as folder:
        assert (left.exists(), live.exists(), folder.exists()) == (False, True, True)
        assert oct(folder.stat().st_mode)[-3:] == "700"
        assert tempfile.gettempdir() == str(folder)
    assert not folder.exists()
    assert tempfile.gettempdir() == str(tmp_path)
    lives.communicate("\n")
    assert not live.exists()


def test_folders_without_a_lock_are_deleted_only_if_old_and_owned_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    names = ("portrait-studio-anew_000", "portrait-studio-left_000", "portrait-studio-of-mine", "photos")
    new, old, mine, photos = (tmp_path / name for name in names)
    link = tmp_path / "portrait-studio-link_000"
    for folder in (new, old, mine, photos):
        folder.mkdir(0o700)
        (folder / "anna.png").write_bytes(b"a photo")
    for folder in (old, mine, photos):
        os.utime(folder, (1, 1))
    link.symlink_to(photos)
    with private_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert [f.exists() for f in (new, old, mine)] == [True, False, True]
        assert [path.name for path in photos.iterdir()] == ["anna.png"]
    assert os.environ["GRADIO_TEMP_DIR"] == "/elsewhere"


# --- HTTP


def caller(url: str, tmp_path: Path) -> Any:
    """Gradio's client, with patience for a busy machine."""
    from gradio_client import Client

    return Client(url, verbose=False, download_files=str(tmp_path / "got"), httpx_kwargs={"timeout": 120})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    with serving(tmp_path, a_shop(tmp_path)) as (url, folder, _):
        yield url, folder


def texts(job: Any) -> list[str]:
    """The second output of each message of a call."""
    return [text for _, text in job.outputs()]


@pytest.mark.slow
def test_python_and_http_make_the_same_picture_as_the_loop(served: Any, tmp_path: Path) -> None:
    from gradio_client import handle_file
    from PIL import Image

    url, folder = served
    write_picture(tmp_path / "anna.png", person(1))
    write_picture(tmp_path / "anna2.png", person(1))
    client = caller(url, tmp_path)
    assert client.predict(api_name="/recipes")["mini"] == list(load_recipe("mini").styles)
    (face,) = client.predict(handle_file(str(tmp_path / "anna.png")), api_name="/faces")
    assert face["index"] == 0
    file, text = client.predict(
        handle_file(str(tmp_path / "anna.png")),
        style="oil",
        balance=0.3,
        references=[handle_file(str(tmp_path / "anna2.png"))],
        settings={"max_attempts": 1},
        api_name="/stylize",
    )
    shop = a_shop(tmp_path)
    (event,) = finished(shop, requested(shop, balance=0.3, max_attempts=1))
    assert event.portrait is not None
    np.testing.assert_array_equal(np.asarray(Image.open(file)), event.portrait.picture)
    record = json.loads(text)
    assert record["style"] == "oil"
    assert record["input"]["path"] == "anna.png"
    assert [one["path"] for one in record["input"]["references"]] == ["anna2.png"]
    assert not [path for path in folder.rglob("anna*.png") if path.name in ("anna.png", "anna2.png")]  # the uploads
    with pytest.raises(Exception, match="did you mean balance"):
        client.predict(handle_file(str(tmp_path / "anna.png")), settings={"balence": 1}, api_name="/stylize")
    public = {name for name in client.view_api(return_format="dict", print_info=False)["named_endpoints"]}
    assert public == {"/stylize", "/faces", "/recipes"}


@pytest.mark.slow
@pytest.mark.parametrize("waits", [False, True])
def test_a_caller_who_cancels_stops_the_work_and_leaves_the_line(
    tmp_path: Path, gate: threading.Semaphore, waits: bool
) -> None:
    from gradio_client import handle_file

    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    write_picture(tmp_path / "anna.png", person(1))
    with serving(tmp_path, shop) as (url, _, _blocks), ExitStack() as before:
        if waits:
            before.enter_context(shop.queue.join())
        client = caller(url, tmp_path)
        job = client.submit(handle_file(str(tmp_path / "anna.png")), style="oil", api_name="/stylize")
        if not waits:
            gate.release()
        expected = ("waiting", "place", 2) if waits else ("step", "step", 1)
        until(
            lambda: (
                expected
                in [
                    (message["status"], expected[1], message.get(expected[1]))
                    for message in map(json.loads, texts(job))
                ]
            )
        )
        job.cancel()
        gate.release()
        until(lambda: len(shop.queue) == (1 if waits else 0))
        assert generator.finished == 0
        before.close()
        for _ in range(STEPS):
            gate.release()
        after = caller(url, tmp_path).predict(
            handle_file(str(tmp_path / "anna.png")), style="oil", settings={"max_attempts": 1}, api_name="/stylize"
        )
        assert Path(after[0]).suffix == ".png"


@pytest.mark.slow
def test_a_caller_whose_connection_breaks_stops_the_work(
    tmp_path: Path, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop, begun = a_shop(tmp_path, generator), []
    start = shop.start

    def remember(*args: Any, **kwargs: Any) -> Any:
        begun.append(start(*args, **kwargs))
        return begun[-1]

    monkeypatch.setattr(shop, "start", remember)
    with serving(tmp_path, shop) as (url, _, _blocks):
        path = send(url, write_picture(tmp_path / "anna.png", person(1)).read_bytes())
        photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = json.dumps({"data": [photo, "oil", 0.5, 1, "auto", "bust", [], {}, []]}).encode()
        event = json.loads(ask(url, "call/stylize", body).read())["event_id"]
        listening = ask(url, f"call/stylize/{event}")
        gate.release()
        while b'\\"step\\": 1' not in (line := listening.readline()):
            assert line
        listening.close()
        until(lambda: begun[0].cancelled)
        gate.release()
        until(lambda: len(shop.queue) == 0)
        assert generator.finished == 0


@pytest.mark.slow
def test_two_visitors_with_the_same_photo_share_no_file(served: Any, tmp_path: Path) -> None:
    url, _ = served
    data = write_picture(tmp_path / "anna.png", person(1)).read_bytes()
    first, second = send(url, data), send(url, data)
    assert first != second
    Path(first).unlink()  # what reading it does
    assert Path(second).read_bytes() == data


@pytest.mark.slow
def test_of_a_call_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio_client import handle_file

    monkeypatch.setattr(serve, "SWEEP_SECONDS", 0.1)
    shop = a_shop(tmp_path)
    write_picture(tmp_path / "anna.png", person(1))
    with serving(tmp_path, shop) as (url, folder, blocks):
        client = caller(url, tmp_path)
        file, _ = client.predict(
            handle_file(str(tmp_path / "anna.png")), style="oil", keep=["background"], api_name="/stylize"
        )
        until(lambda: len(shop.loop("mini")._kept) == 0)
        assert Path(file).is_file()
        assert list(folder.rglob("*.png"))  # it may be fetched again for a while
        send(url, b"an upload that nobody used")
        assert client.session_hash in blocks.state_holder.session_data
        monkeypatch.setattr(registry, "ORPHAN_SECONDS", 0.0)
        until(lambda: not [name for _, _, names in os.walk(folder) for name in names if name != ".lock"])
        until(lambda: client.session_hash not in blocks.state_holder.session_data)


def test_who_was_idle_for_long_or_left_is_forgotten_by_everything(tmp_path: Path, gate: threading.Semaphore) -> None:
    from gradio.state_holder import StateHolder

    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    here = registry.Sessions(tmp_path / "files", Form(style="oil"), shop.clear_cache)
    here.states = StateHolder()
    sessions = {}
    for name in ("idle", "left", "busy", "here"):
        session = sessions[name] = here.get(SimpleNamespace(session_hash=name))  # type: ignore[arg-type]
        session.open(a_photo(), [a_face()], has_file=True, face=0)
        session._subjects = {("mini", 0): object()}  # type: ignore[dict-item]
        session.folder.mkdir(parents=True)
        here.states.session_data[name] = object()
    job = shop.start(a_photo(), requested(shop))
    assert generator.started.wait(60)  # it waits in its first step, and changes nothing
    shop.loop("mini")._kept.get("a photo", lambda: "its pixels")  # type: ignore[arg-type,return-value]
    sessions["busy"].job = job
    for name in ("idle", "busy"):
        sessions[name].last_used -= registry.IDLE_SECONDS + 1
    here.sweep()
    assert len(shop.loop("mini")._kept) == 0
    here.end(SimpleNamespace(session_hash="left"))  # type: ignore[arg-type]
    here.sweep()
    assert sessions["left"].photo is not None  # it may be a reload
    sessions["left"].away_since -= registry.GRACE_SECONDS + 1  # type: ignore[operator]
    here.sweep()
    for name, stays in {"idle": False, "left": False, "busy": True, "here": True}.items():
        session = sessions[name]
        assert (session.photo is not None, bool(session._subjects), session.folder.exists()) == (stays,) * 3, name
        assert (name in here.states.session_data) == stays
    gate.release(10 * STEPS)
    list(job.events())


def test_a_photo_is_forgotten_also_when_its_visitor_leaves_while_it_is_worked_on(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    shop, session = a_shop(tmp_path, SteppingGenerator(gate.acquire)), Session(tmp_path / "files")
    session.job = job = shop.start(a_photo(), requested(shop, keep=["background"]), on_subject=lambda subject: None)
    gate.release()
    assert next(event for event in job.events() if event.preview is not None)  # after it, only the gate
    session.forget()
    shop.clear_cache()
    shop.loop("mini")._kept.get("a photo", lambda: "its pixels")  # type: ignore[arg-type,return-value]  # the thread is not done yet
    gate.release()
    assert [event.kind for event in job.events()][-1] == "cancelled"
    assert len(shop.loop("mini")._kept) == 0


def test_a_tab_that_is_reloaded_has_everything_again(tmp_path: Path) -> None:
    sessions = registry.Sessions(tmp_path, Form(), lambda: None)
    session = sessions.resume(tab("a"), "")
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    sessions.end(tab("a"))
    assert sessions.resume(tab("b"), session.key) is session
    assert not session.lost
    assert sessions.get(tab("b")) is session
    assert sessions.get(tab("a")) is not session
    assert session.away_since is None


def test_the_connection_of_a_tab_that_is_reloaded_may_end_late(tmp_path: Path) -> None:
    sessions = registry.Sessions(tmp_path, Form(), lambda: None)
    session = sessions.get(tab("a"))
    late = threading.Timer(0.1, sessions.end, [tab("a")])
    late.start()
    assert sessions.resume(tab("b"), session.key) is session
    late.join()


def test_a_second_tab_gets_a_session_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RELOAD_SECONDS", 0.0)
    sessions = registry.Sessions(tmp_path, Form(), lambda: None)
    session = sessions.get(tab("a"))
    second = sessions.resume(tab("b"), session.key)
    assert second is not session
    assert not second.lost
    assert sessions.get(tab("a")) is session


def test_a_tab_whose_session_is_gone_is_notified(tmp_path: Path) -> None:
    before = registry.Sessions(tmp_path, Form(), lambda: None)
    key = before.get(tab("a")).key
    assert registry.Sessions(tmp_path, Form(), lambda: None).resume(tab("b"), key).lost  # the studio was restarted
    assert registry.Sessions(tmp_path, Form(), lambda: None).get(tab("a")).lost  # and the tab is still open
    assert not before.resume(tab("c"), "").lost
    assert before.resume(tab("d"), "Zo\u00eb").lost  # what nobody was ever given


def test_a_connection_that_broke_finds_its_session_again(tmp_path: Path) -> None:
    sessions = registry.Sessions(tmp_path, Form(), lambda: None)
    session = sessions.get(tab("a"))
    sessions.end(tab("a"))
    assert sessions.get(tab("a")) is session
    assert session.away_since is None


def test_what_is_made_for_a_tab_that_was_closed_is_stopped_after_a_while(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    sessions = registry.Sessions(tmp_path / "files", Form(), shop.clear_cache)
    session = sessions.get(tab("a"))
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    session.job = shop.start(a_photo(), requested(shop))
    sessions.end(tab("a"))
    sessions.sweep()
    assert not session.job.cancelled
    session.away_since -= registry.AWAY_SECONDS + 1  # type: ignore[operator]
    sessions.sweep()
    assert session.job.cancelled
    assert session.photo is not None
    assert sessions.resume(tab("b"), session.key).stopped  # which the page says


def test_callers_without_a_name_share_no_session(tmp_path: Path) -> None:
    sessions = registry.Sessions(tmp_path, Form(), lambda: None)
    nameless = SimpleNamespace(session_hash=None)
    assert sessions.get(nameless) is not sessions.get(nameless)  # type: ignore[arg-type]


def literals(source: str) -> Iterator[str]:
    """The texts in a Python file that are not docstrings; values inserted into f-strings are {}."""
    nodes = list(ast.walk(ast.parse(source)))
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(piece.value) if isinstance(piece, ast.Constant) else "{}" for piece in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | pieces:
            yield node.value


def said(text: str) -> list[str]:
    """What a visitor would read or hear: the text between tags, and the names of elements."""
    names = re.findall(r'(?:alt|title|placeholder|aria-label|aria-description)="([^"]*)"', text)
    between = re.sub(r"<[^<>]*(>|$)", " ", text)
    return [words for words in (*names, between) if re.search(r"[A-Za-z]{2}" if "<" in text else r"[a-z]{2} \w", words)]


def test_every_string_of_the_page_is_in_one_place() -> None:
    folder = Path(strings.__file__).parent
    results = {
        words
        for name in ("app", "page", "viewer", "scores", "reports_tab", "controls")
        for text in literals((folder / f"{name}.py").read_text())
        for words in said(text)
    }
    assert results == {"at most"}  # a value of KEEP_LIMITS, not shown
    assert re.findall(r"""["'`][A-Z]\w+ \w+""", (folder / "page.js").read_text()) == []
    assert said('<p class="{}"><img alt="a photo" src="x">Hello</p>') == ["a photo", "  Hello "]  # it would be found


def test_a_long_name_is_shortened_by_bytes_and_keeps_its_end(tmp_path: Path) -> None:
    (entry,) = a_session(tmp_path, a_shop(tmp_path), name="\u5f71" * 200 + ".png").history
    assert entry.stem.endswith("-oil-1")
    assert len(entry.stem.encode()) <= 90


def a_studio(tmp_path: Path, shop: ModelHost) -> Any:
    """The page's handlers without a server."""
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
    from portrait.studio.app import StudioPage

    studio = StudioPage(shop, tmp_path / "files", Reports(tmp_path))
    studio.build()
    return studio


def action(act: str, **more: Any) -> SimpleNamespace:
    """What the browser sends when a visitor does something."""
    return SimpleNamespace(_data={"act": act} | more)


def test_a_picture_that_comes_after_reset_is_not_kept(tmp_path: Path) -> None:
    shop = a_shop(tmp_path)
    studio, photo = a_studio(tmp_path, shop), a_photo()
    session = Session(tmp_path / "files" / "anna")
    session.open(photo, [a_face()], has_file=True, face=0)
    job = session.job = shop.start(photo, requested(shop, max_attempts=1))
    event = list(job.events())[-1]
    came = (session, job, event.portrait, event.settings, photo, True)
    studio.drawing.keep(*came)
    assert len(session.history) == 1
    session.forget()
    studio.drawing.keep(*came)
    assert session.history == []


def test_errors_during_face_detection_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = a_shop(tmp_path)
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    monkeypatch.setattr(shop, "detect_faces", lambda photo: 1 / 0)
    upload = write_picture(tmp_path / "files" / "anna.png", person(1))
    looking, update, _ = studio._on_act(request, action("photo", path=str(upload), name="anna.png"))
    assert strings.LOOKING in looking[studio.photo]
    assert "data-file" in looking[studio.photo]  # another photo may come meanwhile
    assert "Unexpected error: ZeroDivisionError" in update[studio.photo]


def test_a_face_too_small_to_recognize_is_refused_with_its_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = a_shop(tmp_path)
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    monkeypatch.setattr(shop, "detect_faces", lambda photo: ([a_face().moved(0.2, 0, 0)], 0))
    upload = write_picture(tmp_path / "files" / "anna.png", person(1))
    _, update, _ = studio._on_act(request, action("photo", path=str(upload), name="anna.png"))
    assert re.search(r"the face in anna.png is \d+ px; below 14 px people cannot be told apart", update[studio.photo])
    assert studio.sessions.get(request).photo is None


def test_a_wish_that_was_replaced_shows_nothing_at_its_end(tmp_path: Path, gate: threading.Semaphore) -> None:
    from portrait.studio import app

    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    session = studio.sessions.get(request)
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    replaced = studio._on_act(request, action("make"))
    gate.release()
    while "step 1 of" not in next(replaced).get(studio.result, ""):
        pass
    newer = studio._on_act(request, action("make"))
    next(newer)
    gate.release(100)
    assert list(replaced)[-1] == {studio.photo: app.gr.skip()}  # which Gradio sends again, perhaps much later
    assert 'data-state="done"' in [update[studio.result] for update in newer if studio.result in update][-1]


def test_a_tab_that_comes_back_late_is_notified_once_of_what_was_stopped(tmp_path: Path) -> None:
    studio = a_studio(tmp_path, a_shop(tmp_path))
    session = studio.sessions.resume(tab("anna"), "")
    session.open(a_photo(), [a_face(), a_face()], has_file=True, face=None)
    session.stopped = True
    update, again = (next(studio._on_hello(tab("anna"), session.key)) for _ in range(2))
    assert strings.STOPPED in update[studio.result]
    assert strings.STOPPED not in again[studio.result]


def test_a_page_that_says_hello_again_because_the_answer_was_slow_keeps_what_its_visitor_did(tmp_path: Path) -> None:
    studio = a_studio(tmp_path, a_shop(tmp_path))
    first, again, anew = (next(studio._on_hello(tab("anna"), "of a studio before", load)) for load in ("1", "1", "2"))
    assert studio.controls in first
    assert strings.LOST in first[studio.result]
    assert again.keys() == {studio.wire}
    assert not studio.sessions.get(tab("anna")).lost  # that was said
    assert studio.controls in anew


def test_a_tab_from_before_the_studio_started_is_notified_that_its_photo_is_gone(tmp_path: Path) -> None:
    studio = a_studio(tmp_path, a_shop(tmp_path))
    update, _ = studio._on_act(tab("anna"), action("make"))
    assert strings.LOST in update[studio.result]
    assert strings.DROP in update[studio.photo]
    (answer, _) = studio._on_act(tab("anna"), action("make"))
    assert strings.NEED_PHOTO in answer[studio.result]


@pytest.mark.parametrize("anew", [False, True])
def test_a_tab_that_was_taken_for_closed_is_notified_that_its_photo_is_gone(
    tmp_path: Path, gate: threading.Semaphore, anew: bool
) -> None:
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire))
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    session = studio.sessions.get(request)
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    updates = studio._make(request, session, requested(shop))
    gate.release()
    while "step 1 of" not in next(updates).get(studio.result, ""):
        pass
    studio.sessions._drop(["anna"])  # the connection broke for long
    if anew:  # and has chosen a photo since
        studio.sessions.get(request).begin_upload()
    gate.release(100)
    notices = [update for update in updates if strings.FORGOTTEN in update.get(studio.result, "")]
    assert len(notices) == (0 if anew else 1)
    assert all(strings.DROP in update[studio.photo] for update in notices)
    assert session.history == []


def test_a_tab_that_is_back_during_face_detection_is_notified_that_its_photo_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = a_shop(tmp_path)
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    look = shop.detect_faces
    monkeypatch.setattr(shop, "detect_faces", lambda photo: studio.sessions._drop(["anna"]) or look(photo))
    upload = write_picture(tmp_path / "files" / "anna.png", person(1))
    updates = list(studio._on_act(request, action("photo", path=str(upload), name="anna.png")))
    assert strings.FORGOTTEN in updates[-2][studio.result]
    assert strings.DROP in updates[-2][studio.photo]


@pytest.mark.slow
def test_a_bug_while_a_picture_is_kept_leaves_no_page_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = a_shop(tmp_path)
    studio, request = a_studio(tmp_path, shop), tab("anna")
    studio.sessions.resume(request, "")
    session = studio.sessions.get(request)
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    monkeypatch.setattr(studio.drawing, "keep", lambda *args: 1 / 0)
    updates = list(studio._make(request, session, requested(shop, max_attempts=1)))
    last = [update for update in updates if studio.result in update][-1]
    assert "Unexpected error: ZeroDivisionError" in last[studio.result]
    assert 'data-state="working"' not in last[studio.result]
    assert not session.is_working


@pytest.mark.slow
def test_of_photos_that_come_at_once_only_the_last_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portrait.studio import app

    studio, request = a_studio(tmp_path, a_shop(tmp_path)), tab("anna")
    studio.sessions.resume(request, "")
    session, read = studio.sessions.get(request), []

    def remember(data: bytes, name: str, is_wanted: Callable[[], bool]) -> Photo:
        read.append(name)
        return read_upload(data, name, is_wanted)

    monkeypatch.setattr(app, "read_upload", remember)
    handlers = []
    for name in ("first.png", "second.png"):
        upload = write_picture(tmp_path / "files" / name, person(1))
        handlers.append(studio._on_act(request, action("photo", path=str(upload), name=name)))
        next(handlers[-1])  # both are being looked at
    first, second = (next(handler) for handler in handlers)
    assert first == {studio.photo: app.gr.skip()}
    assert 'class="photo"' in second[studio.photo]
    assert read == ["second.png"]
    assert session.photo.path.name == "second.png"
    assert not list((tmp_path / "files").rglob("*.png"))


@needs_sigstop
def test_a_photo_that_never_ends_is_given_up_for_the_next_one(tmp_path: Path) -> None:
    from portrait.studio import app

    studio, request = a_studio(tmp_path, a_shop(tmp_path)), tab("anna")
    studio.sessions.resume(request, "")
    session = studio.sessions.get(request)
    stop_answering(decoder)
    handlers = []
    for name in ("endless.png", "anna.png"):
        upload = write_picture(tmp_path / "files" / name, person(1))
        handlers.append(studio._on_act(request, action("photo", path=str(upload), name=name)))
    endless, anna = handlers
    next(endless)
    messages: list[Any] = []
    thread = threading.Thread(target=lambda: messages.append(next(endless)))
    thread.start()
    until(decoder._turn.locked)  # it is being read
    next(anna)
    assert 'class="photo"' in next(anna)[studio.photo]
    thread.join(60)
    assert messages == [{studio.photo: app.gr.skip()}]
    assert session.photo.path.name == "anna.png"


@pytest.mark.slow
def test_a_studio_that_ends_stops_the_work_and_forgets(tmp_path: Path, gate: threading.Semaphore) -> None:
    generator = SteppingGenerator(gate.acquire)
    shop = a_shop(tmp_path, generator)
    studio = a_studio(tmp_path, shop)
    session = studio.sessions.get(SimpleNamespace(session_hash="anna"))
    session.open(a_photo(), [a_face()], has_file=True, face=0)
    works, waits = shop.start(a_photo(), requested(shop)), shop.start(a_photo(2), requested(shop))
    assert generator.started.wait(60)
    closing = threading.Thread(target=studio.close)
    closing.start()
    until(lambda: works.cancelled)
    gate.release(100)
    closing.join()
    assert session.photo is None
    for job in (works, waits, shop.start(a_photo(3), requested(shop))):
        assert [event.kind for event in job.events()][-1] == "cancelled"
    assert generator.finished == 0


@pytest.mark.parametrize(
    ("name", "value"), [("max_attempts", 1000), ("max_seconds", 80000.0), ("num_inference_steps", 900)]
)
def test_one_visitor_cannot_take_the_machine_for_a_day(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match="exceeds the studio.s limit for one visitor"):
        web_settings(Settings(), {"style": "oil", name: value})


@contextmanager
def another_server() -> Iterator[tuple[str, list[str]]]:
    """A server on this computer that serves a picture; its address, and the requested paths."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encode_picture(person(1), "png"))

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("function", ["stylize", "faces"])
def test_a_photo_that_a_caller_names_by_its_address_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    processing_utils = pytest.importorskip("gradio.processing_utils", reason="the studio needs gradio")
    # Gradio trusts these hosts as if they were public ones, so it would fetch from them.
    monkeypatch.setattr(processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1"])
    with another_server() as (address, requests):
        fetched = asyncio.run(processing_utils.async_ssrf_protected_download(f"{address}/gradio.png", str(tmp_path)))
        assert Path(fetched).is_file()
        assert requests == ["/gradio.png"]  # so it does without the studio
        with serving(tmp_path, a_shop(tmp_path)) as (url, folder, _):
            photo = {"path": f"{address}/anna.png", "meta": {"_type": "gradio.FileData"}}
            arguments = [photo, "oil", 0.5, 1, "auto", "bust", [], {}, []] if function == "stylize" else [photo]
            body = json.dumps({"data": arguments}).encode()
            event = json.loads(ask(url, f"call/{function}", body).read())["event_id"]
            answer = ask(url, f"call/{function}/{event}").read().decode()
            assert answer.startswith("event: error")
            assert "a studio fetches nothing from other computers" in answer
            assert not list(folder.rglob("*.png"))
        assert requests == ["/gradio.png"]


def test_gradio_is_itself_again_after_the_studio() -> None:
    processing_utils = pytest.importorskip("gradio.processing_utils", reason="the studio needs gradio")
    route_utils = pytest.importorskip("gradio.route_utils", reason="the studio needs gradio")
    before = processing_utils.async_ssrf_protected_download, route_utils.GradioUploadFile
    with guard.guarded_gradio():
        assert processing_utils.async_ssrf_protected_download is guard.refuse_address
        assert route_utils.GradioUploadFile is not before[1]
    assert (processing_utils.async_ssrf_protected_download, route_utils.GradioUploadFile) == before


@pytest.mark.parametrize("name", ["processing_utils.async_ssrf_protected_download", "route_utils.GradioUploadFile"])
def test_a_gradio_without_what_the_studio_replaces_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
    monkeypatch.delattr(f"gradio.{name}")
    with pytest.raises(PortraitError, match=rf"has no .*{name}, which protects"), serving(tmp_path, a_shop(tmp_path)):
        pass


def test_a_photo_that_was_slow_does_not_come_back_after_reset_or_over_a_newer_one(tmp_path: Path) -> None:
    session = Session(tmp_path / "files")
    slow = session.begin_upload()
    newer = session.begin_upload()
    assert session.open(a_photo(2), [a_face()], has_file=True, face=0, generation=newer)
    assert not session.open(a_photo(1), [a_face()], has_file=True, face=0, generation=slow)
    late = session.begin_upload()
    session.forget()
    assert not session.open(a_photo(1), [a_face()], has_file=True, face=0, generation=late)
    assert session.photo is None


def test_large_pictures_leave_the_history_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portrait.studio import session as of_session

    monkeypatch.setattr(of_session, "MAX_HISTORY_BYTES", 5 * SIZE * SIZE * 3)  # each has a picture and a photo
    session = a_session(tmp_path, a_shop(tmp_path), count=4)
    assert [entry.number for entry in session.history] == [3, 4]
