"""The command line. Heavy imports stay inside the commands, so that --help answers at once."""

from __future__ import annotations

import argparse
import glob
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import portrait
from portrait.campaign_cli import add_commands as add_campaign_commands
from portrait.curves_cli import add_curves
from portrait.errors import PortraitError, SettingsError, WeightsError
from portrait.records.parameters import parameters_text
from portrait.settings import Settings, add_flags, settings_from
from portrait.studio_cli import add_commands as add_studio
from portrait.weights_cli import add_commands

if TYPE_CHECKING:
    from portrait.images import Photo
    from portrait.records import RgbImage
    from portrait.stylizer import Portrait, Stylizer

_EPILOG = """examples:
  portrait demo -o out/                                    the demo photo in every style
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize anna.jpg --style all --balance 0.3      closer to the person
  portrait stylize team.jpg --face each --style comic      every face of a group photo
  portrait faces team.jpg --draw faces.png                 which faces are seen, and their index
  portrait compare anna.jpg out/anna-watercolor-1.png      is it the same person, by two judges
  portrait replay out/anna-watercolor-1.json               the same picture again, bit for bit
  portrait explain out/anna-watercolor-1.json              what was tried, and why it ended so
  portrait curves --subjects people/                       what the knobs do, on people of your own
  portrait calibrate --subjects people/                    thresholds from people of your own
  portrait studio                                          the same as a web page on this computer
  portrait campaign run campaign.toml -o run               many people, resumable
  portrait drift run --baseline last-month                 did identity drift: a report

exit codes: 0 done, 1 nothing accepted or failed, 2 something given cannot be used, 3 drifted (portrait drift)
"""
_STYLIZE_EPILOG = """examples:
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize *.jpg --style oil --style sketch --variants 3
  portrait stylize anna.jpg --reference anna2.jpg --reference anna3.jpg --style popart
  portrait stylize team.jpg --face like:anna.jpg --frame full --style oil
  portrait stylize anna.jpg --style comic --ip-adapter-scale 1.2 --seed 7 --json

Beside each picture lies a .json record of settings, seeds, every attempt and every score. A portrait that
no attempt brought past both judges is written as NAME-rejected.png; the exit code is 1 when nothing was accepted.
"""
_CALIBRATE_EPILOG = """Each person is drawn twice a style: as asked, and at one of the dial's ends, for the statistics of the style. The dial
follows the recipe's curves, so measure those first (portrait curves).

examples:
  portrait calibrate --subjects people/ --impostors strangers/ --far 0.01,0.001
  portrait stylize anna.jpg --style oil --far 0.001 --thresholds mini.thresholds.json
"""


