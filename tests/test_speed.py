"""What makes portrait fast beside other programs and from a cold start: counted or inspected, never timed."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from portrait import paths
from portrait.deferred import deferred, hidden
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate import precision
from portrait.generate.families.stable_diffusion.pipelines import PortraitPipeline
from portrait.generate.framing import frame_portrait
from portrait.generate.networks import VaeImageProcessor
from portrait.images import Photo
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement, decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import Knobs, RgbImage
from portrait.records.portrait import AttemptRecord, PortraitRecord, read_record
from portrait.settings import Settings

STYLE = "watercolor"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def run_python(code: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter, without this one's settings of how threads wait."""
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *args],
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
    )


def openmp_settings(**env: str) -> str:
    """The settings that torch's OpenMP reports if it is loaded after portrait."""
    spec = importlib.util.find_spec("torch")
    library = Path(str(spec.origin if spec else "")).parent / "lib" / "libgomp.so.1"
    if not library.exists():
        pytest.skip("torch brings no libgomp here")
    result = run_python(f"import portrait, ctypes; ctypes.CDLL({str(library)!r})", OMP_DISPLAY_ENV="VERBOSE", **env)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_threads_that_wait_at_a_barrier_sleep() -> None:
    settings = openmp_settings()
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in settings
    assert "GOMP_SPINCOUNT = '0'" in settings


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "12345")])
def test_a_waiting_policy_that_the_user_sets_stays(name: str, value: str) -> None:
    assert f"{name} = '{value}'" in openmp_settings(**{name: value})


@pytest.mark.parametrize(
    ("cpu_max", "threads"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("6400000 100000", 8), ("", 8)],
)
def test_a_container_has_no_more_threads_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, threads: int
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(cpu_max)
    monkeypatch.setattr(paths, "_CPU_MAX", file)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert paths.cpu_threads() == threads


def test_the_judges_threads_do_not_spin_either(analyzer: InsightFaceAnalyzer) -> None:
    for session in (analyzer._detector.session, analyzer._recognizer.session):
        assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"


# --- a cold start: what is imported ---

ONE_PORTRAIT = """
import sys
from portrait.cli.main import main
code = main(["stylize", *sys.argv[1:3], "--max-attempts", "1", "--threads", "1", "--quiet", "-o", sys.argv[3]])
assert code in (0, 1), code
print(len(sys.modules), *sorted({name.partition(".")[0] for name in sys.modules} | {"torch._dynamo"} & sys.modules.keys()))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """A portrait from the shell on a processor that computes at most with AVX2: what was imported, and its record."""

    modules: int
    packages: set[str]
    record: PortraitRecord
    cache: Path


@pytest.fixture(scope="module")
def cold_start(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> ColdStart:
    folder, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    photo, style = str(photos / "astronaut.png"), f"--style={STYLE}"
    result = run_python(ONE_PORTRAIT, photo, style, str(folder), ONEDNN_MAX_CPU_ISA="AVX2", PORTRAIT_CACHE=str(cache))
    assert result.returncode == 0, result.stderr
    count, *packages = result.stdout.split()
    (file,) = folder.glob(f"astronaut-{STYLE}-1*.json")
    record = read_record(file.read_text("utf-8"))
    assert isinstance(record, PortraitRecord)
    return ColdStart(modules=int(count), packages=set(packages), record=record, cache=cache)


@pytest.mark.slow
def test_a_portrait_imports_no_more_than_it_needs(cold_start: ColdStart) -> None:
    needless = {"transformers", "peft", "accelerate", "torch._dynamo", "sympy", "scipy", "matplotlib", "gradio", "ray"}
    assert not needless & cold_start.packages
    assert cold_start.modules < 2100  # it was 4064 with diffusers' pipelines, which import all of the above


@pytest.fixture(scope="module")
def plain_pipeline(mini: AttemptLoop) -> PortraitPipeline:
    """diffusers' own pipeline around the networks of `mini`, with transformers' text encoder."""
    folder, ours = mini.recipe.base, mini.generator.pipe  # type: ignore[attr-defined]
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of an offset that steps with trailing spacing do not have
        pipe = PortraitPipeline(
        vae=ours.vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), unet=ours.unet,
        scheduler=copy.deepcopy(ours.scheduler), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = VaeImageProcessor(vae_latent_channels=ours.unet.config.out_channels)
    return pipe


def test_the_text_encoder_is_transformers_to_the_last_bit(mini: AttemptLoop, plain_pipeline: PortraitPipeline) -> None:
    prompts = [mini.recipe.style(name).prompt for name in mini.recipe.styles]
    for prompt in [*prompts, "", "words that nobody knows " * 20]:
        with torch.inference_mode():
            expected, negative = plain_pipeline.encode_prompt(prompt, torch.device("cpu"), 1, True, "")
            ours = mini.generator.pipe.encode_prompt(prompt, negative_prompt="")  # type: ignore[attr-defined]
        assert torch.equal(ours[0], expected)
        assert torch.equal(ours[1], negative)


@pytest.mark.parametrize("guidance", [1.0, 1.8])
def test_the_lean_pipeline_draws_what_diffusers_draws(
    mini: AttemptLoop,
    plain_pipeline: PortraitPipeline,
    astronaut: Photo,
    monkeypatch: pytest.MonkeyPatch,
    guidance: float,
) -> None:
    generator, (subject,) = mini.generator, mini.subjects(astronaut)
    framed = frame_portrait(astronaut.pixels, subject.face, "bust", mini.recipe.resolution)
    knobs = Knobs(
        strength=0.6,
        guidance_scale=guidance,
        ip_adapter_scale=0.7,
        controlnet_conditioning_scale=0.7,
        num_inference_steps=5,
    )
    conditions = generator.prepare(
        framed.image, subject.identity.embeddings["arcface"], mini.recipe.style("oil").prompt, "", framed.face
    )
    ours = generator.generate(conditions, knobs, [3, 4])
    monkeypatch.setattr(generator.family, "pipe", plain_pipeline)  # type: ignore[attr-defined]
    plain = generator.generate(conditions, knobs, [3, 4])
    assert all(np.array_equal(a, b) for a, b in zip(ours, plain, strict=True))


@pytest.mark.slow
def test_a_picture_is_decoded_once_and_once_more_for_each_preview(
    mini: AttemptLoop, astronaut: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (subject,) = mini.subjects(astronaut)
    settings = Settings(style=(STYLE,), max_attempts=1)
    vae = mini.generator.pipe.vae  # type: ignore[attr-defined]
    decode = Mock(wraps=vae.decode)
    monkeypatch.setattr(vae, "decode", decode)
    mini.stylize(subject, STYLE, settings)
    assert decode.call_count == 1
    shown: list[RgbImage] = []
    mini.stylize(subject, STYLE, settings, on_preview=shown.append)
    assert decode.call_count == 2 + len(shown) > 2


def test_public_recipes_find_all_of_diffusers_after_a_lean_start() -> None:
    code = """
