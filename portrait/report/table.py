"""A report as the rows of a CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def flat(report: Mapping[str, Any]) -> list[list[Any]]:
    """Every number of the report as rows of the CSV, but for the points of curves and histograms, and the verdicts.

    `$defs` of `drift.schema.json` says what the columns are. yes and no are 1 and 0.
    """
    rows: list[list[Any]] = [
        ["section", "recipe", "style", "column", "group", "measure", "value", "low", "high", "count", "of"]
    ]
    nowhere = ("", "", "", "")

    def add(section: str, place: Sequence[Any], name: str, value: Any, end: str = "") -> None:
        if isinstance(value, Mapping) and "interval" in value:
            number = next((value[k] for k in ("rate", "mean", "value", "difference") if k in value), None)
            ends = value["interval"] or (None, None)
            rows.append([section, *place, name + end, number, *ends, value.get("count"), value.get("of")])
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                add(section, place, f"{name}.{key}" if name else key, inner, end)
        elif isinstance(value, int | float):
            rows.append([section, *place, name + end, value + 0, None, None, None, None])

    add("run", nowhere, "", report["run"] | {"far": report["far"]})
    add("failure_to_acquire", nowhere, "failure_to_acquire", report["failure_to_acquire"])
    add("overall", nowhere, "pending", report["run"]["pending"])
    add("overall", nowhere, "", report["overall"])
    for entry in report["styles"]:
        add("style", (entry["recipe"], entry["style"], "", ""), "", entry)
    for column, groups in report["groups"].items():
        for entry in groups:
            add("group", ("", "", column, entry["group"]), "", entry)
    for entry in report["verification"]:
        share = {"rate": entry["far_at_threshold"], "interval": entry["far_interval"]}
        said = {key: value for key, value in entry.items() if key not in ("genuine", "impostor")}
        add(
            "verification",
            (entry["recipe"], entry["style"], "", ""),
            entry["judge"],
            said | {"far_at_threshold": share},
        )
    add("separation", nowhere, "", report["separation"])
    for pair in report["alike"]:
        add("alike", ("", "", "subject", " and ".join(pair["subjects"])), "similarity", pair["similarity"])
    for entry in report["consistency"]:
        add("consistency", (entry["recipe"], entry["style"], "", ""), "", entry)
    if same := report["same_person"]:
        add("same_person", nowhere, "", same)
        for person in same["people"]:
            add("same_person", ("", "", "subject", person["subject"]), "", person)
    compared, said = report["comparison"] or {}, report["verdict"] or {}
    left_out = {k: len(v) if isinstance(v, list) else v for k, v in compared.get("not_paired", {}).items()}
    add("comparison", nowhere, "", compared | {"not_paired": left_out})
    for row in compared.get("rows", ()):
        add("comparison", *_where(row), row | {"of": row["people"]})
        place, name = _where(row)
        for key in ("baseline", "current", "tolerance", "detectable"):
            add("comparison", place, f"{name}.{key}", row[key])
        rows.append(["comparison", *place, f"{name}.verdict", row["verdict"], None, None, None, row["people"]])
    if said:
        rows.append(["verdict", *nowhere, "verdict", said["verdict"], None, None, None, None])
    add("verdict", nowhere, "power", said.get("power"))
    for row in (said.get("power") or {}).get("rows", ()):
        place, name = _where(row)
        add("verdict", place, f"power.{name}", {key: row[key] for key in ("detectable", "tolerance")})
    for job in report["jobs"]:
        where = (job["recipe"], job["style"], "subject", job["subject"])
        end = "".join(f"/{text}" for text in job["axes"].values()) + f"/{job['variant'] + 1}"
        add("picture", where, "accepted", job["state"] == "accepted", end)
        for key in ("attempts", "seconds", "seed", "quoted", "thresholds", "look", "nearest"):
            add("picture", where, key, job.get(key), end)
        for name in ("first", "delivered"):
            if attempt := job[name]:
                others = {key: value for key, value in attempt.items() if key not in ("similarity", "style_on_face")}
                add("picture", where, name, attempt["similarity"] | others, end)
                style = "style_on_face" if name == "delivered" else f"{name}.style_on_face"
                add("picture", where, style, attempt["style_on_face"], end)
    return rows


def _where(row: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], str]:
    """Place and measure of a row of the comparison, as the CSV has them."""
    return ("", row["style"] or "", "", ""), row["measure"] + (f".{row['judge']}" if row["judge"] else "")
