"""Intervals computed by hand, the verdict on planted changes, and the report of a run on the fakes."""

from __future__ import annotations

import base64
import csv
import functools
import json
import re
import shutil
import zlib
from dataclasses import replace
from itertools import combinations
from math import ceil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import portrait.report.page as page_module
from portrait.campaign.export import plain_cell
from portrait.campaign.files import before_file, output_file
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.prune import prune_run
from portrait.campaign.run import run_campaign
from portrait.cli.main import main
from portrait.errors import CampaignError, EvaluationError, SettingsError, TooFewPairsError
from portrait.images import write_picture
from portrait.intervals import (
    bootstrap_share_of_pairs,
    cost_interval,
    mean_interval,
    simultaneous_differences,
    wilson,
    wilson_people,
)
from portrait.judge.gallery import genuine_impostor_gap
from portrait.provenance.mark import GENERATED
from portrait.records import Embedding
from portrait.records.portrait import AttemptRecord, GateRecord
from portrait.records.reasons import Reason
from portrait.records.report import DriftReport, DuplicateIdentity, Ratio, ReportJob, ReportPerson, Verdict
from portrait.report.compare import compare, detectable_drift, row_verdict
from portrait.report.drift import compute_report
from portrait.report.page import drift_page
from portrait.report.plots import draw_plots
from portrait.report.runs import Run, portrait_conditions, read_baseline, read_run, selection_free_similarity
from portrait.report.schema import report_schema
from portrait.report.summary import MAX_GROUPS, merge_small_groups
from portrait.report.table import csv_rows
from portrait.report.verification import check_same_person, error_curve, far_interval
from portrait.report.words import chooser, summary_lines
from tests.campaigns import STYLES, database, local, person, write_campaign
from tests.fakes import photo_thresholds_of
from tests.golden_records import golden_portrait

# --- intervals


def test_wilson_of_people_is_wilson_where_each_has_one_picture() -> None:
    passed = np.array([1] * 17 + [0] * 3)
    assert wilson_people(passed, np.arange(20)) == pytest.approx(wilson(17, 20))


def test_pictures_that_stand_or_fall_together_count_as_one() -> None:
    people = np.repeat(np.arange(20), 4)
    together = np.repeat([1] * 15 + [0] * 5, 4)
    assert wilson_people(together, people) == pytest.approx(wilson(15, 20), abs=0.01)
    apart = np.tile([1, 1, 1, 0], 20)
    assert wilson_people(apart, people) == pytest.approx(wilson(60, 80))
    assert wilson_people(np.ones(80), people) == pytest.approx(wilson(20, 20))  # certainty counts people


def test_an_interval_of_a_rate_covers_it_with_few_people_who_are_much_alike_in_all_their_pictures() -> None:
    rng, covered, whose = np.random.default_rng(0), 0, np.repeat(np.arange(7), 8)
    for _ in range(400):
        passed = rng.random(56) < rng.beta(1.87, 0.47, 7)[whose]  # 80 %, with a correlation of 0.3 within people
        low, high = wilson_people(passed, whose)
        covered += low <= 0.8 <= high
    assert covered / 400 > 0.93


def test_an_interval_of_a_mean_is_student_s_over_people_and_not_pictures() -> None:
    people = np.repeat(np.arange(4), 100)
    values = np.repeat([0.4, 0.4, 0.6, 0.6], 100)  # 400 pictures, but only four people
    half = 3.1824 * np.std([0.4, 0.4, 0.6, 0.6], ddof=1) / 2
    assert mean_interval(values, people) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
    assert mean_interval(5 * values, people, (0, 3)) == pytest.approx((2.5 - 5 * half, 3), abs=1e-3)
    assert mean_interval(values[:100], people[:100], (0, 1)) == (0, 1)  # one person says nothing about others


def test_an_interval_of_a_mean_covers_it_with_five_people_of_unequally_many_pictures() -> None:
    rng, covered, whose = np.random.default_rng(0), 0, np.repeat(np.arange(5), [2, 8, 8, 4, 8])
    for _ in range(400):
        low, high = mean_interval(rng.normal(size=5)[whose] + rng.normal(size=30), whose)
        covered += low <= 0 <= high
    assert 0.91 < covered / 400 < 0.98


def test_what_an_accepted_picture_costs_has_fieller_s_interval() -> None:
    """By hand: the ends are the ratios at which the mean of cost - ratio * accepted is just not different from 0."""
    attempts, accepted = np.array([1, 2, 1, 4, 2, 3, 1, 2]), np.array([1, 1, 1, 0, 1, 1, 1, 1])
    low, high = cost_interval(attempts, accepted, np.arange(8))
    for end in (low, high):
        gaps = attempts - end * accepted
        assert abs(gaps.mean()) / (gaps.std(ddof=1) / np.sqrt(8)) == pytest.approx(2.3646, abs=1e-3)
    assert low < 16 / 7 < high


def test_few_people_who_were_all_accepted_are_no_certainty_of_what_a_picture_costs() -> None:
    once = np.ones(5)
    assert cost_interval(once, once, np.arange(5)) == (1, pytest.approx(1 / wilson(5, 5)[0]))
    rare = np.array([1, 0, 0, 0, 0])
    low, high = cost_interval(4 * once, rare, np.arange(5))
    assert low < 20
    assert high == np.inf  # perhaps no picture would ever be accepted
    assert cost_interval(once[:2], once[:2], np.zeros(2)) == (0, np.inf)


def test_what_an_accepted_picture_costs_is_covered_with_few_people() -> None:
    """Up to four attempts, each accepted with a chance of the person's own that is 0.6 on average."""
    rng, covered, whose = np.random.default_rng(0), 0, np.repeat(np.arange(7), 4)
    chances = rng.beta(1.4, 0.93, 100_000)
    accepted_of_all = 1 - (1 - chances) ** 4
    true = (accepted_of_all / chances).mean() / accepted_of_all.mean()
    for _ in range(300):
        needed = rng.geometric(rng.beta(1.4, 0.93, 7)[whose])
        low, high = cost_interval(np.minimum(needed, 4), needed <= 4, whose)
        covered += low <= true <= high
    assert covered / 300 > 0.88


@pytest.mark.slow
@pytest.mark.parametrize(("people", "heavy_tails"), [(7, False), (12, False), (24, False), (12, True)])
def test_simultaneous_intervals_cover_all_their_means_at_once(people: int, heavy_tails: bool) -> None:
    """300 samples of 12 columns without a difference: some interval misses 0 in about 5 % of them, not in 12 x 5 %."""
    rng, missed = np.random.default_rng(3), 0
    for trial in range(300):
        noise = rng.laplace(size=(people, 12)) if heavy_tails else rng.normal(size=(people, 12))
        sample = 0.5 * rng.normal(size=(people, 1)) + noise
        intervals = simultaneous_differences(sample, np.zeros(12), rounds=400, seed=trial).columns
        missed += any(d.low > 0 or d.high < 0 for d in intervals)
    assert 0 < missed / 300 < 0.08


