"""`portrait stylize` and `portrait demo`."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from portrait.cli.console import Commands, Console, complain, failure_record, interrupted_by, say
from portrait.cli.signing import add_sign_flag, signer_of
from portrait.errors import PortraitError, SettingsError, WeightsError
from portrait.files import write_new
from portrait.paths import choosing_names, prove_writable, shorten_name
from portrait.settings import Settings, add_flags, settings_from

if TYPE_CHECKING:
    from portrait.images import Photo
    from portrait.images.decoder_process import DecoderProcess
    from portrait.loop.attempt_loop import AttemptLoop
    from portrait.loop.types import Subject
    from portrait.provenance.credentials import Signer
    from portrait.recipes.recipe import Recipe
    from portrait.report.save import SavedPortrait

_EPILOG = """examples:
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize *.jpg --style oil --style sketch --variants 3
  portrait stylize anna.jpg --reference anna2.jpg --reference anna3.jpg --style popart
  portrait stylize team.jpg --face like:anna.jpg --frame full --style oil
  portrait stylize anna.jpg --style popart --background '#ffd23f'
  portrait stylize anna.jpg --style oil --background transparent
  portrait stylize anna.jpg --style comic --ip-adapter-scale 1.2 --seed 7 --json

Each picture comes with a .json record of settings, seeds, every attempt and every score. If no attempt passes both
judges, the closest one is written as NAME-rejected.png; the exit code is 1 if nothing was accepted.
Nothing is overwritten: pictures of another anna.jpg, or of other settings, are called anna-2-oil-1.png and so on.
"""

_BYTES_PER_PIXEL = 4
"""Bytes of a picture, its strip and its record, hardly compressed."""
_DEMO_DEFAULTS: dict[str, object] = {"style": ("all",), "max_attempts": 24, "max_seconds": 600.0}
"""The demo's own defaults. Its photo is a close call in some styles: whether an attempt passes then depends on the last
digits, which differ between processors, so it tries more often than `stylize` does."""


def add(commands: Commands) -> None:
    """Add `stylize` and `demo` to the command line."""
    stylize = commands.add_parser(
        "stylize",
        help="make stylized portraits of photos",
        usage="%(prog)s PHOTO [PHOTO ...] [--style NAME] [--balance X] [-o FOLDER] [options]",
        description="Make stylized portraits of photos. Face recognizers judge each picture; if they reject it, it is made again "
        "with other settings. Most people need --style, --balance, --variants, --background and -o.",
        epilog=_EPILOG,
    )
    stylize.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, AVIF or HEIC")
    stylize.add_argument(
        "--reference",
        action="append",
        type=Path,
        default=[],
        metavar="PHOTO",
        help="another photo of the same person, for a better likeness; may be given several times",
    )
    stylize.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with any of the settings below")
    _overwrite_flag(stylize)
    output_flags(stylize)
    add_flags(stylize)
    stylize.set_defaults(run=_stylize)

    demo = commands.add_parser(
        "demo",
        help="stylize the demo photo in every style",
        usage="%(prog)s [--style NAME] [--balance X] [-o FOLDER] [options]",
        description="Stylize skimage's public-domain photo of astronaut Eileen Collins in every style of the recipe. "
        f"Up to {_DEMO_DEFAULTS['max_attempts']} pictures are tried per style, so that one close call does not spoil the demo; "
        "styles in which no attempt passes the judges are still marked as rejected.",
        epilog="example:\n  portrait demo -o out/ --balance 0.7",
    )
    _overwrite_flag(demo)
    output_flags(demo)
    add_flags(demo, _DEMO_DEFAULTS)
    demo.set_defaults(run=_demo)


def _overwrite_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="overwrite pictures of the same name; otherwise names get a number, as in anna-2-oil-1.png",
    )


def output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every command that makes portraits."""
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="folder for the results (default: out)"
    )
    add_sign_flag(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON record per picture and line, nothing else")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="log what the loop does, and show cosine similarities")


def _stylize(args: argparse.Namespace) -> int:
    settings = settings_from(vars(args), args.settings)
    with interrupted_by("SIGTERM"):
        return _stylize_photos(args, settings, args.photos, args.reference)


def _demo(args: argparse.Namespace) -> int:
    from skimage.data import astronaut

    from portrait.images import encode_picture

    settings = settings_from(_DEMO_DEFAULTS | vars(args))
    pixels = astronaut()  # type: ignore[no-untyped-call,unused-ignore]
    photo = write_new(args.output / "astronaut.png", encode_picture(pixels, "png"))
    with interrupted_by("SIGTERM"):
        return _stylize_photos(args, settings, [photo], [])


def _stylize_photos(
    args: argparse.Namespace, settings: Settings, photos: Sequence[Path], reference_files: Sequence[Path]
) -> int:
    """Stylize every photo in every style; a bad photo is reported in one line and does not stop the others."""
    from portrait.recipes.licensing import license_chain
    from portrait.report.save import save_contact_sheets

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
    return worst if any(row.accepted for row in rows) else max(worst, 1)


def _prepare(
    args: argparse.Namespace, settings: Settings, photos: int, reference_files: Sequence[Path]
) -> tuple[Recipe, Batch]:
    """Check everything that can be checked before the models are loaded."""
    from portrait.images import read_photo
    from portrait.images.decoder_process import DecoderProcess
    from portrait.recipes.licensing import require_commercial
    from portrait.recipes.load import load_recipe
    from portrait.recipes.override import with_overrides

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
    from portrait.hub.judges import DETECTORS, FACE_TOOLS, tools_for
    from portrait.loop.limits import resolve_thresholds

    everything = "all" in settings.style
    styles = list(recipe.styles) if everything else [recipe.style(name).name for name in settings.style]
    tools = tools_for(commercial=settings.commercial)
    judges = FACE_TOOLS[tools]
    for style in styles:
        resolve_thresholds(recipe, style, settings.far, settings.thresholds, judges=judges, detector=DETECTORS[tools])
    return styles


def check_files(settings: Settings, references: Sequence[Path]) -> None:
    """Check the files of `--face` and `--background` before the models are loaded."""
    from portrait.faces.identity import FaceChoice
    from portrait.images import read_photo

    choice = FaceChoice.parse(settings.face)
    if choice.kind == "each" and references:
        raise SettingsError("--face each cannot be used with --reference: references are photos of one person")
    if choice.kind == "like":
        read_photo(choice.reference)
    background = settings.backdrop()
    if background is not None and background.file is not None:
        read_photo(background.file)


class Batch:
    """The portraits of one call: the models, loaded when needed, and the names that are taken."""

    def __init__(
        self,
        settings: Settings,
        styles: Sequence[str],
        references: Sequence[Photo],
        folder: Path,
        console: Console,
        signer: Signer | None = None,
        *,
        overwrite: bool = False,
        decoder: DecoderProcess | None = None,
    ) -> None:
        self.settings = settings
        self.styles = styles
        self.references = references
        self.folder = folder
        self.console = console
        self.signer = signer
        self.overwrite = overwrite
        self.decoder = decoder
        self._loop: AttemptLoop | None = None
        self._stems: set[str] = set()
        self._names: dict[str, str] = {}
        """Stem -> the name of the pictures, set when the first one is written."""

    def portraits(self, path: Path) -> Iterator[SavedPortrait]:
        """Make and write all portraits of a photo: each selected face, each style, each variant."""
        from portrait.images import read_photo

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
        from portrait.report.save import save_portrait

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
        from portrait.loop.load import load_loop_for

        if self._loop is None:
            with self.console.status("loading models"):
                self._loop = load_loop_for(self.settings)
        return self._loop
