"""`PortraitStylizer`: one call for one picture, with the names of the command line."""

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
from portrait.loop.load import load_loop_for
from portrait.provenance.credentials import Signer
from portrait.provenance.files import write_portrait
from portrait.records.portrait import AttemptRecord, PortraitRecord
from portrait.records.reasons import Reason
from portrait.settings import LOADING, Settings, setting_names, settings_from
from portrait.validation import check_names

log = logging.getLogger(__name__)

Picture = str | Path | Image.Image | NDArray[np.uint8] | Photo
"""A photo: a file's path, a PIL image, a (H, W, 3) uint8 RGB array, or what `read_photo` returned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One portrait.

    `image` is the accepted picture, or the rejected one that came closest: see `accepted`. It is RGBA where a
    transparent background was asked for, else RGB.

    `before` is the photo in the same frame, `record` what the command line writes beside a picture.
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
        """Every attempt: knobs, seed, similarity by each judge, reasons, seconds."""
        return list(self.record.attempts)

    def save(self, path: str | Path, *, sign: tuple[str | Path, str | Path] | None = None) -> Path:
        """Write the picture as the command line does: marked as generated, with its parameters.

        `image.save` of Pillow writes the pixels alone, without that mark.

        Args:
            path: Suffix .png, .jpg, .webp or .tif.
            sign: Files of a certificate chain and its key, both PEM, to sign it with Content Credentials.

        Raises:
            InputError: the suffix is none of these, or the folder cannot be written to.
            SettingsError: it cannot be signed.
        """
        signer = None if sign is None else Signer.from_files(Path(sign[0]), Path(sign[1]))
        return write_portrait(Path(path), np.asarray(self.image), self.record, signer=signer)


class PortraitStylizer:
    """A recipe, loaded once; `stylize` makes one portrait of one photo.

        stylizer = PortraitStylizer.from_recipe("mini")
        result = stylizer.stylize("anna.jpg", style="watercolor", balance=0.5)
        if result.accepted:
            result.save("anna-watercolor.png")

    A thin layer over `portrait.loop.attempt_loop.AttemptLoop`, which is `self.loop`.
    """

    def __init__(self, loop: AttemptLoop, settings: Settings | None = None) -> None:
        """Take a loop that is loaded already; `from_recipe` loads one."""
        self.loop = loop
        self._settings = settings or Settings(recipe=loop.recipe.name)

    @classmethod
    def from_recipe(cls, name: str = "mini", **loading: object) -> PortraitStylizer:
        """Load a recipe's models and judges.

        Args:
            name: A recipe's name or TOML file.
            loading: threads, device, memory, base, lora, commercial, as in `Settings`.

        Raises:
            SettingsError, WeightsError: an unknown name, or its files are not here.
        """
        check_names(loading, "from_recipe", LOADING)
        settings = settings_from(loading | {"recipe": name})
        return cls(load_loop_for(settings), settings)

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
            photo: The photo. Of an image or array the record holds the pixels' hash, not a file's.
            style: A style of the recipe.
            references: More photos of the same person.
            variant: Which of several pictures of the same photo and style, from 0.
            on_step: Called with (attempt from 1, steps done, steps in all).
            settings: Any other setting of the command line, under its name in `Settings`: balance, seed, face,
                frame, keep, background, far, max_attempts, stop, strength, ...

        Raises:
            SettingsError: an unknown name (says which was probably meant) or a bad value.
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
                f"face {chosen.face!r} means {len(subjects)} people; a call makes one portrait: name an index"
            )
        for warning in self.loop.warnings(style, chosen, variant):
            log.warning("%s", warning)
        stylized = self.loop.stylize(subjects[0], style, chosen, variant=variant, on_step=on_step)
        return Result(
            image=Image.fromarray(stylized.pixels), before=Image.fromarray(stylized.before), record=stylized.record
        )