def test_a_column_of_few_changes_does_not_widen_the_others() -> None:
    rng = np.random.default_rng(0)
    rare = np.zeros((12, 4))
    rare[0, :] = 1
    alone = simultaneous_differences(rng.normal(size=(12, 3)), np.zeros(3)).columns
    rng = np.random.default_rng(0)
    beside = simultaneous_differences(np.hstack([rng.normal(size=(12, 3)), rare]), np.array([0] * 3 + [1] * 4)).columns
    for a, b in zip(alone, beside[:3], strict=True):
        assert b.high - b.low < 1.35 * (a.high - a.low)


def test_a_difference_of_the_detectable_size_is_seen_four_times_in_five() -> None:
    rng, detections, detectable = np.random.default_rng(4), 0, []
    for trial in range(200):
        table = rng.normal(0.5, 1.0, size=(40, 1))
        (column,) = simultaneous_differences(table, np.zeros(1), rounds=400, seed=trial).columns
        detections += column.low > 0
        detectable.append(column.detectable)
    assert np.mean(detectable) == pytest.approx(0.46, abs=0.05)  # (2.02 + 0.85) / sqrt(40)
    assert detections / 200 > 0.8


def test_no_change_among_few_people_is_no_certainty_of_yes_and_no() -> None:
    (same,) = simultaneous_differences(np.zeros((10, 1)), np.ones(1)).columns
    assert same.mean == 0
    assert same.high > 0.2
    with pytest.raises(TooFewPairsError):
        simultaneous_differences(np.full((5, 1), np.nan), np.zeros(1))


def test_an_interval_of_a_difference_of_rates_stays_within_one() -> None:
    changed = np.array([-1.0] * 6 + [0.0])[:, None]
    (all_lost,) = simultaneous_differences(changed, np.ones(1)).columns
    assert all_lost.low == -1
    assert all_lost.high < 1


def test_a_person_with_many_pictures_needs_less_of_a_correction_than_one_with_a_single_one() -> None:
    single, mean_of_eight = (
        simultaneous_differences(np.zeros((20, 1)), np.array([step])).columns[0] for step in (1, 1 / 8)
    )
    assert mean_of_eight.high == pytest.approx(single.high / 8)


@pytest.mark.slow
def test_as_many_people_as_are_named_show_that_nothing_moved_four_times_in_five() -> None:
    """Each pilot of 20 people in 6 columns names a number of people, and a new sample of that size is drawn."""
    rng, stable, numbers = np.random.default_rng(6), 0, []
    for trial in range(100):
        sample = [0.5 * rng.normal(size=(n, 1)) + rng.normal(size=(n, 6)) for n in (20, 1000)]
        pilot = simultaneous_differences(sample[0], np.zeros(6), rounds=400, seed=trial)
        numbers.append(pilot.people_for_stability([0.8] * 6, range(6)))
        again = simultaneous_differences(sample[1][: numbers[-1]], np.zeros(6), rounds=400, seed=trial)
        stable += all(d.low > -0.8 and d.high < 0.8 for d in again.columns)
    assert 0.7 < stable / 100 < 0.95, (stable, np.median(numbers))


def test_what_does_not_vary_needs_no_more_people() -> None:
    same = simultaneous_differences(np.zeros((9, 3)), np.zeros(3))
    assert same.people_for_stability([0.1] * 3, range(3)) == 9


# --- the winner's curse


_ATTEMPT = golden_portrait().attempts[0]


def attempt(a: float, d: float, *reasons: str) -> AttemptRecord:
    changes = {"similarity": {"arcface": a, "dlib": d}, "reasons": tuple(map(Reason, reasons))}
    return _ATTEMPT.model_copy(update=changes)


def test_a_judge_is_quoted_where_the_other_one_chose() -> None:
    limits = {"arcface": 0.5, "dlib": 0.9}
    tried = [attempt(0.6, 0.80, "identity_low:dlib"), attempt(0.4, 0.95, "identity_low:arcface"), attempt(0.7, 0.97)]
    assert selection_free_similarity(tried, limits, "dlib") == 0.80  # arcface alone would have taken the first
    assert selection_free_similarity(tried, limits, "arcface") == 0.4  # dlib alone the second
    faulty = [attempt(0.9, 0.99, "not_stylized"), attempt(0.8, 0.95)]
    assert selection_free_similarity(faulty, limits, "dlib") == 0.95  # another fault would have been seen by anybody
    assert (
        selection_free_similarity([attempt(0.3, 0.7, "x"), attempt(0.4, 0.6, "x")], limits, "dlib") == 0.6
    )  # nobody passes: the nearest
    assert (
        selection_free_similarity(tried, {"dlib": 0.9}, "dlib") == 0.80
    )  # a judge alone: the attempt that nobody chose


def test_the_quoted_likeness_is_not_inflated_by_trying_more_often() -> None:
    """Attempts are noise: the more of them, the better the chosen looks to its judge, but not what is quoted."""
    rng = np.random.default_rng(0)
    limits = {"arcface": 1.0, "dlib": 1.0}
    chosen, honest = [], []
    for _ in range(2000):
        tried = []
        for likeness in rng.normal(0, 1, (8, 2)):
            low = [judge for judge, value in zip(limits, likeness, strict=True) if value < 1]
            tried.append(attempt(*likeness, *(f"identity_low:{judge}" for judge in low)))
        best = max(tried, key=lambda one: min(one.similarity.values()))
        chosen.append(best.similarity["dlib"])
        honest.append(selection_free_similarity(tried, limits, "dlib"))
    assert np.mean(chosen) > 0.5
    assert abs(np.mean(honest)) < 0.08


# --- verdicts, on runs made of numbers


def a_run(people: int, shift: float = 0.0, seed: int = 0, *, accept: float = 0.9, style_shift: float = 0.0) -> Run:
    rng, base = np.random.default_rng(seed), np.random.default_rng(99)
    jobs = []
    for n in range(people):
        likeness_of_person = base.normal(0.7, 0.08)
        for style in ("oil", "comic"):
            a, d, s = (
                likeness_of_person + rng.normal(shift, 0.03),
                0.97 + rng.normal(shift / 5, 0.005),
                rng.normal(0.6 + style_shift, 0.03),
            )
            ok = bool(rng.random() < accept)
            scores = {
                "accepted": ok,
                "face_found": True,
                "similarity": {"arcface": a, "dlib": d},
                "style_on_face": s,
                "reasons": [],
            }
            jobs.append(
                {
                    "subject": f"p{n}", "recipe": "mini", "style": style, "axes": {}, "variant": 0, "photo": f"{n}",
                    "state": "accepted" if ok else "rejected", "reasons": [] if ok else ["identity_low:dlib"],
                    "attempts": 1, "seconds": 1.0, "output": None, "first": scores, "delivered": scores, "seed": 1,
                    "quoted": {"arcface": a, "dlib": d}, "thresholds": {"arcface": 0.35, "dlib": 0.945},
                }
            )  # fmt: skip
    listed = [ReportPerson(subject=f"p{n}", columns={}, failure=None) for n in range(people)]
    validated = [ReportJob.model_validate(job) for job in jobs]
    return Run(name="x", jobs=validated, people=listed, genuine_impostor_gap={"arcface": 0.62, "dlib": 0.13})


