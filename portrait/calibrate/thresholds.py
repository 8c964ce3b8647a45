"""Calibrate the judge: limits at false accept rates, for all judges together and for each, per style, from a recipe's own pictures.

Impostors are stylized portraits of other people in the same style: every photo is compared with every
other person's portrait. Genuine pairs are a photo and its own portrait at the first attempt; they do not affect the
thresholds, but tell how many right pictures are accepted. The limit of `style_on_face` comes from copies of the photos, that
of `burned` from the portraits themselves. So do the statistics of each style, for which every person is drawn once more at
one of the dial's ends, from a typical bad photo: gray, faded, dark or small. The other portraits are spread over the dial,
so the rates are for the whole dial; rates along the dial are included too.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from portrait.calibrate.gate import fused_gate, gates_table, passes
from portrait.calibrate.sample import OnPicture, Sample, SampleOptions, StylePictures, measure_sample
from portrait.calibrate.statistics import (
    COPY_QUANTILE,
    AcceptedPictures,
    burned_entry,
    copy_limit,
    copy_quantiles,
    percentiles,
    recognizer_table,
    share_entry,
    shown_entry,
    style_statistics,
    weak_checks,
)
from portrait.judge.checks import format_confusable
from portrait.judge.thresholds import Gate
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.record import library_versions
from portrait.records.calibration import CalibrationTable

log = logging.getLogger(__name__)


def calibrate_thresholds(
    loop: AttemptLoop,
    photos: Sequence[Path],
    options: SampleOptions,
    *,
    on_picture: OnPicture | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Stylize every person in every style and derive the thresholds from the impostor pairs.

    Args:
        loop: The recipe with its judges.
        photos: One photo for each of at least two people that the recipe was not trained on.
        options: Which pictures are made, and the rates.
        on_picture: Called after each picture.
        groups: Person -> kind of group, such as sex -> the person's group; rates within groups are then included.
        source: Where the people came from, in words.

    Returns:
        The table that `judge.thresholds.thresholds_for` reads: gates for every combination of judges and thresholds of each
        judge alone, with counts, 95 % intervals that resample people, EER, TAR, points of the DET curve, and everything
        needed to repeat it. It holds no embeddings.

    Raises:
        TooFewPairsError: there are too few people for a rate; raised before anything is generated.
        SettingsError: a rate is not in (0, 1), or a photo was given twice.
    """
    sample = measure_sample(loop, photos, options, on_picture)
    style_judge = loop.judges.style_judge
    limits = thresholds_from(sample, options.rates, groups=groups, judged=style_judge.limits if style_judge else ())
    for style, weak in weak_checks(CalibrationTable.model_validate(limits)).items():
        log.warning("%s: the check of the style is weak: %s pass it too", style, format_confusable(weak))
    return {
        "recipe": loop.recipe.name,
        **limits,
        "source": source,
        "detector": loop.judges.detector,
        "form": loop.judges.form,
        "balance": options.balance,
        "seed": options.seed,
        "failure_to_acquire": sample.unused,
        "people": sample.people,
        "impostors": sample.impostors,
        "weights": loop.generator.digests,
        "versions": library_versions(),
    }


def thresholds_from(
    sample: Sample,
    rates: Sequence[float],
    *,
    intervals: bool = True,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    judged: Collection[str] = (),
) -> dict[str, Any]:
    """Derive limits from a sample, as `thresholds_for` reads them; rates and groups as in `calibrate_thresholds`.

    The thresholds' `intervals` take most of the time. The `judged` styles get no statistics: a style judge knows how these
    weights draw them.

    Raises:
        TooFewPairsError: there are too few people for a rate.
    """
    limit = copy_limit(sample.copies)
    table: dict[str, dict[str, Any]] = {}
    accepted: dict[str, AcceptedPictures] = {}
    members = _members([*sample.people, *sample.impostors], groups or {})
    for style, pictures in sample.styles.items():
        table[style], passed = _style_entry(pictures, rates, limit, members, intervals=intervals)
        accepted[style] = _accepted_pictures(pictures, passed, fused_gate(pictures.scores, max(rates)), limit)
    for style, statistics in style_statistics(accepted).items():
        table[style]["style_statistics"] = None if style in judged else statistics
        table[style]["features_shown"] = shown_entry(accepted[style].shown)
    reached = copy_quantiles(sample.copies)
    return {
        "styles": table,
        "burned": burned_entry(np.concatenate([pictures.burned for pictures in sample.styles.values()])),
        "copies": {
            "quantile": COPY_QUANTILE,
            "style_on_face": {kind: round(value, 4) for kind, value in reached.items()},
        },
    }


def _members(people: Sequence[str], groups: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Kind of group -> each person's group; empty text if unknown."""
    kinds = dict.fromkeys(kind for entries in groups.values() for kind in entries)
    return {kind: [groups.get(person, {}).get(kind, "") for person in people] for kind in kinds}


def _style_entry(
    pictures: StylePictures,
    rates: Sequence[float],
    limit: float,
    groups: Mapping[str, Sequence[str]],
    *,
    intervals: bool,
) -> tuple[dict[str, object], np.ndarray]:
    """The entry of one style, and (P,) whether each portrait passes at the loosest rate."""
    people = range(len(pictures.styled))
    passed = {}
    for rate in rates:
        genuine = passes(fused_gate(pictures.scores, rate), pictures.scores)[people, people]
        passed[rate] = genuine & (pictures.styled >= limit) & ~pictures.missed
    entry = {
        "knobs": asdict(pictures.knobs),
        "gates": gates_table(pictures.scores, rates, groups, positions=pictures.positions, intervals=intervals),
        "recognisers": {
            judge: recognizer_table(scores, rates, intervals=intervals)[0] for judge, scores in pictures.scores.items()
        },
        "faces_missed": int(pictures.missed.sum()),
        "first_attempt_accepted": {f"{rate:g}": share_entry(values) for rate, values in passed.items()},
        "style_on_face": {"limit": limit, "percentiles_5_50_95": percentiles(pictures.styled)},
    }
    return entry, passed[max(rates)]


def _accepted_pictures(pictures: StylePictures, passed: np.ndarray, gate: Gate, limit: float) -> AcceptedPictures:
    """The portraits, from good and from degraded photos, that would be accepted."""
    alike = passes(gate, pictures.degraded_likeness)
    degraded_passed = alike & (pictures.degraded_styled >= limit) & ~pictures.degraded_missed
    people = np.arange(len(passed))
    return AcceptedPictures(
        features=np.concatenate([pictures.features[passed], pictures.degraded_features[degraded_passed]]),
        styled=np.concatenate([pictures.styled[passed], pictures.degraded_styled[degraded_passed]]),
        shown=np.concatenate([pictures.shown[passed], pictures.degraded_shown[degraded_passed]]),
        people=np.concatenate([people[passed], people[degraded_passed]]),
    )
