"""The file of response curves that `portrait calibrate` writes and the loop reads."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from portrait.records.knobs import Knobs

Row = tuple[float, ...]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SweepTable(_Table):
    """Means at n positions of the dial or values of a knob: `at` (n,) rising, `mean` (n, outputs)."""

    at: Row
    mean: tuple[Row, ...]


class StyleCurves(_Table):
    """The curves of one style; `loop.response.Curves` explains each table.

    `outputs` are the columns of every table. Means are stored as such, not as changes from `level`.
    """

    outputs: tuple[str, ...]
    level: Row
    dial: SweepTable
    knobs: dict[str, SweepTable]
    people: tuple[Row, ...]
    residual: tuple[Row, ...]
    slope_spread: float

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        columns = len(self.outputs)
        tables = [(self.people, columns), (self.residual, columns)]
        tables += [(sweep.mean, len(sweep.at)) for sweep in (self.dial, *self.knobs.values())]
        rows = [self.level, *(row for table, _ in tables for row in table)]
        if any(len(table) != length for table, length in tables) or any(len(row) != columns for row in rows):
            raise ValueError("a table does not have a column per output")
        return self


class CurvesFile(_Table):
    """The curves of a recipe's styles, and everything needed to measure them again.

    `base` holds the knobs' values while another one was moved; `people` maps photo -> SHA-256, `weights` file -> SHA-256,
    `form` is how the judges' faces were prepared, see `faces.form`.
    """

    recipe: str
    base: Knobs
    styles: dict[str, StyleCurves]
    seeds: tuple[int, ...]
    failure_to_acquire: tuple[str, ...]
    people: dict[str, str]
    weights: dict[str, str]
    form: str = "plain"
    versions: dict[str, str]