import portrait.generate.networks, sys
assert "transformers" not in sys.modules
from diffusers import EulerDiscreteScheduler, StableDiffusionXLControlNetImg2ImgPipeline
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.loaders.single_file_utils import AutoImageProcessor
from diffusers.utils.constants import USE_PEFT_BACKEND
import diffusers.models.transformers, transformers
assert USE_PEFT_BACKEND
assert AutoImageProcessor.from_pretrained == transformers.AutoImageProcessor.from_pretrained
assert issubclass(transformers.AutoImageProcessor, AutoImageProcessor)
assert hasattr(diffusers.models.transformers, "FluxTransformer2DModel")
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_a_deferred_import_loads_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "faraway"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "colors.py").write_text("class Red:\n    name = 'red'\nLOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with deferred("faraway"):
        import faraway.colors as kept  # type: ignore[import-not-found]
        from faraway.colors import Red
    assert "faraway" not in sys.modules
    assert Red.name == "red"
    assert "faraway.colors" in sys.modules
    assert isinstance(Red(), Red)
    assert not isinstance(3, Red)
    assert kept.LOADED is True


def test_a_hidden_module_is_absent_only_within_the_block() -> None:
    with hidden("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    with hidden("json"):
        import json  # it is loaded already
    assert json.loads("1") == 1


# --- the arithmetic that fits the processor ---


def chosen_with(isa: str, tmp_path: Path) -> str:
    """The number type in which mini would compute on a processor limited to these instructions."""
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from portrait.generate.precision import Precision\n"
        "from portrait.recipes.load import load_recipe\n"
        "print(Precision.choose(load_recipe('mini'), torch.device('cpu')).dtype)"
    )
    result = run_python(code, ONEDNN_MAX_CPU_ISA=isa, PORTRAIT_CACHE=str(tmp_path))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_bfloat16_is_not_chosen_where_the_processor_only_emulates_it(cold_start: ColdStart) -> None:
    assert cold_start.record.dtype == "float32"
    assert chosen_with("AVX512_CORE", cold_start.cache) == "float32"
    speeds = json.loads((cold_start.cache / "processors.json").read_text())
    assert len(speeds) == 2  # each kind of processor has its own line
    assert all(key.partition(" threads")[0].endswith("1") for key in speeds)


def test_a_processor_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path))
    calls = []

    def measure() -> precision.Speed:
        calls.append(1)
        return precision.Speed(10.0, 8.9)

    monkeypatch.setattr(precision, "_measure", measure)
    assert precision.measured_speed(2) == precision.measured_speed(2) == precision.Speed(10.0, 8.9)
    assert len(calls) == 1
    precision.measured_speed(3)
    assert len(calls) == 2
    (tmp_path / "processors.json").write_text("[]")
    assert precision.measured_speed(2).faster == "bfloat16"
    assert len(calls) == 3


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(precision, "_measure", lambda: precision.Speed(1.0, None))
    assert precision.measured_speed(1).faster == "float32"


