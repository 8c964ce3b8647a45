"""The JSON Schema of a report: `python -m portrait.report.schema FILE` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from portrait.files import write_json
from portrait.records.report import CsvRow, DriftReport


def report_schema() -> dict[str, object]:
    """The schema of the JSON, generated from its types; `$defs` also describes the columns of the CSV."""
    schema = DriftReport.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$defs"]["CsvRow"] = CsvRow.model_json_schema()
    return schema


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), report_schema())
