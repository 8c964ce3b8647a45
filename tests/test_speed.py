"""What makes portrait fast beside other programs and from a cold start: counted or inspected, never timed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from portrait import paths
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate import precision
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.precision import Precision
from portrait.images import Photo
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement, decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.types import PortraitGenerator
from portrait.recipes.load import load_recipe
from portrait.records import RgbImage
from portrait.records.portrait import AttemptRecord, PortraitRecord, read_record
from portrait.settings import Settings

STYLE = "watercolor"
MODULES = 1300
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
print(len(sys.modules), *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
def test_a_portrait_imports_no_more_than_it_needs(photos: Path, tmp_path: Path) -> None:
    photo, style = str(photos / "astronaut.png"), f"--style={STYLE}"
    result = run_python(ONE_PORTRAIT, photo, style, str(tmp_path))
    assert result.returncode == 0, result.stderr
    count, *packages = result.stdout.split()
    needless = {
        "torch",
        "diffusers",
        "transformers",
        "peft",
        "accelerate",
        "sympy",
        "scipy",
        "matplotlib",
        "gradio",
        "ray",
    }
    assert not needless & set(packages)
    assert int(count) < MODULES  # it was 4064 in torch with diffusers' pipelines, which import all of the above
    (file,) = tmp_path.glob(f"astronaut-{STYLE}-1*.json")
    record = read_record(file.read_text("utf-8"))
    assert isinstance(record, PortraitRecord)
    assert (record.device, record.dtype, record.threads) == ("cpu", "float32", 1)


@pytest.mark.slow
def test_a_picture_is_decoded_once_and_once_more_for_each_preview(
    mini: AttemptLoop, astronaut: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (subject,) = mini.subjects(astronaut)
    settings = Settings(style=(STYLE,), max_attempts=1)
    decode = Mock(wraps=mini.generator._decoder)  # type: ignore[attr-defined]
    monkeypatch.setattr(mini.generator, "_decoder", decode)
    mini.stylize(subject, STYLE, settings)
    assert decode.call_count == 1
    shown: list[RgbImage] = []
    mini.stylize(subject, STYLE, settings, on_preview=shown.append)
    assert decode.call_count == 2 + len(shown) > 2


def test_insightface_is_imported_without_skimage_and_its_alignments_still_work() -> None:
    script = """
import sys
from portrait.faces.without_skimage import without_skimage
with without_skimage():
    from insightface.utils import face_align
assert not {"skimage", "scipy"} & sys.modules.keys()
print(face_align.estimate_norm(face_align.arcface_dst)[0, 0].round(3))
assert "skimage" in sys.modules
"""
    assert run_python(script).stdout == "1.0\n"


# --- the arithmetic that fits the processor


@pytest.mark.parametrize(
    ("line", "is_fast"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16", True),
        ("flags : fpu avx2 avx512f", False),
        ("Features : fp asimd bf16 i8mm", True),
        ("Features : fp asimd", False),
    ],
)
def test_instructions_for_bfloat16_are_found_on_x86_and_arm(
    line: str, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *args: f"processor : 0\n{line}\n")
    assert precision.has_bfloat16() is is_fast


@pytest.mark.parametrize(
    ("flags", "limit", "chosen"),
    [
        ("(avx2 avx512f avx512_bf16)", None, "bfloat16"),
        ("(avx2 avx512f amx_bf16)", None, "bfloat16"),
        ("(avx2 avx512f)", None, "float32"),  # it would emulate bfloat16
        ("(avx2 avx512f avx512_bf16)", "AVX512_CORE", "float32"),
        ("", None, "float32"),
    ],
)
def test_public_models_compute_in_bfloat16_on_a_cpu_that_has_instructions_for_it(
    flags: str, limit: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "processor", lambda: f"a processor {flags}")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert Precision.choose(load_recipe("sd15-faceid"), torch.device("cpu")).dtype == chosen


def test_mini_computes_in_float32_by_default_even_where_bfloat16_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    for device in ("cpu", "cuda"):
        assert Precision.choose(load_recipe("mini"), torch.device(device)).dtype == "float32"


def test_the_requested_number_type_is_used() -> None:
    recipe, cpu, gpu = load_recipe("mini"), torch.device("cpu"), torch.device("cuda")
    assert Precision.choose(recipe, cpu, "bfloat16").dtype == "bfloat16"
    assert Precision.choose(recipe, cpu, "float32").dtype == "float32"
    assert Precision.choose(recipe, gpu).dtype == "float32"
    assert Precision.choose(recipe, gpu, "bfloat16").weights is torch.bfloat16


def computed_by(generator: PortraitGenerator, mini: AttemptLoop, photo: Photo) -> PortraitRecord:
    """The record of one attempt that a generator draws."""
    (subject,) = mini.subjects(photo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "generator", generator)
        record = mini.stylize(subject, STYLE, Settings(style=(STYLE,), max_attempts=1)).record
    assert record.dtype == generator.dtype
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
def test_verdicts_hold_at_the_limit_in_both_runtimes_and_types(
    mini: AttemptLoop, mini_in_torch: DiffusionGenerator, astronaut: Photo
) -> None:
    """Another runtime changes the last digits, and so a verdict only at its limit; another type rounds each step.

    All three draw the same person, seed and knobs.
    """
    in_bfloat16 = DiffusionGenerator(mini.recipe, dtype="bfloat16")
    here, rounded, elsewhere = (
        computed_by(generator, mini, astronaut).attempts[0]
        for generator in (mini.generator, in_bfloat16, mini_in_torch)
    )
    assert here.knobs == rounded.knobs == elsewhere.knobs
    assert decide(measurement_of(here), limits_at(here)).accepted
    for other, below in ((elsewhere, 0.005), (rounded, 0.02)):
        assert decide(measurement_of(other), limits_at(here, below)).accepted
        assert decide(measurement_of(here), limits_at(other, below)).accepted
    assert here.reasons == rounded.reasons == elsewhere.reasons
    assert here.similarity != rounded.similarity


def test_a_record_names_the_requested_number_type_and_no_other() -> None:
    record = read_record((Path(__file__).parent / "golden" / "accepted.json").read_text())
    assert isinstance(record, PortraitRecord)
    requested = record.model_copy(update={"settings": replace(record.settings, dtype="bfloat16")})
    assert '"dtype": "bfloat16"' in requested.to_json(indent=1)
    again = read_record(requested.to_json())
    assert isinstance(again, PortraitRecord)
    assert again.settings.dtype == "bfloat16"