def build_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="portrait",
        description="Turn a photo into a stylized portrait in which the same person is still recognised, "
        "checked by two independent judges.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"portrait {portrait.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    stylize = commands.add_parser(
        "stylize",
        help="make stylized portraits of photos",
        description="Make stylized portraits of photos; each is judged and, if rejected, tried again with other knobs.",
        epilog=_STYLIZE_EPILOG,
        formatter_class=raw,
    )
    stylize.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, AVIF or HEIC")
    stylize.add_argument(
        "--reference", action="append", type=Path, default=[], metavar="PHOTO", help="another photo of the same person"
    )
    stylize.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with any of the settings below")
    _output_flags(stylize)
    add_flags(stylize)
    stylize.set_defaults(run=_stylize)

    demo = commands.add_parser(
        "demo",
        help="stylize the demo photo in every style",
        description="Stylize skimage's public-domain photo of astronaut Eileen Collins in every style of the recipe.",
        epilog="example:\n  portrait demo -o out/ --balance 0.7",
        formatter_class=raw,
    )
    _output_flags(demo)
    add_flags(demo)
    demo.set_defaults(run=_demo)

    faces = commands.add_parser(
        "faces",
        help="list the faces of a photo",
        description="List the faces of photos from left to right: index, box, score, size, and what may make one hard to keep.",
        epilog="example:\n  portrait faces team.jpg --draw faces.png",
        formatter_class=raw,
    )
    faces.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    faces.add_argument("--draw", type=Path, metavar="FILE", help="write the photo with numbered boxes (one photo only)")
    faces.add_argument("--commercial", action="store_true", help="look with dlib, which a business may use")
    faces.add_argument("--json", action="store_true", help="one JSON object per photo and line")
    faces.set_defaults(run=_faces)

    compare = commands.add_parser(
        "compare",
        help="do two pictures show the same person",
        description="Compare the faces of two pictures by both recognisers. Two photos are judged at photo-to-photo "
        "thresholds; for a stylized picture name its --style, since photo thresholds do not hold there.",
        epilog="examples:\n  portrait compare a.jpg b.jpg\n  portrait compare anna.jpg out/anna-oil-1.png --style oil",
        formatter_class=raw,
    )
    compare.add_argument("a", type=Path, metavar="A", help="the reference photo")
    compare.add_argument("b", type=Path, metavar="B", help="the candidate")
    compare.add_argument("--style", help="B is stylized: use the calibrated thresholds of this style")
    compare.add_argument("--recipe", default="mini", help="the recipe that made B (default: mini)")
    compare.add_argument("--far", type=float, metavar="X", help="false accept rate, with --style (default: 0.01)")
    compare.add_argument("--face", default="largest", metavar="TEXT", help="as in stylize (default: largest)")
    compare.add_argument("--commercial", action="store_true", help="judge by dlib alone, which a business may use")
    compare.add_argument("--json", action="store_true", help="one JSON object")
    compare.set_defaults(run=_compare)

    replay = commands.add_parser(
        "replay",
        help="make the picture of a record again",
        description="Make the chosen picture of a record again and compare it pixel by pixel with the one recorded.",
        epilog="examples:\n  portrait replay out/anna-oil-1.json\n"
        "  portrait replay anna-oil-1.json --photo elsewhere/anna.jpg -o again.png",
        formatter_class=raw,
    )
    replay.add_argument("record", type=Path, metavar="RECORD.json")
    replay.add_argument("--photo", type=Path, help="the photo, if it lies elsewhere now")
    replay.add_argument(
        "--reference", type=Path, action="append", default=[], metavar="PHOTO", help="the same for each reference photo"
    )
    replay.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: NAME-replay.png)"
    )
    replay.add_argument("--json", action="store_true", help="one JSON object")
    replay.set_defaults(run=_replay)

    explain = commands.add_parser(
        "explain",
        help="tell the story of a record",
        description="Say in sentences what a record holds: every attempt, what the judges said, what was changed and why.",
        epilog="example:\n  portrait explain out/anna-oil-1.json",
        formatter_class=raw,
    )
    explain.add_argument("record", type=Path, metavar="RECORD.json")
    explain.set_defaults(run=_explain)

    calibrate = commands.add_parser(
        "calibrate",
        help="measure a recipe's acceptance thresholds",
        description="Stylize people in every style and read the thresholds of acceptance off the impostor pairs: every "
        "photo against every other person's portrait, by each judge. Give one photo a person, of people that the "
        "recipe was not trained on; 23 people are enough for a false accept rate of 0.01, 72 for 0.001.",
        epilog=_CALIBRATE_EPILOG,
        formatter_class=raw,
    )
    calibrate.add_argument(
        "--subjects", type=Path, required=True, metavar="FOLDER", help="photos, one a person, also in folders below"
    )
    calibrate.add_argument(
        "--only", type=Path, metavar="FILE", help="a text file that names the photos to take, a line each"
    )
    calibrate.add_argument(
        "--impostors", type=Path, metavar="FOLDER", help="photos of other people, compared only: allows lower rates"
    )
    calibrate.add_argument("--recipe", default="mini", metavar="TEXT", help="what is calibrated (default: mini)")
    calibrate.add_argument("--style", action="append", metavar="TEXT", help="a style, may be repeated (default: all)")
    calibrate.add_argument(
        "--far", default="0.05,0.02,0.01", metavar="X,X", help="false accept rates (default: 0.05,0.02,0.01)"
    )
    calibrate.add_argument("--balance", type=float, default=0.5, metavar="X", help="of the portraits (default: 0.5)")
    calibrate.add_argument("--seed", type=int, default=1, metavar="N", help="of each portrait (default: 1)")
    calibrate.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet of the portraits")
    calibrate.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the table (default: RECIPE.thresholds.json)"
    )
    calibrate.add_argument(
        "--commercial", action="store_true", help="as in stylize: thresholds for dlib alone, without InsightFace"
    )
    calibrate.add_argument("--quiet", action="store_true", help="print errors only")
    calibrate.set_defaults(run=_calibrate)

    add_curves(commands)
    recipes = commands.add_parser(
        "recipes",
        help="list recipes, styles and licences",
        description="List the recipes, the styles of each, and the licence of every part of the chain.",
        formatter_class=raw,
    )
    recipes.add_argument("--json", action="store_true", help="one JSON object")
    recipes.set_defaults(run=_recipes)
    add_commands(commands)
    add_studio(commands)
    add_campaign_commands(commands)
    return parser


