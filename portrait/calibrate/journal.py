"""A journal of measured pictures, so that an interrupted calibration can continue.

It holds similarities and statistics, but no embeddings: nothing by which a person could be recognized.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError, one_line
from portrait.files import write_bytes

Key = tuple[str, int, bool, str]
"""Style, number of the person, whether the photo was degraded, and the knobs as JSON."""


class Journal:
    """A file of JSON lines, created if missing: a header with the conditions (people, weights, seed), then a line per picture.

    Raises:
        SettingsError: the file is of other people, weights or settings, or cannot be read.
        InputError: it cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, object]) -> None:
        self.path = path
        self._rows: dict[Key, dict[str, Any]] = {}
        begun = json.loads(json.dumps(header))
        lines = self._read()
        if lines and lines[0] != begun:
            raise SettingsError(f"{path} is for other people, models or settings; delete it to start over")
        try:
            for row in lines[1:]:
                style, person, degraded, knobs = row["key"]
                self._rows[style, person, degraded, knobs] = row
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"{path} is damaged ({one_line(error)}); delete it to start over") from None
        # An incomplete last line is dropped, and its picture measured again.
        text = "".join(json.dumps(line) + "\n" for line in [begun, *lines[1:]])
        write_bytes(path, text.encode())

    def _read(self) -> list[Any]:
        if not self.path.is_file():
            return []
        try:
            text = self.path.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]
            return [json.loads(line) for line in whole.splitlines()]
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"cannot read {self.path}: {one_line(error)}; delete it to start over") from None

    def get(self, key: Key) -> dict[str, Any] | None:
        """The measurements of a picture, or None."""
        return self._rows.get(key)

    def put(self, key: Key, row: Mapping[str, object]) -> None:
        whole = {"key": list(key), **row}
        self._rows[key] = whole
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(whole) + "\n")
