"""The report's files stay as they are: two golden reports, one of a run and one against a baseline, as JSON and CSV.

`python -m tests.test_report_files` writes them again, after an intended change.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from portrait.files import write_bytes, write_json
from portrait.records import Embedding
from portrait.records.portrait import LicenseLink
from portrait.records.report import DriftReport, ReportJob, ReportPerson
from portrait.report.drift import compute_report
from portrait.report.runs import Run
from portrait.report.schema import report_schema
from portrait.report.words import APPEARANCE_WORDS
from portrait.report.write import csv_text

GOLDEN = Path(__file__).parent / "golden" / "reports"
STYLES = ("oil", "comic")
THRESHOLDS = {"arcface": 0.35, "dlib": 0.9}


def unit(vector: np.ndarray) -> Embedding:
    return Embedding((vector / np.linalg.norm(vector)).astype(np.float32))


def golden_run(name: str, seed: int, likeness: float) -> Run:
    """14 simulated people in two styles: two look alike, one photo has no face, one picture failed, one is odd."""
    people_rng, rng = np.random.default_rng(7), np.random.default_rng(seed)
    identities = {f"p{n:02}": {judge: unit(people_rng.normal(size=12)) for judge in THRESHOLDS} for n in range(13)}
    identities["p12"] = {judge: unit(vector + 0.01) for judge, vector in identities["p11"].items()}
    jobs: list[dict[str, Any]] = []
    looks: list[dict[str, float]] = []
    embeddings: list[dict[str, Embedding]] = []
    for subject in (*identities, "nobody"):
        for style in STYLES:
            job: dict[str, Any] = {
                "subject": subject, "recipe": "mini", "style": style, "axes": {"background": "plain, bright"},
                "variant": 0, "photo": f"digest of {subject}", "state": "failed", "reasons": ["no face in it"],
                "attempts": 0, "seconds": 0.0, "output": None,
                "first": None, "quoted": {}, "delivered": None, "thresholds": {}, "seed": None,
            }  # fmt: skip
            jobs.append(job)
            looks.append({})
            embeddings.append({})
            if subject == "nobody" or (subject, style) == ("p03", "comic"):
                continue
            portrait_embeddings = {
                j: unit(likeness * v + 0.16 * rng.normal(size=12)) for j, v in identities[subject].items()
            }
            similarity = {j: round(float(identities[subject][j] @ portrait_embeddings[j]), 5) for j in THRESHOLDS}
            reasons = [f"identity_low:{judge}" for judge in THRESHOLDS if similarity[judge] < THRESHOLDS[judge]]
            first = {
                "accepted": False, "face_found": bool(rng.random() < 0.9),
                "similarity": {judge: round(value - 0.1, 5) for judge, value in similarity.items()},
                "style_on_face": round(float(rng.uniform(0.4, 0.8)), 4), "burned": 0.01, "reasons": ["not_stylized"],
            }  # fmt: skip
            delivered = {
                "accepted": not reasons, "face_found": True, "similarity": similarity,
                "style_on_face": round(float(rng.uniform(0.5, 0.8)), 4), "burned": 0.02, "reasons": reasons,
            }  # fmt: skip
            job |= {
                "state": "rejected" if reasons else "accepted", "reasons": reasons, "attempts": 2, "seconds": 1.25,
                "output": f"pictures/{subject}/{style}.png", "first": first, "quoted": first["similarity"],
                "delivered": delivered, "thresholds": THRESHOLDS, "seed": len(jobs),
            }  # fmt: skip
            looks[-1] = {key: float(rng.normal(STYLES.index(style), 0.1)) for key in APPEARANCE_WORDS}
            embeddings[-1] = portrait_embeddings
    looks[0]["chroma"] += 5.0
    people = [
        ReportPerson(subject=subject, columns={"department": "art" if n < 7 else "law"}, failure=None)
        for n, subject in enumerate(identities)
    ]
    people.append(ReportPerson(subject="nobody", columns={"department": "law"}, failure="no face in it"))
    return Run(
        name=name,
        jobs=[ReportJob.model_validate(job) for job in jobs],
        people=people,
        genuine_impostor_gap={"arcface": 0.61234, "dlib": 0.51234},
        looks=looks,
        embeddings=embeddings,
        identities=identities,
        licenses=[LicenseLink(part="mini", license="Apache-2.0", commercial="yes")],
        far=0.01,
        pending=1,
    )


def golden_report(name: str) -> DriftReport:
    current, baseline = golden_run("spring", 1, 1.0), golden_run("winter", 2, 1.6)
    report = compute_report(current, baseline if name == "comparison" else None)
    return report.model_copy(update={"portrait": "0.1.0", "created": "2026-01-01T00:00:00+00:00"})


def close(value: object, golden: object) -> None:
    """Whether values are equal, except for the last digit of numbers, which depends on the processor."""
    if isinstance(golden, dict):
        assert isinstance(value, dict)
        assert list(value) == list(golden)
        for key, inner in golden.items():
            close(value[key], inner)
    elif isinstance(golden, list):
        assert isinstance(value, list)
        assert len(value) == len(golden)
        for mine, theirs in zip(value, golden, strict=True):
            close(mine, theirs)
    elif isinstance(golden, float):
        assert value == pytest.approx(golden, abs=2e-4)
    else:
        assert value == golden


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_the_files_of_a_report_are_what_they_were(name: str) -> None:
    report = golden_report(name)
    close(report.dump(), json.loads((GOLDEN / f"{name}.json").read_text()))
    rows, golden = (
        list(csv.reader(io.StringIO(text))) for text in (csv_text(report), (GOLDEN / f"{name}.csv").read_text())
    )
    assert [row[:6] for row in rows] == [row[:6] for row in golden]
    for row, other in zip(rows[1:], golden[1:], strict=True):
        for cell, expected in zip(row[6:], other[6:], strict=True):
            numeric = expected.replace(".", "").replace("-", "").isdigit()
            assert (float(cell) == pytest.approx(float(expected), abs=2e-4)) if numeric else cell == expected


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_report_that_is_read_and_written_is_the_same_file(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text()
    report = DriftReport.model_validate_json(text)
    assert json.dumps(report.dump(), indent=1) + "\n" == text


def test_people_who_look_alike_as_photos_are_no_impostors_of_each_other() -> None:
    report = golden_report("report")
    assert [pair.subjects for pair in report.duplicate_identities] == [("p11", "p12")]
    pairs = {entry.style: entry.impostor_pairs for entry in report.verification}
    assert pairs == {"oil": 13 * 12 - 2, "comic": 12 * 12 - 2}  # p03's comic picture failed


def test_the_schema_in_docs_is_that_of_the_types_and_the_golden_reports_follow_it() -> None:
    """`make golden` writes it."""
    schema = json.loads((Path(__file__).parents[1] / "docs" / "drift.schema.json").read_text())
    assert schema == report_schema()
    for name in ("report", "comparison"):
        validator = jsonschema.Draft202012Validator(schema)
        report = json.loads((GOLDEN / f"{name}.json").read_text())
        validator.validate(report)
        for wrong in (
            report | {"schema": 1},
            report | {"stranger": 1},
            report | {"jobs": [report["jobs"][0] | {"seed": "x"}]},
        ):
            assert not validator.is_valid(wrong)


if __name__ == "__main__":
    for which in ("report", "comparison"):
        write_json(GOLDEN / f"{which}.json", golden_report(which).dump())
        write_bytes(GOLDEN / f"{which}.csv", csv_text(golden_report(which)).encode())
