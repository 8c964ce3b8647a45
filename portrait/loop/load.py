"""Load the models of a recipe and the judges into an `AttemptLoop`."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from itertools import combinations

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.faces.conditioning_recognizer import ConditioningRecognizer
from portrait.faces.form import form_named
from portrait.faces.load import load_face_tools, load_recognizers
from portrait.generate.load import load_generator
from portrait.hub.files import sha256_of, verify_manifest
from portrait.hub.judges import FACE_TOOLS, fetched_judges, tools_for
from portrait.judge.style_judge import STYLE_JUDGE_FILES, StyleJudge
from portrait.judge.thresholds import calibrated_form, calibrated_together
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.response import measured_judges
from portrait.recipes.licensing import require_commercial
from portrait.recipes.load import load_recipe
from portrait.recipes.locate import resolve_files
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.settings import LOADING, Settings


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause garbage collection within the block: imports create hundreds of thousands of objects that are never freed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_collector_paused()
def load_loop(settings: Settings, *, every_judge: bool = False, form: str = "") -> AttemptLoop:
    """Load the models and judges that the settings name.

    SFace and AuraFace also judge if they have been fetched and the calibration and the curves include them.

    Args:
        settings: Those that count are `LOADING`, thresholds and curves.
        every_judge: Whether to use every judge that has been fetched, as for a calibration.
        form: How the judges' faces are prepared, see `faces.form`; empty for the form of the calibration in use.

    Raises:
        SettingsError: the recipe does not suit the settings, or lacks a knob that they set.
        WeightsError: a file is missing or damaged.
    """
    commercial, threads = settings.commercial, settings.threads
    recipe = load_recipe(settings.recipe)
    recipe.check_settings(settings.chosen())
    recipe = with_overrides(recipe, settings.base, settings.lora)
    if commercial:
        require_commercial(recipe)
    recipe = resolve_files(recipe)
    from portrait.faces.opencv import second_detector

    seen = form_named(form or calibrated_form(recipe.name, settings.thresholds))
    analyzer, recognizers = load_face_tools(commercial=commercial, threads=threads, form=seen)
    tools = tools_for(commercial=commercial)
    further_judges = (
        fetched_judges(tools)
        if every_judge
        else calibrated_further(recipe.name, tools, settings.thresholds, settings.curves)
    )
    recognizers += load_recognizers(further_judges, threads, seen)
    conditioning_recognizer = None
    if recipe.recognizer_file is not None:
        conditioning_recognizer = ConditioningRecognizer(
            recipe.recognizer_file, recipe.embedding, threads=threads or None
        )
    generator = load_generator(
        recipe, threads=threads or None, device=settings.device, tier=settings.memory, dtype=settings.dtype
    )
    second_opinion = None if commercial else second_detector()  # if YuNet is the first detector there is no other
    return AttemptLoop(
        recipe, generator, analyzer, recognizers, conditioning_recognizer, second_opinion, style_judge_of(recipe)
    )


class LatestLoop:
    """The models that were asked for last, loaded by `load` unless they are in memory."""

    def __init__(self, load: Callable[[Settings], AttemptLoop]) -> None:
        self._load = load
        self._loaded: tuple[tuple[object, ...], AttemptLoop] | None = None

    def get(self, settings: Settings) -> AttemptLoop:
        """The models for the settings of `LOADING`."""
        key = tuple(getattr(settings, name) for name in LOADING)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # release the old models before loading new ones
            self._loaded = key, self._load(settings)
        return self._loaded[1]


def style_judge_of(recipe: Recipe) -> StyleJudge | None:
    """The verified style judge that belongs to a recipe's weights; None if they have none.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, not the pinned one, or cannot be loaded.
    """
    if not recipe.judge:
        return None
    names = [f"{recipe.judge}/{name}" for name in STYLE_JUDGE_FILES]
    if (recipe.base / "manifest.json").is_file():
        digests = verify_manifest(recipe.base, "judge")
        if digests.keys() != set(names):
            raise WeightsCorruptError(f"{recipe.base / 'manifest.json'} does not list {', '.join(names)} as the judge")
    elif missing := [name for name in names if not (recipe.base / name).is_file()]:
        raise WeightsMissingError(f"recipe {recipe.name} names a style judge, but {recipe.base} has no {missing[0]}")
    else:
        digests = {name: sha256_of(recipe.base / name) for name in names}
    return StyleJudge(recipe.base / recipe.judge, digests)


def calibrated_further(recipe: str, tools: str, thresholds: str = "", curves: str = "") -> tuple[str, ...]:
    """The additional judges that have been fetched and that the calibration and curves in use include.

    Args:
        recipe: The recipe of the shipped calibration and curves.
        tools: The set of face tools whose judges they would join.
        thresholds: A calibration file to use instead of the recipe's.
        curves: A file of curves to use instead of the recipe's.
    """
    fetched = fetched_judges(tools)
    for count in range(len(fetched), 0, -1):
        for further in combinations(fetched, count):
            judges = {*FACE_TOOLS[tools], *further}
            if calibrated_together(recipe, judges, thresholds) and judges <= measured_judges(recipe, curves):
                return further
    return ()