def verdict(current: Run, baseline: Run) -> Verdict:
    return compare(current, baseline)[1]


def failed(job: ReportJob) -> ReportJob:
    return job.model_copy(update={"delivered": None, "state": "failed"})


def lost(person: ReportPerson) -> ReportPerson:
    return person.model_copy(update={"failure": "no face"})


def test_other_seeds_are_stable_and_a_planted_change_is_drifted() -> None:
    assert verdict(a_run(40, seed=1), a_run(40, seed=2)).verdict == "stable"
    moved = verdict(a_run(40, -0.06, seed=1), a_run(40, seed=2))
    assert moved.verdict == "drifted"
    assert "likeness by" in moved.why
    assert verdict(a_run(40, style_shift=0.1, seed=1), a_run(40, seed=2)).verdict == "drifted"
    assert verdict(a_run(40, accept=0.3, seed=1), a_run(40, seed=2)).verdict == "drifted"


def test_other_seeds_are_hardly_ever_called_drifted() -> None:
    false_alarms = sum(
        verdict(a_run(20, seed=2 * n), a_run(20, seed=2 * n + 1)).verdict == "drifted" for n in range(60)
    )
    assert false_alarms <= 2  # a true change of nothing must also reach the tolerance


def test_a_small_change_that_is_certain_is_not_called_drift() -> None:
    """With very many people every difference is seen; one below the tolerance is still no drift."""
    assert verdict(a_run(600, -0.01, seed=1), a_run(600, seed=2)).verdict == "stable"


def test_too_few_people_are_inconclusive_and_the_number_needed_is_named() -> None:
    few = verdict(a_run(4, seed=1), a_run(4, seed=2))
    assert few.verdict == "inconclusive"
    assert "4 people" in few.why
    some = verdict(a_run(9, seed=1), a_run(9, seed=2))
    assert some.verdict == "inconclusive"
    assert re.search(r"If truly nothing moved, about \d+ people would show it with a probability of 80 %", some.why)


def test_the_named_number_of_people_is_enough_for_a_style_that_few_of_them_have() -> None:
    """Three of 40 have comic: so few say nothing of a style, however alike their pictures are."""

    def of_few(seed: int) -> Run:
        run = a_run(40, seed=seed)
        kept = [job for job in run.jobs if job.style == "oil" or job.subject in ("p0", "p1", "p2")]
        return replace(run, jobs=kept)

    told = re.search(r"about (\d+) people would show it", verdict(of_few(1), of_few(2)).why)
    assert told is not None
    needed = int(told[1])
    assert needed >= 94  # 7 * 40 / 3
    why = verdict(of_few(1), of_few(2)).why
    assert why.endswith(f"with a probability of 80 %, of whom {ceil(needed * 3 / 40)} in comic (now 3)")
    assert "of whom" not in verdict(a_run(9, seed=1), a_run(9, seed=2)).why


def test_the_words_of_a_report_fit_the_number_of_its_judges() -> None:
    assert [chooser("abc"[:n]) for n in (1, 2, 3)] == ["nobody", "the other judge", "the other judges"]


def test_only_the_same_photo_of_the_same_person_is_a_pair() -> None:
    current, baseline = a_run(12, seed=1), a_run(12, seed=2)
    current.jobs[0] = current.jobs[0].model_copy(update={"photo": "another"})
    current.jobs[4:6] = map(failed, current.jobs[4:6])
    current.people[2] = lost(current.people[2])
    comparison, _ = compare(current, baseline)
    assert comparison.people == 11  # one photo of two styles was exchanged, one person is not acquired
    assert comparison.not_paired.other_photo == ("p0",)
    assert comparison.not_paired.no_longer_acquired == ("p2",)


def test_photos_exchanged_between_people_are_named_and_never_stable() -> None:
    current, baseline = a_run(600, seed=1), a_run(600, seed=2)
    owner = {"0": "1", "1": "0"}
    current.jobs[:] = [job.model_copy(update={"photo": owner.get(job.photo, job.photo)}) for job in current.jobs]
    exchanged, of_all = compare(current, baseline)
    assert exchanged.not_paired.exchanged == (("p0", "p1"), ("p1", "p0"))
    assert of_all.verdict == "inconclusive"
    assert "p0 has the photo of p1, p1 has the photo of p0" in of_all.why


def test_a_renamed_person_is_named_and_no_reason_against_stable() -> None:
    current, baseline = a_run(600, seed=1), a_run(600, seed=2)
    current.jobs[:] = [
        job.model_copy(update={"subject": "anna"}) if job.subject == "p0" else job for job in current.jobs
    ]
    comparison, of_all = compare(current, baseline)
    assert comparison.not_paired.renamed == (("anna", "p0"),)
    report = compute_report(current).model_copy(update={"comparison": comparison, "verdict": of_all})
    assert "renamed since the baseline, and not compared: p0 is anna" in summary_lines(report)
    assert of_all.verdict == "stable"


def test_a_person_who_is_lost_keeps_a_run_from_being_stable() -> None:
    current = a_run(40, seed=1)
    current.jobs[:2] = map(failed, current.jobs[:2])
    current.people[0] = lost(current.people[0])
    verdict_now = verdict(current, a_run(40, seed=2))
    assert verdict_now.verdict == "inconclusive"
    assert "could not be acquired" in verdict_now.why


@pytest.mark.slow
def test_a_run_that_is_not_finished_is_never_stable(made: Path, tmp_path: Path) -> None:
    current, baseline = a_run(40, seed=1), a_run(40, seed=2)
    for side in (current, baseline):
        verdict_now = compare(replace(side, pending=3), baseline if side is current else current)[1]
        assert verdict_now.verdict == "inconclusive"
    assert "3 pictures of this run are not made yet" in verdict(replace(current, pending=3), baseline).why
    assert verdict(replace(a_run(40, -0.06, seed=1), pending=3), baseline).verdict == "drifted"
    run_campaign(read_plan(made / "campaign.toml"), tmp_path / "half", local(), limit=20)
    report = compute_report(read_run(tmp_path / "half"))
    assert report.run.pending == 34 - 20
    assert "14 pictures are not made yet" in drift_page(tmp_path / "half")
    assert "not made yet, and not included in any figure: 14 pictures" in summary_lines(report)


