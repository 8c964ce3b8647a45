"""`portrait stylize` and `portrait demo`."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from portrait.cli.console import Console, failure_record
from portrait.cli.parsers.portraits import DEMO_DEFAULTS
from portrait.cli.signals import interrupted_by
from portrait.cli.signing import signer_of
from portrait.cli.terminal import complain, say
from portrait.errors import PortraitError, SettingsError, WeightsError
from portrait.faces.identity import FaceChoice
from portrait.files import write_new
from portrait.hub.judges import DETECTORS, FACE_TOOLS, tools_for
from portrait.images import Photo, encode_picture, read_photo
from portrait.images.decoder_process import DecoderProcess
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.limits import resolve_thresholds
from portrait.loop.load import load_loop
from portrait.loop.types import Subject
from portrait.paths import choosing_names, prove_writable, shorten_name
from portrait.provenance.credentials import Signer
from portrait.recipes.licensing import license_chain, require_commercial
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.report.save import SavedPortrait, save_contact_sheets, save_portrait
from portrait.settings import Settings, settings_from

_BYTES_PER_PIXEL = 4
"""Bytes of a picture, its strip and its record, hardly compressed."""


def stylize(args: argparse.Namespace) -> int:
    """`portrait stylize`."""
    settings = settings_from(vars(args), args.settings)
    with interrupted_by("SIGTERM"):
        return _stylize_photos(args, settings, args.photos, args.reference)


def demo(args: argparse.Namespace) -> int:
    """`portrait demo`."""
    from skimage.data import astronaut

    settings = settings_from(DEMO_DEFAULTS | vars(args))
    pixels = astronaut()  # type: ignore[no-untyped-call,unused-ignore]
    photo = write_new(args.output / "astronaut.png", encode_picture(pixels, "png"))
    with interrupted_by("SIGTERM"):
        return _stylize_photos(args, settings, [photo], [])


def _stylize_photos(
    args: argparse.Namespace, settings: Settings, photos: Sequence[Path], reference_files: Sequence[Path]
) -> int:
    """Stylize every photo in every style; a bad photo is reported in one line and does not stop the others."""
    recipe, batch = _prepare(args, settings, len(photos), reference_files)
    rows: list[SavedPortrait] = []
    worst = 0
    try:
        for path in photos:
            try:
                for row in batch.portraits(path):
                    rows.append(row)
                    worst = max(worst, *map(complain, row.problems), 0)
                    if args.json:
                        say(row.record.to_json())
            except PortraitError as error:
                if args.json:
                    licenses = license_chain(recipe, commercial=settings.commercial)
                    say(failure_record(path, error, recipe.name, licenses).to_json())
                if isinstance(error, SettingsError | WeightsError):
                    raise  # not this photo's fault, and the same for all photos
                worst = max(worst, complain(error))
    finally:  # even if the run was interrupted
        if rows:
            sheets, problems = save_contact_sheets(rows, args.output)
            worst = max(worst, *map(complain, problems), 0)
            batch.console.summary(rows, sheets)
    return worst if any(row.record.accepted for row in rows) else max(worst, 1)


def _prepare(
    args: argparse.Namespace, settings: Settings, photos: int, reference_files: Sequence[Path]
) -> tuple[Recipe, Batch]:
    """Check everything that can be checked before the models are loaded."""
    recipe = with_overrides(load_recipe(settings.recipe), settings.base, settings.lora)
    if settings.commercial:
        require_commercial(recipe)
    styles = checked_styles(recipe, settings)
    check_files(settings, reference_files)
    references = [read_photo(path) for path in reference_files]
    signer = signer_of(args)
    pictures = photos * len(styles) * settings.variants
    prove_writable(args.output, pictures * recipe.size_for(settings.size) ** 2 * _BYTES_PER_PIXEL)
    console = Console(quiet=args.quiet or args.json, verbose=args.verbose)
    decoder = DecoderProcess() if photos > 1 else None  # a photo that crashes or blocks it does not affect the others
    batch = Batch(settings, styles, references, args.output, console, signer, overwrite=args.overwrite, decoder=decoder)
    if settings.no_metadata:
        batch.console.line(
            "--no-metadata: the pictures say only that they are generated (XMP DigitalSourceType); prompt, seed and knobs "
            "are only in the .json records"
        )
    return recipe, batch


def checked_styles(recipe: Recipe, settings: Settings) -> list[str]:
    """The requested styles; unsupported settings are refused before the models are loaded."""
    styles = recipe.styles_named(settings.style)
    tools = tools_for(commercial=settings.commercial)
    judges = FACE_TOOLS[tools]
    for style in styles:
        resolve_thresholds(recipe, style, settings.far, settings.thresholds, judges=judges, detector=DETECTORS[tools])
    return styles


def check_files(settings: Settings, references: Sequence[Path]) -> None:
    """Check the files of `--face` and `--background` before the models are loaded."""
    choice = FaceChoice.parse(settings.face)
    if choice.kind == "each" and references:
        raise SettingsError("--face each cannot be used with --reference: references are photos of one person")
    if choice.kind == "like":
        read_photo(choice.reference)
    background = settings.backdrop()
    if background is not None and background.file is not None:
        read_photo(background.file)


@dataclass(eq=False)
class Batch:
    """The portraits of one call: the models, loaded when needed, and the names that are taken."""

    settings: Settings
    styles: Sequence[str]
    references: Sequence[Photo]
    folder: Path
    console: Console
    signer: Signer | None = None
    overwrite: bool = False
    decoder: DecoderProcess | None = None
    _loop: AttemptLoop | None = field(default=None, init=False)
    _stems: set[str] = field(default_factory=set, init=False)
    _names: dict[str, str] = field(default_factory=dict, init=False)
    """Stem -> the name of the pictures, set when the first one is written."""

    def portraits(self, path: Path) -> Iterator[SavedPortrait]:
        """Make and write all portraits of a photo: each selected face, each style, each variant."""
        photo = read_photo(path) if self.decoder is None else self.decoder.read(path)
        subjects = self.subjects(photo)
        stem = self.free_stem(path)
        for face, subject in subjects:
            self.console.notes(subject)
            for style in self.styles:
                yield from self.variants(subject, style, stem, face)

    def free_stem(self, path: Path, is_taken: Callable[[str], bool] = lambda stem: False) -> str:
        """The name of a photo's pictures: that of the photo, shortened if file systems would not accept it.

        It is numbered if another photo of this call has the name (ignoring case like some file systems), if pictures in the
        folder would be overwritten, or if `is_taken` says so.
        """
        base = shorten_name(path.stem)
        for number in count(1):
            stem = base if number == 1 else f"{base}-{number}"
            if stem.casefold() in self._stems or is_taken(stem) or (not self.overwrite and self._has_pictures(stem)):
                continue
            self._stems.add(stem.casefold())
            return stem
        raise AssertionError("counting has no end")

    def own(self, stem: str) -> None:
        """Treat the pictures of that name in the folder as this photo's own."""
        self._stems.add(stem.casefold())
        self._names[stem] = stem

    @contextmanager
    def _name(self, stem: str, path: Path) -> Iterator[str]:
        """The name of a photo's pictures: `stem`, unless another process has written pictures of that name by now."""
        if stem in self._names or self.overwrite:
            yield self._names.get(stem, stem)
            return
        with choosing_names(self.folder):
            name = self.free_stem(path) if self._has_pictures(stem) else stem
            yield name
            self._names[stem] = name

    def _has_pictures(self, stem: str) -> bool:
        """Whether the folder has pictures of that name from another photo or command."""
        patterns = (f"{glob.escape(stem)}{face}-{style}-*" for style in self.styles for face in ("", "-face*"))
        return any(next(self.folder.glob(pattern), None) for pattern in patterns)

    def subjects(self, photo: Photo) -> list[tuple[str, Subject]]:
        """The selected people of a photo, each with the part of the pictures' names that tells the face."""
        subjects = self.load().subjects(photo, self.settings.face, self.references, upright=self.settings.upright)
        return [(f"-face{subject.index}" if len(subjects) > 1 else "", subject) for subject in subjects]

    def variants(self, subject: Subject, style: str, stem: str, face: str) -> Iterator[SavedPortrait]:
        """Make and write the pictures of one person in one style."""
        for variant in range(self.settings.variants):
            for warning in self.load().warnings(style, self.settings, variant):
                self.console.note(f"{style}: {warning}")
            with self.console.attempts(f"{stem}{face} {style}") as on_step:
                portrait = self.load().stylize(subject, style, self.settings, variant=variant, on_step=on_step)
            with self._name(stem, subject.photo.path) as name:
                name = f"{name}{face}-{style}-{variant + 1}"
                row = save_portrait(portrait, self.folder, name, self.settings.format, signer=self.signer)
            self.console.result(row)
            yield row

    def load(self) -> AttemptLoop:
        """The models, loaded by the first call."""
        if self._loop is None:
            with self.console.status("loading models"):
                self._loop = load_loop(self.settings)
        return self._loop
