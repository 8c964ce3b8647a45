"""Combine calibrations from several sources: measured tables, and limits given as plain figures.

Synthetic faces resemble each other more than people do, so limits from real people come first, and only what they lack is
taken from the next table. A table of figures needs no more than this:

    {"recipe": "mini", "source": "300 people of ...", "detector": "det_500m",
     "styles": {"sketch": {"gates": [
       {"judges": ["arcface", "dlib"], "floors": {"arcface": 0.05, "dlib": 0.86},
        "weights": {"arcface": 12.5, "dlib": 30.1}, "offset": -29.0, "rates": {"0.01": {"least": 1.9}}},
       {"judges": ["dlib"], "rates": {"0.01": {"floors": {"dlib": 0.94}}}}]}}}

A gate without weights has only floors; a rate may have its own floors. See `judge.thresholds.Gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portrait.errors import SettingsError
from portrait.faces.form import PLAIN

Table = dict[str, Any]
"""A JSON object: a full calibration, or figures alone."""


def combine_tables(tables: Sequence[Table]) -> Table:
    """Combine tables, where earlier ones take precedence: style by style, gate by gate, judge by judge.

    Raises:
        SettingsError: they are not for the same recipe, weights, detector and form of faces, or none of them has a style's limits other
            than those of likeness.
    """
    try:
        return _combined(tables)
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"a table is damaged: {error!r}") from None


def _combined(tables: Sequence[Table]) -> Table:
    for key in ("recipe", "weights", "detector"):
        values = [table[key] for table in tables if table.get(key)]
        if any(value != values[0] for value in values):
            raise SettingsError(f"the tables are for different {key}: {_listed(values)}")
    forms = [str(table.get("form", PLAIN.name)) for table in tables]
    if len(set(forms)) > 1:
        raise SettingsError(f"the tables are for different forms of faces: {_listed(forms)}")
    merged: Table = {}
    for table in tables:
        for key, value in table.items():
            merged.setdefault(key, value)
    names = list(dict.fromkeys(style for table in tables for style in table.get("styles", {})))
    merged["styles"] = {name: _merged_style(name, tables) for name in names}
    merged["sources"] = [entry for table in tables for entry in _sources(table)]
    return merged


def _listed(values: Sequence[Any]) -> str:
    return " and ".join(str(value) for value in values) if all(isinstance(v, str) for v in values) else "see the files"


def _merged_style(name: str, tables: Sequence[Table]) -> Table:
    entry: Table = {}
    gates: dict[frozenset[str], Table] = {}
    recognizers: Table = {}
    for table in tables:
        limits = table.get("styles", {}).get(name, {})
        for gate in limits.get("gates", ()):
            gates.setdefault(frozenset(gate["judges"]), {"source": table.get("source", ""), **gate})
        for judge, measured in limits.get("recognisers", {}).items():
            recognizers.setdefault(judge, measured)
        for key, value in limits.items():
            entry.setdefault(key, value)
    if "style_on_face" not in entry:
        raise SettingsError(f"no table has the limit of style_on_face of {name}; add one that portrait calibrate wrote")
    return entry | {"recognisers": recognizers} | ({"gates": list(gates.values())} if gates else {})


def _sources(table: Table) -> list[Table]:
    """The sources of a table's people, and their numbers."""
    listed = table.get("sources")
    if isinstance(listed, list) and listed:
        return list(listed)
    people = len(table.get("people", {}))
    return [{"source": table.get("source", ""), "people": people, "impostors": len(table.get("impostors", {}))}]
