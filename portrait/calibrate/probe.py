"""Test whether a recipe's identity input works: draw one face with it on, off, and replaced by another person's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from portrait.generate.framing import frame_portrait
from portrait.judge.verification import similarities
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.types import Subject
from portrait.records import Embedding, Identity, Knobs, RgbImage

_HELD_IN_LATENTS = 0.35
"""Structure at which `mini` sees the layout but few features; a ControlNet or a reference photo can be left out entirely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """How much more like the person one judge finds the pictures with the identity on: mean and standard error."""

    mean: float
    error: float

    @property
    def stands_out(self) -> bool:
        """Whether it is above 0 by more than two standard errors."""
        return self.mean > 2 * self.error and self.mean > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the judges say.

    `likeness` maps on, off and swapped to each judge's mean similarity to the person; `to_other` is that of the swapped
    pictures to the other person. `moved` is how many of 255 levels the identity changes a pixel on average. `over_off` and
    `over_swapped` compare pictures of the same seed.
    """

    recipe: str
    style: str
    pictures: int
    knobs: Knobs
    likeness: dict[str, dict[str, float]]
    to_other: dict[str, float]
    moved: float
    over_off: dict[str, Rise]
    over_swapped: dict[str, Rise]

    @property
    def verdict(self) -> str:
        """Whether every judge sees more of the person (works), not all do (unclear), or no pixel changes (nothing)."""
        if self.moved == 0:
            return "nothing"
        rises = [*self.over_off.values(), *self.over_swapped.values()]
        return "works" if all(rise.stands_out for rise in rises) else "unclear"


def probe_identity(loop: AttemptLoop, subject: Subject, other: Identity, style: str, seeds: Sequence[int]) -> Probe:
    """Draw the person with the identity on, off, and swapped for another's, and ask every judge.

    The photo's own structure is hidden as far as possible, and every step runs: otherwise its pixels alone carry the
    likeness, and a broken adapter seems to work. Each of two or more seeds makes one picture of every kind.
    """
    knobs = _knobs_that_hide_the_photo(loop)
    framed = frame_portrait(subject.photo.pixels, subject.face, "bust", loop.recipe.resolution)

    def draw(who: Identity, knobs: Knobs) -> list[tuple[RgbImage, dict[str, Embedding]]]:
        """The pictures of every seed, and what the judges see in each."""
        pictures = [loop.draw(framed, who, style, knobs, seed) for seed in seeds]
        return [(picture, loop.judges.detect_and_embed(picture, framed.face)[1]) for picture in pictures]

    on = draw(subject.identity, knobs)
    off = draw(subject.identity, replace(knobs, ip_adapter_scale=0.0))
    swapped = draw(other, knobs)
    scores_on, scores_off, scores_swapped = (
        [similarities(subject.identity, embeddings) for _, embeddings in drawn] for drawn in (on, off, swapped)
    )
    return Probe(
        recipe=loop.recipe.name,
        style=style,
        pictures=len(seeds),
        knobs=knobs,
        likeness={"on": _means(scores_on), "off": _means(scores_off), "swapped": _means(scores_swapped)},
        to_other=_means([similarities(other, embeddings) for _, embeddings in swapped]),
        moved=float(np.mean([np.abs(a.astype(int) - b).mean() for (a, _), (b, _) in zip(on, off, strict=True)])),
        over_off=_rises(scores_on, scores_off),
        over_swapped=_rises(scores_on, scores_swapped),
    )


def _knobs_that_hide_the_photo(loop: AttemptLoop) -> Knobs:
    recipe = loop.recipe
    structure = _HELD_IN_LATENTS if recipe.structure == "source_latents" else 0.0
    knobs = replace(recipe.knobs_at(0.5), strength=1.0, controlnet_conditioning_scale=structure)
    return recipe.with_enough_steps(knobs)


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {judge: float(np.mean([row[judge] for row in rows])) for judge in rows[0]}


def _rises(on: Sequence[dict[str, float]], without: Sequence[dict[str, float]]) -> dict[str, Rise]:
    rises = {}
    for judge in on[0]:
        gaps = np.array([a[judge] - b[judge] for a, b in zip(on, without, strict=True)])
        rises[judge] = Rise(mean=float(gaps.mean()), error=float(gaps.std(ddof=1)) / sqrt(len(gaps)))
    return rises