@pytest.mark.parametrize(
    ("float32", "bfloat16", "faster"), [(10.0, 8.9, "bfloat16"), (10.0, 9.1, "float32"), (10.0, None, "float32")]
)
def test_bfloat16_has_to_be_clearly_faster(float32: float, bfloat16: float | None, faster: str) -> None:
    assert precision.Speed(float32, bfloat16).faster == faster


def test_the_requested_number_type_is_used(mini: AttemptLoop) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert precision.Precision.choose(mini.recipe, cpu, "bfloat16").dtype == "bfloat16"
    assert precision.Precision.choose(mini.recipe, cpu, "float32").dtype == "float32"
    assert precision.Precision.choose(mini.recipe, gpu).dtype == "float32"
    assert precision.Precision.choose(mini.recipe, gpu, "bfloat16").weights is torch.bfloat16


def computed_in(dtype: str, mini: AttemptLoop, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> PortraitRecord:
    """The record of one attempt in a number type."""
    (subject,) = mini.subjects(photo)
    monkeypatch.setattr(mini.generator.family, "_precision", precision.Precision(dtype, torch.float32))  # type: ignore[attr-defined]
    monkeypatch.setattr(mini.generator, "dtype", dtype)
    mini.generator.clear_cache()
    record = mini.stylize(subject, STYLE, Settings(style=(STYLE,), max_attempts=1)).record
    assert record.dtype == dtype
    return record


def measurement_of(attempt: AttemptRecord) -> Measurement:
    return Measurement(
        similarity=dict(attempt.similarity),
        face_found=attempt.face_found,
        style_on_face=attempt.style_on_face,
        burned=attempt.burned,
        features_shown=attempt.features_shown,
    )


def limits_at(attempt: AttemptRecord, below: float = 0.0) -> Thresholds:
    """Limits that every measurement just reaches, or that are this much easier to reach."""
    shown = attempt.features_shown
    return Thresholds(
        identity={judge: value - below for judge, value in attempt.similarity.items()},
        far=0.001,
        style_on_face=attempt.style_on_face - below,
        burned=attempt.burned + below,
        features_shown=None if shown is None else shown - below,
    )


@pytest.mark.slow
def test_verdicts_hold_at_the_limit_in_both_types_and_with_other_instructions(
    cold_start: ColdStart, mini: AttemptLoop, astronaut: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other instructions change the last digits, and so a verdict only at its limit; another type rounds each step.

    All three draw the same person, seed and knobs.
    """
    records = {name: computed_in(name, mini, astronaut, monkeypatch) for name in ("float32", "bfloat16")}
    here, rounded, elsewhere = (
        record.attempts[0] for record in (records["float32"], records["bfloat16"], cold_start.record)
    )
    assert here.knobs == rounded.knobs == elsewhere.knobs
    assert decide(measurement_of(here), limits_at(here)).accepted
    for other, below in ((elsewhere, 0.005), (rounded, 0.02)):
        assert decide(measurement_of(other), limits_at(here, below)).accepted
        assert decide(measurement_of(here), limits_at(other, below)).accepted
    assert here.reasons == rounded.reasons
    assert records["float32"].picture.pixels_sha256 != records["bfloat16"].picture.pixels_sha256


def test_a_record_names_the_requested_number_type_and_no_other() -> None:
    record = read_record((Path(__file__).parent / "golden" / "accepted.json").read_text())
    assert isinstance(record, PortraitRecord)
    requested = record.model_copy(update={"settings": replace(record.settings, dtype="bfloat16")})
    assert '"dtype": "bfloat16"' in requested.to_json(indent=1)
    again = read_record(requested.to_json())
    assert isinstance(again, PortraitRecord)
    assert again.settings.dtype == "bfloat16"
