"""Find the photos of a folder, and say what was passed over and why."""

from __future__ import annotations

from pathlib import Path

from portrait.errors import SettingsError


def photos_below(folder: Path, only: Path | None = None) -> list[Path]:
    """The picture files of a folder and the folders below it, or those that a list names.

    Raises:
        SettingsError: there are none, or one that the list names is not there.
    """
    if only is not None:
        try:
            lines = [line.strip() for line in only.read_text("utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read --only {only}: {error}") from None
        found = [folder / line for line in lines if line and not line.startswith("#")]
        for path in found:
            if not path.is_file():
                raise SettingsError(f"{only} names {path}, which is not there")
    else:
        kinds = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic"}
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds and p.is_file())
    if not found:
        raise SettingsError(f"no photos in {folder}")
    return found