def test_a_style_or_a_picture_that_was_dropped_keeps_a_run_from_being_stable() -> None:
    current, baseline = a_run(40, seed=1), a_run(40, seed=2)
    assert verdict(current, baseline).verdict == "stable"
    no_comic = replace(current, jobs=[job for job in current.jobs if job.style == "oil"])
    verdict_now = verdict(no_comic, baseline)
    assert verdict_now.verdict == "inconclusive"
    assert verdict_now.why == "40 pictures of the baseline are not in this run, all of comic among them"
    assert verdict(baseline, no_comic).verdict == "stable"  # a new style is compared with nothing
    less = replace(current, jobs=current.jobs[:-1])
    assert "1 pictures of the baseline are not in this run" in verdict(less, baseline).why
    one = replace(current, jobs=[job for job in current.jobs if job.style == "oil" or job.subject == "p3"])
    few = replace(baseline, jobs=[job for job in baseline.jobs if job.style == "oil" or job.subject == "p3"])
    assert verdict(one, few).why == "only one person is in both runs in comic; it needs 7 or more"
    more = a_run(50, seed=2)  # other people are another sample, and no reason
    assert verdict(current, more).verdict == "stable"


def test_the_same_pictures_are_called_the_same() -> None:
    same = verdict(a_run(40, seed=1), a_run(40, seed=1))
    assert (same.verdict, same.why) == ("stable", "all 80 pictures have the very same scores")
    seen = [job.model_copy(update={"pixels_sha256": f"{n}"}) for n, job in enumerate(a_run(40, seed=1).jobs)]
    run = replace(a_run(40, seed=1), jobs=seen)
    assert verdict(run, run).why == "all 80 pictures are identical"
    few = replace(run, jobs=seen[:6])
    assert verdict(few, few).why.startswith("all 6 pictures are identical; 3 people are in both runs")
    assert verdict(replace(run, pending=2), run).why == (
        "all 80 pictures are identical; 2 pictures of this run are not made yet"
    )


def test_other_conditions_are_named() -> None:
    """Those that both runs name; a report of before names none."""
    old = replace(a_run(40, seed=2), conditions={"setting far": "0.01", "device": "cpu", "version of dlib": "20.0"})
    new = replace(a_run(40, seed=1), conditions={"setting far": "0.001", "device": "cpu"})
    assert compare(new, old)[0].differing_conditions == ("setting far: 0.001, before 0.01",)
    report = compute_report(new, old)
    assert "not made under the same conditions; setting far: 0.001, before 0.01" in summary_lines(report)
    assert compare(new, replace(old, conditions={}))[0].differing_conditions == ()
    with_lora = replace(new, conditions=old.conditions | {"weights a lora": "0123456789ab"})
    assert compare(with_lora, old)[0].differing_conditions == ("weights a lora: 0123456789ab, before none",)
    assert compare(old, with_lora)[0].differing_conditions == ("weights a lora: none, before 0123456789ab",)


def test_every_limit_of_a_picture_is_a_condition_of_its_run() -> None:
    """Of all judges together too, whose floors may stay while their joint limit is another."""
    record = golden_portrait()
    gate = GateRecord(weights={"arcface": 20.0, "dlib": 9.5}, offset=-14.0, least=3.5, far=0.01)
    limits = record.limits.model_copy(update={"changed": {"skin": 8.0}, "kept": {"pose": 0.1}, "style_distance": 2.5})
    conditions = portrait_conditions(record.model_copy(update={"gate": gate, "limits": limits}))
    place = f"in {record.recipe}, {record.style}"
    assert conditions[f"limit of all judges together {place}"] == "3.5 of -14 + 20 arcface + 9.5 dlib"
    for name, value in (("burned", "0.05"), ("skin", "8.0"), ("pose", "0.1"), ("style_distance", "2.5")):
        assert conditions[f"limit of {name} {place}"] == value
    assert conditions["judges"] == "arcface + dlib"


