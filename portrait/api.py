"""`PortraitStylizer`: one call for one picture, with the same names as on the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portrait.errors import FaceError
from portrait.images import Photo, as_photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.provenance.credentials import Signer
from portrait.provenance.files import write_portrait
from portrait.records.portrait import AttemptRecord, PortraitRecord
from portrait.records.reasons import Reason
from portrait.settings import LOADING, Settings, setting_names, settings_from
from portrait.validation import check_names

log = logging.getLogger(__name__)

Picture = str | Path | Image.Image | NDArray[np.uint8] | Photo
"""A photo: a file's path, a PIL image, an (H, W, 3) uint8 RGB array, or the result of `read_photo`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One portrait.

    `image` is the accepted picture, or the rejected one that came closest: see `accepted`. It is RGBA if a transparent
    background was requested, else RGB.

    `before` is the photo in the same frame, `record` the JSON that the command line writes beside a picture.
    """

    image: Image.Image
    before: Image.Image
    record: PortraitRecord

    @property
    def accepted(self) -> bool:
        """Whether every judge and check passed."""
        return self.record.accepted

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it was rejected, as codes of `judge.verdict.REASONS`; empty when accepted."""
        return self.record.reasons

    @property
    def attempts(self) -> list[AttemptRecord]:
        """All attempts, with their knobs, seed, similarity by each judge, reasons and seconds."""
        return list(self.record.attempts)

    def save(self, path: str | Path, *, sign: tuple[str | Path, str | Path] | None = None) -> Path:
        """Write the picture as the command line does: marked as generated, with its parameters.

        Pillow's `image.save` writes only the pixels, without that mark.

        Args:
            path: Suffix .png, .jpg, .webp or .tif.
            sign: PEM files of a certificate chain and its key, to sign the picture with Content Credentials.

        Raises:
            InputError: the suffix is none of these, or the folder cannot be written to.
            SettingsError: the picture cannot be signed.
        """
        signer = None if sign is None else Signer.from_files(Path(sign[0]), Path(sign[1]))
        return write_portrait(Path(path), np.asarray(self.image), self.record, signer=signer)


class PortraitStylizer:
    """A recipe, loaded once; each call of `stylize` makes one portrait of one photo.

        stylizer = PortraitStylizer.from_recipe("mini")
        result = stylizer.stylize("anna.jpg", style="watercolor", balance=0.5)
        if result.accepted:
            result.save("anna-watercolor.png")

    A thin layer over `portrait.loop.attempt_loop.AttemptLoop`, which is `self.loop`.
    """

    def __init__(self, loop: AttemptLoop, settings: Settings | None = None) -> None:
        """Wrap a loop that is already loaded; `from_recipe` loads one."""
        self.loop = loop
        self._settings = settings or Settings(recipe=loop.recipe.name)

    @classmethod
    def from_recipe(cls, name: str = "mini", **loading: object) -> PortraitStylizer:
        """Load a recipe's models and judges.

        Args:
            name: A recipe's name or TOML file.
            loading: threads, device, memory, dtype, base, lora, commercial, as in `Settings`.

        Raises:
            SettingsError: an unknown name.
            WeightsError: the recipe's files are missing or damaged.
        """
        check_names(loading, "from_recipe", LOADING)
        settings = settings_from(loading | {"recipe": name})
        return cls(load_loop(settings), settings)

    def stylize(
        self,
        photo: Picture,
        style: str = "watercolor",
        *,
        references: Sequence[Picture] = (),
        variant: int = 0,
        on_step: Callable[[int, int, int], None] | None = None,
        **settings: object,
    ) -> Result:
        """Make one portrait: pictures are drawn and judged until one is accepted or the budget ends.

        Args:
            photo: The photo. For an image or array the record holds a hash of the pixels, not of a file.
            style: A style of the recipe.
            references: More photos of the same person.
            variant: Number, from 0, of this picture among several of the same photo and style.
            on_step: Called with (attempt from 1, steps done, total steps).
            settings: Any other setting of the command line, under its name in `Settings`: balance, seed, face,
                frame, keep, background, far, max_attempts, stop, strength, ...

        Raises:
            SettingsError: an unknown name (the message suggests the one that was probably meant) or a bad value.
            ImageReadError, ShapeError: the photo cannot be read.
            FaceError: no face, or several and no `face` that names one.
        """
        names = [name for name in setting_names() if name not in (*LOADING, "style", "variants")]
        check_names(settings, "stylize", names)
        loaded = {name: value for name, value in asdict(self._settings).items() if name in LOADING}
        chosen = settings_from(loaded | settings | {"style": style})
        others = [as_photo(reference) for reference in references]
        subjects = self.loop.subjects(as_photo(photo), chosen.face, others, upright=chosen.upright)
        if len(subjects) > 1:
            raise FaceError(
                f"face {chosen.face!r} selects {len(subjects)} people, but a call makes one portrait: give an index"
            )
        for warning in self.loop.warnings(style, chosen, variant):
            log.warning("%s", warning)
        stylized = self.loop.stylize(subjects[0], style, chosen, variant=variant, on_step=on_step)
        return Result(
            image=Image.fromarray(stylized.pixels), before=Image.fromarray(stylized.before), record=stylized.record
        )