def _output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="folder (default: out)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON record per picture and line, nothing else")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="log what the loop does")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Errors of portrait are one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show must not stop the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    if hasattr(args, "photos"):
        args.photos = [match for path in args.photos for match in _expanded(path)]
    level = logging.INFO if getattr(args, "verbose", False) else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        return int(args.run(args))
    except PortraitError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("portrait: interrupted; what was finished is written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _expanded(path: Path) -> list[Path]:
    """The files of a pattern such as *.jpg, for shells that leave it to the program."""
    if path.exists() or not any(c in str(path) for c in "*?"):
        return [path]
    return [Path(match) for match in sorted(glob.glob(str(path)))] or [path]


def _complain(error: PortraitError) -> None:
    print(f"portrait: {error}", file=sys.stderr)


def _stylize(args: argparse.Namespace) -> int:
    settings = settings_from(vars(args), args.settings)
    return _run(args, settings, args.photos, args.reference)


def _demo(args: argparse.Namespace) -> int:
    from portrait.images import write_picture

    settings = settings_from({"style": ("all",)} | vars(args))
    try:
        from skimage.data import astronaut
    except ImportError:
        raise SettingsError("the demo photo comes with scikit-image; run: pip install scikit-image") from None
    photo = write_picture(args.output / "astronaut.png", astronaut())
    return _run(args, settings, [photo], [])


def _run(args: argparse.Namespace, settings: Settings, photos: Sequence[Path], references: Sequence[Path]) -> int:
    """Stylize every photo in every style; one bad photo is one line and does not stop the others."""
    from portrait.faces.identity import FaceChoice
    from portrait.images import read_photo
    from portrait.provisional import limits_for
    from portrait.recipes.licensing import license_chain
    from portrait.recipes.load import customised, load_recipe

    recipe = customised(load_recipe(settings.recipe), settings.base, settings.lora)
    names = list(recipe.styles) if "all" in settings.style else [recipe.style(n).name for n in settings.style]
    for name in names:  # before the models are loaded
        file = Path(settings.thresholds) if settings.thresholds else None
        limits_for(recipe, name, settings.far, file, judges=("dlib",) if settings.commercial else ())
    choice = FaceChoice.parse(settings.face)
    if choice.kind == "each" and references:
        raise SettingsError("--face each takes no --reference: references are photos of one person")
    if choice.kind == "like":
        read_photo(choice.reference)
    more = [read_photo(path) for path in references]
    from portrait.stylizer import Stylizer

    console = _Console(quiet=args.quiet or args.json)
    stylizer: Stylizer | None = None
    rows: list[_Row] = []
    taken: set[str] = set()
    worst = 0
    for path in photos:
        try:
            photo = read_photo(path)
            if stylizer is None:
                with console.status("loading models"):
                    stylizer = Stylizer.from_settings(settings)
            subjects = stylizer.subjects(photo, settings.face, more)
            for subject in subjects:
                stem = _free_name(photo.path.stem + (f"-face{subject.index}" if len(subjects) > 1 else ""), taken)
                for style in names:
                    for variant in range(settings.variants):
                        with console.attempts(f"{stem} {style}") as on_step:
                            made = stylizer.stylize(subject, style, settings, variant=variant, on_step=on_step)
                        rows.append(_write(made, args.output, f"{stem}-{style}-{variant + 1}", settings.format))
                        console.result(rows[-1])
                        if args.json:
                            print(json.dumps(made.record), flush=True)
        except (SettingsError, WeightsError):
            raise  # not this photo's fault, and the same for all
        except PortraitError as error:
            _complain(error)
            if args.json:
                chain = license_chain(recipe, commercial=settings.commercial)
                about = {"recipe": recipe.name, "licenses": chain}
                print(json.dumps(_failure(path, error) | about), flush=True)
            worst = max(worst, error.exit_code)
    if not rows:
        return worst
    console.summary(rows, _write_sheets(rows, args.output))
    return max(worst, 0 if any(row.accepted for row in rows) else 1)


def _free_name(stem: str, taken: set[str]) -> str:
    """`stem`, numbered if another photo of this call has it; file systems may not tell cases apart."""
    name, n = stem, 1
    while name.casefold() in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(name.casefold())
    return name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """What is kept of a finished portrait: its record, where it lies, and small pictures for the sheet."""

    record: dict[str, Any]
    path: Path
    thumbnail: RgbImage
    before: RgbImage

    @property
    def accepted(self) -> bool:
        return bool(self.record["status"] == "accepted")


def _failure(path: Path, error: PortraitError) -> dict[str, Any]:
    return {"version": 1, "status": "failed", "reasons": [str(error)], "output": None, "input": {"path": str(path)}}


def _write(result: Portrait, folder: Path, stem: str, kind: str) -> _Row:
    """Write picture, record and before/after; the name says when it was rejected.

    A rejection of an earlier run goes when the picture is now accepted; an accepted picture is never deleted.
    """
    from portrait.images import write_json, write_picture
    from portrait.report.sheet import before_after, thumbnail

    name = stem if result.accepted else f"{stem}-rejected"
    path = write_picture(folder / f"{name}.{kind}", result.picture, parameters=parameters_text(result.record))
    result.record["output"] = str(path)
    write_json(folder / f"{name}.json", result.record)
    write_picture(folder / f"{name}-before-after.jpg", before_after(result.before, result.picture))
    if result.accepted:
        for stale in (f"-rejected.{kind}", "-rejected.json", "-rejected-before-after.jpg"):
            with suppress(OSError):
                (folder / f"{stem}{stale}").unlink(missing_ok=True)
    return _Row(record=result.record, path=path, thumbnail=thumbnail(result.picture), before=thumbnail(result.before))


def _write_sheets(rows: Sequence[_Row], folder: Path) -> list[Path]:
    """Contact sheets of at most 100 pictures: contact-sheet.jpg, contact-sheet-2.jpg, ..."""
    from portrait.images import write_picture
    from portrait.report.explain import chain_in_words
    from portrait.report.sheet import contact_sheet

    cells: list[tuple[RgbImage, str, bool | None]] = []
    last = None
    for row in rows:
        record = row.record
        source = (record["input"]["path"], record["input"]["face"]["index"])
        if source != last:
            cells.append((row.before, f"{Path(record['input']['path']).name}\nthe photo", None))
            last = source
        attempt = record["attempts"][record["chosen"]]
        scores = "  ".join(f"{name} {value:.2f}" for name, value in attempt["similarity"].items())
        cells.append((row.thumbnail, f"{record['style']}: {record['status']}\n{scores}", row.accepted))
    pages = [cells[i : i + 100] for i in range(0, len(cells), 100)]
    names = ["contact-sheet.jpg", *(f"contact-sheet-{n}.jpg" for n in range(2, len(pages) + 1))]
    footer = chain_in_words(rows[0].record["recipe"], rows[0].record["licenses"])
    return [write_picture(folder / n, contact_sheet(page, footer=footer)) for n, page in zip(names, pages, strict=True)]


class _Console:
    """Everything that stylize prints: bars on stderr while it works, lines and a table on stdout."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console

        self.quiet = quiet
        self.out = Console(quiet=quiet, highlight=False)
        self.err = Console(stderr=True, quiet=quiet)

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        with self.err.status(text):
            yield

    @contextmanager
    def attempts(self, text: str, unit: str = "attempt") -> Iterator[Any]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),  # a file name may hold brackets
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=self.quiet) as progress:
            task = progress.add_task(text, total=1, note="")

            def on_step(attempt: int, step: int, total: int) -> None:
                progress.update(
                    task,
                    total=total,
                    completed=step,
                    note=f"{unit} {attempt}, step {step}/{total}" if unit else f"{step}/{total}",
                )

            yield on_step

    def result(self, row: _Row) -> None:
        from rich.markup import escape

        from portrait.judge.verdict import in_words

        if not row.accepted:
            why = "; ".join(in_words(reason) for reason in row.record["reasons"])
            self.out.print(f"[red]rejected[/] {escape(str(row.path))}: {why}", soft_wrap=True)

    def _print_whole(self, table: Any) -> None:
        """Print a table at its own width: no name is cut, however narrow the terminal."""
        from rich.measure import Measurement

        width = Measurement.get(self.out, self.out.options.update(max_width=1000), table).maximum
        self.out.width = max(self.out.width, width)
        self.out.print(table)

    def calibration(self, table: dict[str, Any], path: Path) -> None:
        from rich.markup import escape
        from rich.table import Table

        from portrait.calibration import weak_checks
        from portrait.judge.checks import passing_in_words

        shown = Table(box=None, pad_edge=False)
        for name in ("style", "judge", "FAR", "threshold", "95 % interval", "own portraits accepted", "first attempts"):
            shown.add_column(name, no_wrap=True)
        for style, entry in table["styles"].items():
            for judge, found in entry["recognisers"].items():
                for rate, value in found["thresholds"].items():
                    low, high = found["threshold_intervals"][rate]
                    tar, first = found["tar"][rate], entry["first_attempt_accepted"][rate]
                    cells = (f"{value:.3f}", f"{low:.3f} to {high:.3f}", f"{tar['rate']:.0%} of {tar['of']}")
                    shown.add_row(style, judge, rate, *cells, f"{first['rate']:.0%}")
        self._print_whole(shown)
        for style, weak in weak_checks(table).items():
            self.out.print(f"[yellow]{style}: its style check is weak[/]: {passing_in_words(weak)} pass it too")
        self.out.print(f"Written to {escape(str(path))}; use it with --thresholds.", soft_wrap=True)

    def summary(self, rows: Sequence[_Row], sheets: Sequence[Path]) -> None:
        from rich.markup import escape
        from rich.table import Table

        judges = list(rows[0].record["thresholds"])
        table = Table(box=None, pad_edge=False)
        for name in ("style", "verdict", *judges, "attempts", "seconds", "file"):
            table.add_column(
                name, justify="right" if name in (*judges, "attempts", "seconds") else "left", no_wrap=True
            )
        for row in rows:
            record = row.record
            attempt = record["attempts"][record["chosen"]]
            scores = [f"{attempt['similarity'][j]:.3f} (>= {record['thresholds'][j]['value']:.3f})" for j in judges]
            verdict = "[green]accepted[/]" if row.accepted else "[red]rejected[/]"
            count, seconds = str(len(record["attempts"])), f"{record['seconds']:.1f}"
            table.add_row(record["style"], verdict, *scores, count, seconds, escape(str(row.path)))
        self._print_whole(table)
        if note := rows[0].record.get("provisional_thresholds"):
            self.out.print(f"Note: {note}.", soft_wrap=True)
        accepted = sum(row.accepted for row in rows)
        folder = escape(str(sheets[0].parent))
        self.out.print(
            f"{accepted} of {len(rows)} accepted. Pictures, before/after strips (*-before-after.jpg) and records (.json): "
            f"{folder}; contact sheet: {escape(', '.join(map(str, sheets)))}",
            soft_wrap=True,
        )


def _faces(args: argparse.Namespace) -> int:
    from portrait.faces.identity import face_warnings
    from portrait.faces.insightface_analyzer import DET_THRESHOLD
    from portrait.images import read_photo, write_picture

    if args.draw and len(args.photos) > 1:
        raise SettingsError(f"--draw writes one picture, but {len(args.photos)} photos were given")
    (analyzer, _), worst = _face_tools(commercial=args.commercial), 0
    for path in args.photos:
        try:
            photo = read_photo(path)
        except PortraitError as error:
            _complain(error)
            if args.json:
                print(json.dumps(_failure(path, error)))
            worst = max(worst, error.exit_code)
            continue
        found = analyzer.detect(photo.pixels)
        notes = [face_warnings(photo.pixels, face) for face in found]
        best = max((f.det_score for f in analyzer.candidates(photo.pixels)), default=0.0)
        if args.json:
            listed = [
                {
                    "index": i,
                    "bbox": [round(float(v), 1) for v in face.bbox],
                    "kps": [[round(float(x), 1), round(float(y), 1)] for x, y in face.kps],
                    "det_score": round(face.det_score, 4),
                    "size": round(face.size, 1),
                    "warnings": note,
                }
                for i, (face, note) in enumerate(zip(found, notes, strict=True))
            ]
            print(json.dumps({"path": str(path), "faces": listed, "best_score": round(best, 4)}))
        else:
            size = f"{photo.pixels.shape[1]} x {photo.pixels.shape[0]}"
            print(
                f"{path} ({size}): {len(found)} face(s)"
                + ("" if found else f", best score {best:.2f} of {DET_THRESHOLD}")
            )
            for i, (face, note) in enumerate(zip(found, notes, strict=True)):
                x1, y1, x2, y2 = (round(float(v)) for v in face.bbox)
                warning = "  warning: " + ", ".join(note) if note else ""
                print(
                    f"  {i}: box {x1},{y1} to {x2},{y2}  score {face.det_score:.2f}  size {face.size:.0f} px{warning}"
                )
        if not found:
            worst = max(worst, 1)
        if args.draw:
            write_picture(args.draw, _drawn(photo.pixels, found))
    return worst


def _drawn(image: RgbImage, faces: Sequence[Any]) -> RgbImage:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width = max(2, max(image.shape[:2]) // 400)
    for i, face in enumerate(faces):
        draw.rectangle([float(v) for v in face.bbox], outline=(0, 220, 90), width=width)
        for x, y in face.kps:
            draw.ellipse([float(x) - width, float(y) - width, float(x) + width, float(y) + width], fill=(255, 60, 60))
        label, font = str(i), ImageFont.load_default(max(14, int(face.size / 5)))
        place = (float(face.bbox[0]) + width, float(face.bbox[1]) + width)
        draw.text(place, label, font=font, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return RgbImage(np.asarray(picture))


def _compare(args: argparse.Namespace) -> int:
    from portrait.faces.identity import FaceChoice, choose_faces, identify
    from portrait.images import read_photo
    from portrait.judge.thresholds import photo_thresholds
    from portrait.judge.verification import similarities
    from portrait.provisional import limits_for
    from portrait.recipes.load import load_recipe

    choice = FaceChoice.parse(args.face)
    if choice.kind not in ("auto", "largest", "index"):
        raise SettingsError(f"--face {args.face} does not name one face; use largest, auto or an index")
    if args.far is not None and not args.style:
        raise SettingsError(
            "--far goes with --style: two photos are judged at the one rate that was calibrated for photos"
        )
    judges = ("dlib",) if args.commercial else ()
    note = ""
    if args.style:
        recipe = load_recipe(args.recipe)
        recipe.style(args.style)
        found, note = limits_for(recipe, args.style, 0.01 if args.far is None else args.far, judges=judges)
        limits, far, kind = found.identity, found.far, f"{recipe.name} / {args.style}"
    else:
        table = photo_thresholds()
        limits = {n: value["threshold"] for n, value in table["recognisers"].items() if not judges or n in judges}
        far, kind = table["far"], "photo to photo"
    analyzer, referees = _face_tools(commercial=args.commercial)
    people = []
    for path in (args.a, args.b):
        photo = read_photo(path)
        _, face = choose_faces(photo.pixels, str(path), choice, analyzer)[0]
        people.append(identify([(photo.pixels, face)], analyzer, referees))
    scores = similarities(people[0], people[1].embeddings)
    passed = {name: scores[name] >= limits[name] for name in limits}
    decision = (
        "same person" if all(passed.values()) else "not the same person" if not any(passed.values()) else "undecided"
    )
    if args.json:
        result = {"similarity": {k: round(v, 4) for k, v in scores.items()}, "thresholds": limits, "far": far}
        extra = {"provisional_thresholds": note} if note else {}
        print(json.dumps(result | {"kind": kind, "decision": decision} | extra))
    else:
        for name, value in scores.items():
            sign = ">=" if passed[name] else "<"
            print(f"{name:8} {value:.3f} {sign} {limits[name]:.3f}")
        agree = "" if args.commercial else "; both judges must agree"
        print(
            f"{decision} (thresholds: {kind}, false accept rate {far:g}{agree})" + (f"\nNote: {note}." if note else "")
        )
    return 0 if decision == "same person" else 1


def _face_tools(*, commercial: bool) -> tuple[Any, list[Any]]:
    """What finds faces and judges first, and the further judges; for a business dlib alone."""
    if commercial:
        from portrait.faces.dlib_analyzer import DlibAnalyzer

        return DlibAnalyzer(), []
    from portrait.faces.dlib_recogniser import DlibReferee
    from portrait.faces.insightface_analyzer import InsightFaceAnalyzer

    return InsightFaceAnalyzer(), [DlibReferee()]


def _replay(args: argparse.Namespace) -> int:
    from portrait.images import pixels_sha256, write_picture
    from portrait.stylizer import Stylizer, library_versions

    try:
        record = json.loads(args.record.read_text("utf-8"))
        source, wanted = record["input"], str(record["picture"]["pixels_sha256"])
        threads, digests = min(max(int(record["threads"]), 1), 1024), dict(record["weights"])
        settings = settings_from(dict(record["settings"]) | {"threads": threads})
        text, then = parameters_text(record), dict(record["versions"])
        photo = _same_photo(args.photo or _beside(args.record, source["path"]), str(source["sha256"]))
        known = list(source["references"])
        if args.reference and len(args.reference) != len(known):
            raise SettingsError(f"the record has {len(known)} reference photo(s), {len(args.reference)} were given")
        places = args.reference or [_beside(args.record, r["path"]) for r in known]
        more = [_same_photo(place, str(r["sha256"])) for place, r in zip(places, known, strict=True)]
        for mask in source.get("masks", []):  # where they lie now
            place = _beside(args.record, mask["path"]).resolve()
            record["settings"]["keep"] = [
                f"mask:{place}" if text.startswith("mask:") and Path(text[5:]).name == place.name else text
                for text in record["settings"]["keep"]
            ]
    except OSError as error:
        raise SettingsError(f"cannot read {args.record}: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(f"{args.record} is not a record of portrait: {str(error)[:200]!r}") from None
    stylizer: Stylizer = Stylizer.from_settings(settings)
    changed = [str(name) for name, digest in digests.items() if stylizer.digests.get(name) != digest]
    if changed:
        raise SettingsError(
            f"the weights are not those of the record, so the picture would be another: {', '.join(changed)}"
        )
    picture = stylizer.replay(record, photo, more)
    same = pixels_sha256(picture) == wanted
    output = args.output or args.record.with_name(f"{args.record.stem}-replay.png")
    write_picture(output, picture, parameters=text)
    if args.json:
        print(json.dumps({"identical": same, "output": str(output), "pixels_sha256": pixels_sha256(picture)}))
    elif same:
        print(f"identical, pixel for pixel: {output}")
    else:
        other = ", ".join(f"{k} {then.get(k)} then, {v} now" for k, v in library_versions().items() if then.get(k) != v)
        print(f"not identical ({other or 'same versions: another processor?'}): {output}")
    return 0 if same else 1


def _beside(record: Path, path: str) -> Path:
    """The photo where the record says, or else beside the record, under its own name."""
    place = Path(path)
    return place if place.exists() or not (record.parent / place.name).exists() else record.parent / place.name


def _same_photo(path: Path, sha256: str) -> Photo:
    from portrait.images import read_photo

    photo = read_photo(path)
    if photo.sha256 != sha256:
        raise SettingsError(
            f"{path} is not the photo of the record (SHA-256 {photo.sha256[:12]}..., not {sha256[:12]}...)"
        )
    return photo


def _explain(args: argparse.Namespace) -> int:
    from portrait.report.explain import explain

    try:
        record = json.loads(args.record.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {args.record}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{args.record} is not a record of portrait: {str(error)[:200]!r}") from None
    print(explain(record))
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    from portrait.calibration import calibrate
    from portrait.images import photos_below, write_json, write_picture
    from portrait.recipes.load import load_recipe
    from portrait.report.sheet import contact_sheet, thumbnail
    from portrait.stylizer import Stylizer

    recipe = load_recipe(args.recipe)
    chosen = args.style or ["all"]
    styles = list(recipe.styles) if "all" in chosen else [recipe.style(name).name for name in chosen]
    recipe.knobs_at(args.balance)
    if not 0 <= args.seed < 2**31:
        raise SettingsError(f"--seed {args.seed} is outside 0 to {2**31}")
    try:
        rates = sorted({float(rate) for rate in args.far.split(",")}, reverse=True)
    except ValueError:
        raise SettingsError(f"--far {args.far!r} is not a list of numbers such as 0.01,0.001") from None
    photos = photos_below(args.subjects, args.only)
    known = {path.resolve() for path in photos}
    others = [p for p in photos_below(args.impostors) if p.resolve() not in known] if args.impostors else []
    console = _Console(quiet=args.quiet)
    cells: list[tuple[RgbImage, str, bool | None]] = []
    with console.status("loading models"):
        stylizer = Stylizer.from_recipe(args.recipe, commercial=args.commercial)
    with console.attempts(f"{len(photos)} people, {len(others)} further faces", unit="") as on_step:

        def on_picture(style: str, made: int, total: int, picture: RgbImage) -> None:
            on_step(made, made, total)
            if args.sheet:
                cells.append((thumbnail(picture, 160), style, None))

        table = calibrate(
            stylizer,
            photos,
            styles=styles,
            rates=rates,
            balance=args.balance,
            seed=args.seed,
            impostors=others,
            on_picture=on_picture,
        )
    path = write_json(args.output or Path(f"{args.recipe}.thresholds.json"), table)
    if args.sheet:
        write_picture(args.sheet, contact_sheet(cells, columns=max(12, round(len(cells) ** 0.5)), side=160), quality=85)
    console.calibration(table, path)
    return 0


def _recipes(args: argparse.Namespace) -> int:
    from portrait.recipes.licensing import license_chain
    from portrait.recipes.load import load_recipe, recipe_names
    from portrait.recipes.style import styles

    found: dict[str, Any] = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        found[name] = {
            "title": recipe.title,
            "styles": {s: styles()[s].title for s in recipe.styles},
            "licenses": license_chain(recipe),
        }
    if args.json:
        print(json.dumps(found))
        return 0
    for name, entry in found.items():
        print(f"{name}: {entry['title']}")
        print("  styles: " + ", ".join(f"{s} ({title})" for s, title in entry["styles"].items()))
        for part in entry["licenses"]:
            print(f"  {part['part']}: {part['license']}; commercial use: {part['commercial']}")
    return 0