def test_the_texts_and_curves_that_pictures_were_made_with_are_conditions_by_digest(made: Path, tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    for run in (before, now):
        shutil.copytree(made / "run", run)
    assert compare(read_run(now), read_run(before))[0].differing_conditions == ()
    with database(now) as ledger:
        (text,) = ledger.execute("SELECT value FROM meta WHERE name = 'snapshot'").fetchone()
        snapshot = json.loads(text)
        snapshot["recipes"]["mini"]["styles"]["oil"]["curves"] = "0123456789abcdef"
        snapshot["recipes"]["mini"]["resolution"] = 7
        snapshot["settings"]["keep"] = ["mask:0123"]
        ledger.execute("UPDATE meta SET value = ? WHERE name = 'snapshot'", (json.dumps(snapshot),))
        ledger.execute(
            "UPDATE results SET record = json_set(record, '$.prompt', 'another') WHERE record LIKE '%\"oil\"%'"
        )
    report = compute_report(read_run(now), read_run(before))
    assert report.comparison is not None
    differing = [text.split(":")[0] for text in report.comparison.differing_conditions]
    assert differing == ["prompt in mini, oil", "recipe mini", "curves in mini, oil", "keep"]
    assert "curves in mini, oil: 0123456789ab, before " in summary_lines(report)[1]
    prompt, *_ = report.comparison.differing_conditions
    assert re.fullmatch(r"prompt in mini, oil: [0-9a-f]{12}, before [0-9a-f]{12}", prompt)


@pytest.mark.parametrize(
    "snapshot", [{}, {"recipes": 3, "settings": []}, {"recipes": {"mini": {"styles": {"oil": 5}}}}]
)
def test_a_snapshot_that_is_not_ours_says_nothing_of_texts_and_curves(
    made: Path, tmp_path: Path, snapshot: dict[str, object]
) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    with database(tmp_path / "run") as ledger:
        ledger.execute("UPDATE meta SET value = ? WHERE name = 'snapshot'", (json.dumps(snapshot),))
    differing = compare(read_run(tmp_path / "run"), read_run(made / "run"))[0].differing_conditions
    assert all(text.startswith("recipe mini: ") for text in differing)


def test_a_failure_that_is_not_the_photo_s_is_no_failure_to_acquire() -> None:
    current = a_run(40, seed=1)
    current.jobs[:2] = map(failed, current.jobs[:2])
    left, verdict_now = compare(current, a_run(40, seed=2))
    assert left.not_paired.no_longer_acquired == ()
    assert left.not_paired.failed_current == 2
    assert verdict_now.why == "2 pictures of this run failed"


def test_a_tolerance_outlives_the_embeddings_it_was_measured_by(made: Path, tmp_path: Path) -> None:
    """Pruned, both runs know how far a stranger is: every row keeps its tolerance. Of two that never did, nothing is
    stable; one that does is enough."""
    current, baseline = read_run(made / "again"), read_run(made / "run")
    for name in ("again", "run"):
        shutil.copytree(made / name, tmp_path / name)
        prune_run(tmp_path / name, embeddings=True)
    pruned = [read_run(tmp_path / name) for name in ("again", "run")]
    assert not pruned[1].identities
    assert pruned[1].genuine_impostor_gap == pytest.approx(baseline.genuine_impostor_gap, abs=1e-5)
    before, after = compare(current, baseline)[0].rows, compare(*pruned)[0].rows
    assert [row.tolerance for row in after] == pytest.approx([row.tolerance for row in before], abs=2e-5)
    a, b = a_run(40, seed=1), a_run(40, seed=2)
    assert verdict(replace(a, genuine_impostor_gap={}), replace(b, genuine_impostor_gap={})).why.startswith(
        "how far a stranger is"
    )
    tolerances = [row.tolerance for row in compare(a, b)[0].rows]
    one, _ = compare(a, replace(b, genuine_impostor_gap={}))
    assert [row.tolerance for row in one.rows] == tolerances
    moved = a_run(40, -0.08, seed=1)  # of dlib by 0.016: more than 5 % of 0.13, less than 5 % of 0.5
    comparison = compare(moved, replace(b, genuine_impostor_gap={}))[0].rows
    assert next(row for row in comparison if row.judge == "dlib").verdict == "drifted"


def test_the_separation_is_the_mean_of_all_own_pairs_minus_that_of_all_others() -> None:
    rng = np.random.default_rng(0)
    people = {name: {"dlib": v / np.linalg.norm(v)} for name, v in zip("abc", rng.normal(size=(3, 8)), strict=True)}
    made_ = [(name, {"dlib": v / np.linalg.norm(v)}) for name, v in zip("aabc", rng.normal(size=(4, 8)), strict=True)]
    pairs = [(name == own, people[name]["dlib"] @ seen["dlib"]) for own, seen in made_ for name in people]
    genuine, impostor = (np.mean([score for same, score in pairs if same is kind]) for kind in (True, False))
    assert genuine_impostor_gap(people, [*made_, ("a", {})]) == {"dlib": round(float(genuine - impostor), 5)}
    assert genuine_impostor_gap({"a": people["a"]}, made_[:1]) == {}


# --- groups


def test_more_groups_than_can_be_shown_are_put_together_and_not_dropped() -> None:
    values = {f"{chr(97 + n)}{i}": chr(97 + n) for n in range(20) for i in range(6 + n)}
    named = merge_small_groups(values)
    assert len(set(named.values())) == MAX_GROUPS
    assert named["a0"] == "(others: 9 groups)"
    assert named["t0"] == "t"
    assert named.keys() == values.keys()


def test_no_group_is_shown_that_is_too_small_or_could_be_found_by_subtraction() -> None:
    values = {f"a{n}": "art" for n in range(8)} | {f"b{n}": "law" for n in range(6)} | {"c": "board"}
    named = merge_small_groups(values)
    assert set(named.values()) == {"art", "(others: 2 groups)"}  # law joins, or board would be all minus the rest
    values |= {f"c{n}": "it" for n in range(4)}
    assert set(merge_small_groups(values).values()) == {"art", "law", "(others: 2 groups)"}
    assert set(merge_small_groups({"a": "x"}).values()) == {"(x)"}


# --- a run on the fakes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 people in two styles with a table of departments; one photo shows nobody."""
    folder = tmp_path_factory.mktemp("drift")
    plan = write_campaign(folder, people=16)
    write_picture(folder / "people" / "nobody.png", person(3, blue=255))
    rows = ["subject,photo,department", *(f"p{n:02},people/p{n:02}.png,{'art' if n < 9 else 'law'}" for n in range(16))]
    (folder / "people.csv").write_text("\n".join([*rows, "nobody,people/nobody.png,law"]))
    plan.write_text(plan.read_text().replace('subjects = "people"', 'subjects = "people.csv"'))
    run_campaign(read_plan(plan), folder / "run", local())
    plan.write_text(plan.read_text() + "seed = 2\n")
    run_campaign(read_plan(plan), folder / "again", local())
    return folder


def test_the_report_counts_failures_and_drops_none(made: Path) -> None:
    report = compute_report(read_run(made / "run"))
    missing = report.failure_to_acquire
    assert (missing.count, missing.of) == (1, 17)
    assert missing.people[0].subject == "nobody"
    assert report.overall.pictures == 32
    assert report.overall.accepted is not None
    assert report.overall.accepted.of == 32
    assert report.overall.not_acquired == 2
    with Ledger.open(made / "run") as ledger:
        counts = ledger.counts()
    assert report.overall.attempts == counts.attempts
    assert report.overall.accepted.count == counts.accepted
    assert [g.group for g in report.groups["department"]] == ["art", "law"]
    assert sum(g.pictures for g in report.groups["department"]) == 32


def test_genuine_and_impostor_pairs_are_all_of_the_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = photo_thresholds_of(2.0)  # or most of these stripes look alike
    monkeypatch.setattr("portrait.judge.gallery.photo_thresholds", lambda: unreachable)
    report = compute_report(read_run(made / "run"))
    for entry in report.verification:
        assert entry.genuine_pairs == 16
        assert entry.impostor_pairs == 16 * 15
        assert sum(entry.genuine.counts) == 16
        assert sum(entry.impostor.counts) == 16 * 15
        far, frr = [p[1] for p in entry.det], [p[2] for p in entry.det]
        assert far == sorted(far, reverse=True)
        assert frr == sorted(frr)
        assert (far[0], frr[0], far[-1], frr[-1]) == (1, 0, 0, 1)


def test_a_curve_is_exact_where_few_impostors_and_few_of_the_right_people_are_left() -> None:
    """36 people: 36 genuine pairs among 1,260 impostors, and the last impostor that passes is where it matters."""
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(0.7, 0.1, 36).astype(np.float32), rng.normal(0.3, 0.12, 36 * 35).astype(np.float32)
    curve = np.array(error_curve(genuine, impostor))
    for passing in (0, 1, 2):
        limit = np.sort(impostor)[-1 - passing]  # above it are so many impostors
        frr = curve[curve[:, 1] <= passing / impostor.size + 1e-5, 2].min()
        assert frr == pytest.approx(float((genuine <= limit).mean()), abs=1e-5)
    assert len({frr for _, _, frr in curve}) == 37  # every one of the few genuine pairs is a step of it
    assert len(curve) < 250


def test_the_interval_of_false_accepts_is_over_people_with_all_their_pictures() -> None:
    """Only second pictures pass for somebody else: an interval of first pictures would say that none does."""
    people = [f"p{n}" for n in range(12)]
    passed = np.zeros((12, 24), bool)
    passed[:, 12:] = np.random.default_rng(0).random((12, 12)) < 0.3
    passed[np.arange(12), np.arange(12)] = passed[np.arange(12), 12 + np.arange(12)] = True  # their own, never counted
    is_own = np.array(people)[:, None] == np.array(people + people)
    low, high = far_interval(people, people + people, passed, ~is_own) or pytest.fail("no interval")
    assert 0 < low < passed[~is_own].mean() < high < 0.3
    assert far_interval(people, people, np.eye(12, dtype=bool), ~np.eye(12, dtype=bool)) == (
        0,
        round(wilson(0, 12)[1], 5),
    )
    assert far_interval(people, ["p0", "p1"], np.ones((12, 2), bool), ~is_own[:, :2]) is None


def test_the_interval_of_a_share_of_pairs_covers_it_about_as_often_as_it_says() -> None:
    """Some people pass for many others: the pairs of a person stand or fall together."""
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        wolf = rng.random(40) < 0.3
        above = (rng.random((40, 40)) < np.where(wolf, 0.4, 0.05)[None]) * (1 - np.eye(40))
        low, high = bootstrap_share_of_pairs(above, 1 - np.eye(40), rounds=300, seed=trial)
        covered += low <= 0.3 * 0.4 + 0.7 * 0.05 <= high
    assert 0.88 < covered / 200 < 0.99


def test_a_report_stands_though_a_person_s_embedding_is_gone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    with database(tmp_path / "run") as ledger:
        ledger.execute("UPDATE subjects SET embeddings = NULL WHERE name = 'p03'")
    report = compute_report(read_run(tmp_path / "run"))
    assert {entry.genuine_pairs for entry in report.verification} == {15}
    assert report.same_person is not None
    assert len(report.same_person.people) == 16


def test_portraits_of_people_who_look_alike_as_photos_are_not_those_of_different_people() -> None:
    """p1 is p0 under another name: their portraits are as alike as one person's, and no measure of strangers."""
    rng, run = np.random.default_rng(0), a_run(20)
    faces = {f"p{n}": rng.normal(size=64) for n in range(20)} | {"p1": np.ones(64), "p0": np.ones(64)}
    seen = [faces[job.subject] + 0.3 * rng.normal(size=64) for job in run.jobs]
    run = replace(run, embeddings=[dict.fromkeys(("arcface", "dlib"), Embedding(v / np.linalg.norm(v))) for v in seen])
    pair = DuplicateIdentity(subjects=("p0", "p1"), similarity={})
    known, unknown = (check_same_person(run, duplicates) or pytest.fail("nobody") for duplicates in ([pair], []))
    strangers = [
        float(run.embeddings[i]["dlib"] @ run.embeddings[j]["dlib"])
        for i, j in combinations(range(40), 2)
        if run.jobs[i].subject != run.jobs[j].subject and {run.jobs[i].subject, run.jobs[j].subject} != {"p0", "p1"}
    ]
    assert known.limits["dlib"] == pytest.approx(sorted(strangers)[-1 - len(strangers) // 100], abs=1e-4)
    assert (known.limits["dlib"] or 0) < (unknown.limits["dlib"] or 0)


def test_the_same_plan_with_other_seeds_has_not_drifted(made: Path) -> None:
    report = compute_report(read_run(made / "again"), read_run(made / "run"))
    assert report.verdict is not None
    assert report.comparison is not None
    assert report.verdict.verdict != "drifted"
    assert report.comparison.people == 16
    assert {row.measure for row in report.comparison.rows} == {"likeness", "style_on_face", "accepted"}


@pytest.mark.slow
def test_a_planted_change_of_a_knob_is_drift_and_ends_with_three(made: Path) -> None:
    plan = made / "planted.toml"
    plan.write_text((made / "campaign.toml").read_text() + "ip_adapter_scale = 0.0\n")
    run_campaign(read_plan(plan), made / "planted", local())
    out = made / "planted-report"
    argv = ["drift", str(made / "planted"), "--baseline", str(made / "run"), "--quiet", "--fail-on", "drifted"]
    argv += ["--html", str(out / "x.html"), "--json", str(out / "x.json"), "--csv", str(out / "x.csv")]
    assert main(argv) == 3
    report = json.loads((out / "x.json").read_text())
    assert report["comparison"]["differing_conditions"] == ["setting ip_adapter_scale: 0.0, before None"]
    assert "setting ip_adapter_scale: 0.0, before None" in (out / "x.html").read_text()
    verdict_ = report["verdict"]
    assert "likeness" in verdict_["why"]
    assert ": -" in verdict_["why"]  # away from the person


def test_odd_pictures_and_people_come_first(made: Path) -> None:
    run = read_run(made / "run")
    chosen = [n for n, job in enumerate(run.jobs) if job.style == "oil"]
    run.looks[chosen[3]] = {name: value + 30 for name, value in run.looks[chosen[3]].items()}
    swapped = chosen[5]
    run.embeddings[swapped] = {"arcface": -run.embeddings[swapped]["arcface"], "dlib": -run.embeddings[swapped]["dlib"]}
    report = compute_report(run)
    (oil,) = [entry for entry in report.consistency if entry.style == "oil"]
    assert oil.odd >= 1
    odd = max(report.jobs, key=lambda job: job.appearance.distance if job.appearance else 0)
    assert odd == report.jobs[chosen[3]]
    assert report.same_person is not None
    first = report.same_person.people[0]
    assert first.subject == run.jobs[swapped].subject
    assert first.odd_one_out.style == "oil"


def test_every_number_of_the_json_is_in_the_csv(made: Path) -> None:
    """Each number of the report in turn becomes one that there is only once, and must come up in a cell. What names a
    row is a number too, and points of curves and bins of histograms are excepted, as the schema says."""
    report = compute_report(read_run(made / "again"), read_run(made / "run"))
    duplicate = DuplicateIdentity(subjects=("p01", "p02"), similarity={"dlib": 0.97})
    report = report.model_copy(update={"duplicate_identities": (duplicate,)})
    keys_by_value: dict[float, str] = {}

    def mark(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            left = {"schema"} | ({"det", "genuine", "impostor"} if "det" in value else set())
            left |= {"variant"} if "state" in value else set()
            return {k: v if k in left else mark(v, f"{place}.{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [mark(inner, place) for inner in value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        count = len(keys_by_value) + 1
        number = (count + 0.5) / 1024 if isinstance(value, float) else count  # scores are small
        keys_by_value[number] = place
        return number

    marked = DriftReport.model_validate(mark(report.dump(), "report"))
    cells = {cell for row in csv_rows(marked) for cell in (row.value, row.low, row.high, row.count, row.of)}
    assert {place for number, place in keys_by_value.items() if number not in cells} == set()
    assert len(keys_by_value) > 1000
    places = [(row.section, row.recipe, row.style, row.column, row.group, row.measure) for row in csv_rows(report)]
    assert len(set(places)) == len(places)


@pytest.mark.slow
def test_json_csv_and_summary_carry_the_same_numbers_and_follow_the_schema(made: Path, capsys: Any) -> None:
    out = made / "out"
    argv = ["drift", str(made / "again"), "--baseline", str(made / "run"), "--html", str(out / "x.html")]
    assert main([*argv, "--json", str(out / "x.json"), "--csv", str(out / "x.csv")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "x.json").read_text())
    assert report["verdict"]["verdict"].upper() in printed
    rows = list(csv.DictReader((out / "x.csv").read_text("utf-8-sig").splitlines()))
    assert len(rows) == len(csv_rows(DriftReport.model_validate(report)))
    (accepted,) = [r for r in rows if (r["section"], r["measure"]) == ("overall", "accepted")]
    assert float(accepted["value"]) == report["overall"]["accepted"]["rate"]
    assert float(accepted["low"]) == report["overall"]["accepted"]["interval"][0]
    for style in report["styles"]:
        (row,) = [
            r for r in rows if (r["section"], r["style"], r["measure"]) == ("style", style["style"], "style_on_face")
        ]
        assert float(row["value"]) == style["style_on_face"]["mean"]
    jsonschema.Draft202012Validator(report_schema()).validate(report)


@pytest.mark.slow
def test_a_kept_json_is_as_good_a_baseline_as_the_run(made: Path) -> None:
    out = made / "kept.json"
    main(
        [
            "drift",
            str(made / "run"),
            "--json",
            str(out),
            "--html",
            str(made / "y.html"),
            "--csv",
            str(made / "y.csv"),
            "--quiet",
        ]
    )
    current = read_run(made / "again")
    a, b = compare(current, read_baseline(out)), compare(current, read_baseline(made / "run"))
    assert a[1].verdict == b[1].verdict
    for x, y in zip(a[0].rows, b[0].rows, strict=True):
        assert x.difference == pytest.approx(y.difference, abs=1e-4)
    assert "embedding" not in out.read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, -1e308])
@pytest.mark.parametrize("key", ["separation", "quoted", "style_on_face"])
def test_a_number_of_a_baseline_that_no_judge_gives_is_refused(tmp_path: Path, key: str, value: float) -> None:
    """An infinite gap to strangers would make every row stable, and what follows from others would not be JSON."""
    values: dict[str, Any] = compute_report(a_run(8, seed=2)).dump()
    job = values["jobs"][0]
    owners = {"separation": values["separation"], "quoted": job["quoted"], "style_on_face": job["delivered"]}
    name = key if key == "style_on_face" else "dlib"
    owners[key][name] = value
    (tmp_path / "baseline.json").write_text(json.dumps(values))
    with pytest.raises(SettingsError, match=f"is not the JSON of a report: .*{name}"):
        read_baseline(tmp_path / "baseline.json")


def test_drift_ends_with_three(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = compute_report(read_run(made / "run"))
    drifted = Verdict(verdict="drifted", why="", power=None)
    inconclusive = Verdict(verdict="inconclusive", why="", power=None)
    stable = Verdict(verdict="stable", why="", power=None)
    for verdict, fail_on, code in (
        (drifted, "drifted", 3),
        (drifted, None, 0),
        (inconclusive, "drifted", 0),
        (inconclusive, "unclear", 3),
        (stable, "unclear", 0),
    ):
        with_verdict = report.model_copy(update={"verdict": verdict})
        monkeypatch.setattr("portrait.cli.drift.write_report", lambda *a, outcome=with_verdict, **k: outcome)
        baseline = ["--baseline", str(made / "again")]
        assert main(["drift", str(made / "run"), *baseline, *(["--fail-on", fail_on] if fail_on else [])]) == code


def test_what_is_not_a_run_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="is not a campaign run"):
        read_run(tmp_path)
    with Ledger.create(tmp_path / "empty"), pytest.raises(EvaluationError, match="nothing was made yet"):
        read_run(tmp_path / "empty")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SettingsError, match="neither a run's folder nor"):
        read_baseline(tmp_path / "x.json")


def test_without_embeddings_the_rest_of_the_report_stands(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.clear_embeddings() > 0
    report = compute_report(read_run(tmp_path / "run"))
    assert report.verification == ()
    assert report.same_person is None
    assert report.overall.accepted is not None
    assert report.overall.accepted.of == 32


# --- the page


@pytest.mark.slow
def test_the_page_loads_nothing_and_holds_every_picture(made: Path) -> None:
    page = drift_page(made / "again", made / "run")
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "url(http" not in page
    assert "default-src 'none'" in page
    assert page.count('<li class="card') == 32
    assert len(re.findall(r'id="([^"]+)"', page)) == len(set(re.findall(r'id="([^"]+)"', page)))
    for heading in ("Against the baseline", "By style", "Pictures", "Likeness", "One look", "Groups", "Method"):
        assert f"<h2>{heading}</h2>" in page
    report = compute_report(read_run(made / "again"), read_run(made / "run"))
    assert report.verdict is not None
    assert report.verdict.verdict in page
    assert page.count('<svg class="plot"') >= 7


@pytest.mark.slow
def test_beside_a_picture_stands_that_of_the_same_recipe_and_photo(made: Path, tmp_path: Path) -> None:
    """A baseline of two recipes has two pictures of each place, and another photo's is none of it."""
    shutil.copytree(made / "run", tmp_path / "two")
    with database(tmp_path / "two") as ledger:
        columns = "subject, style, axes, variant, stem, state, round, attempts, seconds, reasons, output"
        ledger.execute(
            f"INSERT INTO jobs(key, place, recipe, {columns}) SELECT 'other' || key, place + 100, 'other', {columns} "
            "FROM jobs WHERE subject = 'p00'"
        )
        elsewhere = (
            "stem = replace(stem, 'mini', 'other'), output = replace(output, 'mini', 'other')"  # files that are gone
        )
        ledger.execute(f"UPDATE jobs SET {elsewhere} WHERE recipe = 'other'")
        photos = json.dumps([{"path": "x.png", "sha256": "0" * 64}])
        ledger.execute("UPDATE subjects SET photos = ? WHERE name = 'p01'", (photos,))
    page = drift_page(made / "again", tmp_path / "two")
    cards = page.split('<li class="card')[1:]
    beside = [re.findall(r'aria-label="(p\d\d),', card)[0] for card in cards if '<img class="old"' in card]
    assert sorted(beside) == [f"p{n:02}" for n in range(16) if n != 1 for _ in STYLES[:2]]


@pytest.mark.slow
def test_plots_hide_no_reason_and_no_open_end(made: Path) -> None:
    report = compute_report(read_run(made / "run"))

    def drawn(interval: tuple[float, float | None]) -> dict[str, str]:
        cost = Ratio(value=3.0, interval=interval)
        reasons = {f"reason_{n}": 20 - n for n in range(11)}
        style = report.styles[0].model_copy(update={"reasons": reasons, "attempts_per_accepted": cost})
        return draw_plots(report.model_copy(update={"styles": (style, *report.styles[1:])}))

    plots = drawn((1.5, None))
    assert "reason 6" in plots["reasons"]
    assert "reason 7" not in plots["reasons"]
    assert "4 rarer reasons" in plots["reasons"] or "5 rarer reasons" in plots["reasons"]
    closed = drawn((1.5, 3.0))["effort"]
    assert plots["effort"].count("<use") == closed.count("<use") + 1  # an arrow where there is no end


@pytest.mark.slow
def test_the_worst_row_is_inside_the_chart(made: Path) -> None:
    """40 tolerances away, where nearly all others lie within two."""
    report = compute_report(read_run(made / "again"), read_run(made / "run"))
    comparison = report.comparison or pytest.fail("no comparison")
    worst = comparison.rows[0]
    far = {"difference": 40 * worst.tolerance, "interval": (38 * worst.tolerance, 42 * worst.tolerance)}
    rows = (worst.model_copy(update=far), *comparison.rows[1:])
    changed = comparison.model_copy(update={"rows": rows})
    chart = draw_plots(report.model_copy(update={"comparison": changed}))["differences"]
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', chart)[1])  # type: ignore[index]
    markers = [float(x) for x in re.findall(r'<use [^>]*x="([-\d.]+)"', chart)]
    assert len(markers) >= len(rows)
    assert all(0 < x < width for x in markers)


def test_a_curve_ends_where_no_error_was_seen(made: Path) -> None:
    """Where no rate is between 0 and 1 nothing is drawn, and the legend says why."""
    report = compute_report(read_run(made / "run"))
    entry = report.verification[0]
    apart = entry.model_copy(update={"det": ((0.1, 1.0, 0.0), (0.5, 0.0, 0.0), (0.9, 0.0, 1.0))})
    entries = (apart, *report.verification[1:])
    chart = draw_plots(report.model_copy(update={"verification": entries}))[f"det {entry.judge}"]
    assert f"{entry.style} (no errors)" in chart


def test_names_from_outside_are_text_and_no_markup(tmp_path: Path) -> None:
    """Of people, groups, columns and the run. Files have other names: a ledger that says otherwise is refused."""
    plan = write_campaign(tmp_path, people=12, styles=("oil",))
    rows = ["subject,photo,<b>team</b>"]
    rows += [f"p{n} <img src=y>,people/p{n:02}.png,{'<script>x' if n < 6 else 'y'}" for n in range(12)]
    (tmp_path / "people.csv").write_text("\n".join(rows))
    text = plan.read_text().replace('subjects = "people"', 'subjects = "people.csv"')
    plan.write_text(text.replace('name = "test"', 'name = "<img src=x onerror=alert(1)>"'))
    run_campaign(read_plan(plan), tmp_path / "run", local())
    page = drift_page(tmp_path / "run")
    for markup in ("<script>x", "<b>team", "<img src=x", "<img src=y"):
        assert markup not in page
    for text in (
        "&lt;script&gt;x",
        "&lt;b&gt;team",
        "p1 &lt;img src=y&gt;",
        "&lt;img src=x onerror=alert(1)&gt;",
    ):
        assert text in page
    with database(tmp_path / "run") as ledger:
        ledger.execute("UPDATE jobs SET stem = '\"><img src=y>/mini/oil_1'")
    with pytest.raises(CampaignError, match="names files that no run would create"):
        drift_page(tmp_path / "run")


def test_a_judge_s_name_is_text_in_its_plots(made: Path) -> None:
    report = compute_report(read_run(made / "run"))
    name = r'" onload="alert(1)" \2 $\frac$'
    entries = tuple(entry.model_copy(update={"judge": name}) for entry in report.verification)
    plots = draw_plots(report.model_copy(update={"verification": entries}))
    for kind in ("likeness", "roc", "det"):
        opening = plots[f"{kind} {name}"].partition(">")[0]
        assert r' by &quot; onload=&quot;alert(1)&quot; \2 $\frac$"' in opening


def test_a_file_of_a_run_that_is_no_picture_is_an_empty_frame(tmp_path: Path) -> None:
    """Nor one that another program would be started for, or that says it is larger than the memory."""
    picture = tmp_path / "picture.png"
    write_picture(picture, np.zeros((8, 8, 3), np.uint8))
    data = picture.read_bytes()
    size = b"IHDR" + (30000).to_bytes(4, "big") * 2 + data[24:29]
    header = size + zlib.crc32(size).to_bytes(4, "big")
    text = b"zTXtk\0\0" + zlib.compress(b" " * 2**27)
    for damaged in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        data[:12] + header + data[33:],
        data[:33] + (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big") + data[33:],
    ):
        picture.write_bytes(damaged)
        assert page_module._thumbnail(tmp_path, "picture.png", 128, 7000) == ""


def test_the_small_portraits_of_a_page_say_that_they_are_generated_and_the_photos_do_not(tmp_path: Path) -> None:
    run = a_run(1)
    stems = [f"{job.subject}/{job.recipe}/oil_1" for job in run.jobs]
    outputs = [output_file(stem, "accepted", ".png") for stem in stems]
    run.jobs[:] = [job.model_copy(update={"output": file}) for job, file in zip(run.jobs, outputs, strict=True)]
    for file in {*outputs, *map(before_file, stems)}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write_picture(tmp_path / file, np.full((64, 64, 3), 90, np.uint8))
    page = page_module.render_page(compute_report(run), tmp_path)
    shown = {
        where: [base64.b64decode(text) for text in re.findall(rf"{where}data:image/webp;base64,([\w+/=]+)", page)]
        for where in ('src="', r"url\(")
    }
    assert [len(pictures) for pictures in shown.values()] == [len(outputs), len({*map(before_file, stems)})]
    assert all(GENERATED.encode() in picture for picture in shown['src="'])
    assert not any(GENERATED.encode() in picture for picture in shown[r"url\("])


@pytest.mark.slow
def test_a_page_of_a_thousand_pictures_stays_below_25_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is the worst that can be compressed. All pictures are links to one, which is made small only once here."""
    drawn = functools.cache(page_module._thumbnail)
    monkeypatch.setattr(
        page_module,
        "_thumbnail",
        lambda folder, file, *size: drawn(
            tmp_path, str((folder / file).resolve().relative_to(tmp_path.resolve())), *size
        ),
    )
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    write_picture(tmp_path / "noise.png", noise)
    run = a_run(500)
    stems = [f"{job.subject}/{job.recipe}/oil_1" for job in run.jobs]
    outputs = [output_file(stem, "accepted", ".png") for stem in stems]
    run.jobs[:] = [job.model_copy(update={"output": file}) for job, file in zip(run.jobs, outputs, strict=True)]
    for link in {*outputs, *map(before_file, stems)}:
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(tmp_path / "noise.png")
    page = page_module.render_page(compute_report(run), tmp_path)
    assert page.count('<li class="card') == page.count("<img loading") == 1000
    assert len(page) < 25 * 2**20
    assert page.count("{background-image:url(data:") == 500
    assert drawn(tmp_path, "gone.png", 128, 7000) == ""


def test_the_stated_power_clears_the_tolerance_as_well() -> None:
    """A true move of `detectable` is called drifted in about 80 of 100 runs; counted with the rule of the verdict."""
    rng, verdicts, tolerance = np.random.default_rng(5), [], 0.02
    spread = 0.01
    noise = rng.normal(0, spread, (400, 40))
    for row in noise:
        (result,) = simultaneous_differences(row[:, None], np.zeros(1), rounds=400, seed=1).columns
        moved = detectable_drift(result, tolerance)
        interval = (result.low + moved, result.high + moved)
        verdicts.append(row_verdict(result.mean + moved, interval, tolerance, people=40) == "drifted")
    assert 0.7 < np.mean(verdicts) < 0.9, np.mean(verdicts)


@pytest.mark.parametrize(("value", "cell"), [("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("anna", "anna"), (-0.5, -0.5)])
def test_a_cell_is_never_a_formula(value: object, cell: object) -> None:
    assert plain_cell(value) == cell
