"""The command line. Heavy imports stay inside the commands, so that --help answers at once."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import portrait
from portrait.errors import PortraitError, SettingsError
from portrait.settings import Settings, add_flags, settings_from

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

exit codes: 0 done, 1 nothing accepted or failed, 2 something given cannot be used
"""
_STYLIZE_EPILOG = """examples:
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize *.jpg --style oil --style sketch --variants 3
  portrait stylize anna.jpg --reference anna2.jpg --reference anna3.jpg --style popart
  portrait stylize team.jpg --face like:anna.jpg --frame full --style oil
  portrait stylize anna.jpg --style comic --ip-adapter-scale 1.2 --seed 7 --json

Beside each picture lies a .json record of settings, seeds, every attempt and every score. A portrait that
no attempt brought past both judges is written as NAME-rejected.png, and the exit code is 1.
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
    compare.add_argument("--far", type=float, default=0.01, metavar="X", help="false accept rate (default: 0.01)")
    compare.add_argument("--face", default="largest", metavar="TEXT", help="as in stylize (default: largest)")
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
    replay.add_argument("--photo", type=Path, help="the photo, if it no longer lies where the record says")
    replay.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: NAME-replay.png)"
    )
    replay.add_argument("--json", action="store_true", help="one JSON object")
    replay.set_defaults(run=_replay)

    recipes = commands.add_parser(
        "recipes",
        help="list recipes, styles and licences",
        description="List the recipes, the styles of each, and the licence of every part of the chain.",
        formatter_class=raw,
    )
    recipes.add_argument("--json", action="store_true", help="one JSON object")
    recipes.set_defaults(run=_recipes)
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
    args = build_parser().parse_args(argv)
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
    from portrait.images import read_photo
    from portrait.recipes.recipe import load_recipe

    recipe = load_recipe(settings.recipe)
    names = list(recipe.styles) if "all" in settings.style else [recipe.style(n).name for n in settings.style]
    read: list[Photo] = []
    more = [read_photo(path) for path in references]
    worst = 0
    for path in photos:
        try:
            read.append(read_photo(path))
        except PortraitError as error:
            _complain(error)
            _failed(args, path, error)
            worst = max(worst, error.exit_code)
    if not read:
        return worst
    from portrait.stylizer import Stylizer

    console = _Console(quiet=args.quiet or args.json)
    with console.status("loading models"):
        stylizer = Stylizer.from_recipe(settings.recipe, threads=settings.threads)
    taken: dict[str, int] = {}
    rows: list[tuple[Portrait, Path]] = []
    for photo in read:
        try:
            subjects = stylizer.subjects(photo, settings.face, more)
        except PortraitError as error:
            _complain(error)
            _failed(args, photo.path, error)
            worst = max(worst, error.exit_code)
            continue
        for subject in subjects:
            stem = photo.path.stem + (f"-face{subject.index}" if len(subjects) > 1 else "")
            taken[stem] = taken.get(stem, 0) + 1
            if taken[stem] > 1:  # two photos of one name from two folders
                stem = f"{stem}-{photo.sha256[:8]}"
            for style in names:
                for variant in range(settings.variants):
                    with console.attempts(f"{stem} {style}") as on_step:
                        result = stylizer.stylize(subject, style, settings, variant=variant, on_step=on_step)
                    path = _write(result, args.output, f"{stem}-{style}-{variant + 1}", settings.format)
                    rows.append((result, path))
                    console.result(result, path)
                    if args.json:
                        print(json.dumps(result.record, ensure_ascii=False), flush=True)
    if not rows:
        return worst
    if not all(result.accepted for result, _ in rows):
        worst = max(worst, 1)
    sheet = _write_sheet(rows, args.output)
    console.summary(rows, sheet)
    return worst


def _failed(args: argparse.Namespace, path: Path, error: PortraitError) -> None:
    if args.json:
        record = {
            "version": 1,
            "status": "failed",
            "reasons": [str(error)],
            "output": None,
            "input": {"path": str(path)},
        }
        print(json.dumps(record, ensure_ascii=False), flush=True)


def _write(result: Portrait, folder: Path, stem: str, kind: str) -> Path:
    """Write picture, record and before/after; the pair's names say when it was rejected."""
    from portrait.images import write_json, write_picture
    from portrait.report.sheet import before_after

    name = stem if result.accepted else f"{stem}-rejected"
    path = write_picture(folder / f"{name}.{kind}", result.picture, parameters=parameters_text(result.record))
    result.record["output"] = str(path)
    write_json(folder / f"{name}.json", result.record)
    write_picture(folder / f"{stem}-before-after.jpg", before_after(result.before, result.picture))
    stale = f"{stem}-rejected" if result.accepted else stem  # an earlier run's verdict must not lie beside this one
    for suffix in (kind, "json"):
        (folder / f"{stale}.{suffix}").unlink(missing_ok=True)
    return path


def parameters_text(record: dict[str, Any]) -> str:
    """The `parameters` text of AUTOMATIC1111's web UI, which other tools read."""
    attempt = record["attempts"][record["chosen"]]
    knobs = attempt["knobs"]
    lines = [record["prompt"]]
    if record["negative_prompt"]:
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    values = {
        "Steps": knobs["num_inference_steps"],
        "Sampler": "DDIM",
        "CFG scale": knobs["guidance_scale"],
        "Seed": attempt["seed"],
        "Size": "x".join(map(str, record["picture"]["size"])),
        "Model": record["recipe"],
        "Denoising strength": knobs["strength"],
        "IP-Adapter scale": knobs["ip_adapter_scale"],
        "Style": record["style"],
        "Version": f"portrait {record['versions']['portrait']}",
    }
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in values.items())])


def _write_sheet(rows: Sequence[tuple[Portrait, Path]], folder: Path) -> Path:
    from portrait.images import write_picture
    from portrait.report.sheet import contact_sheet

    cells: list[tuple[RgbImage, str, bool | None]] = []
    last = None
    for result, _ in rows:
        record = result.record
        source = (record["input"]["path"], record["input"]["face"]["index"])
        if source != last:
            cells.append((result.before, f"{Path(record['input']['path']).name}\nthe photo", None))
            last = source
        attempt = record["attempts"][record["chosen"]]
        scores = "  ".join(f"{name} {value:.2f}" for name, value in attempt["similarity"].items())
        cells.append((result.picture, f"{record['style']}: {record['status']}\n{scores}", result.accepted))
    return write_picture(folder / "contact-sheet.jpg", contact_sheet(cells))


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
    def attempts(self, text: str) -> Iterator[Any]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=self.quiet) as progress:
            task = progress.add_task(text, total=1, note="")

            def on_step(attempt: int, step: int, total: int) -> None:
                progress.update(task, total=total, completed=step, note=f"attempt {attempt}, step {step}/{total}")

            yield on_step

    def result(self, result: Portrait, path: Path) -> None:
        from portrait.judge.verdict import in_words

        if not result.accepted:
            why = "; ".join(in_words(reason) for reason in result.record["reasons"])
            self.out.print(f"[red]rejected[/] {path}: {why}", soft_wrap=True)

    def summary(self, rows: Sequence[tuple[Portrait, Path]], sheet: Path) -> None:
        from rich.table import Table

        judges = list(rows[0][0].record["thresholds"])
        table = Table(box=None, pad_edge=False)
        for name in ("style", "verdict", *judges, "attempts", "seconds", "file"):
            table.add_column(
                name, justify="right" if name in (*judges, "attempts", "seconds") else "left", no_wrap=name != "file"
            )
        for result, path in rows:
            record = result.record
            attempt = record["attempts"][record["chosen"]]
            scores = [f"{attempt['similarity'][j]:.3f} (>= {record['thresholds'][j]['value']:.3f})" for j in judges]
            verdict = "[green]accepted[/]" if result.accepted else "[red]rejected[/]"
            count, seconds = str(len(record["attempts"])), f"{record['seconds']:.1f}"
            table.add_row(record["style"], verdict, *scores, count, seconds, str(path))
        self.out.print(table, soft_wrap=True)
        accepted = sum(result.accepted for result, _ in rows)
        self.out.print(
            f"{accepted} of {len(rows)} accepted. Contact sheet: {sheet}; before/after: "
            f"{sheet.parent}/*-before-after.jpg; a record lies beside each picture (.json).",
            soft_wrap=True,
        )


def _faces(args: argparse.Namespace) -> int:
    from portrait.faces.identity import face_warnings
    from portrait.faces.insight import DET_THRESHOLD, InsightFaceAnalyzer
    from portrait.images import read_photo, write_picture

    if args.draw and len(args.photos) > 1:
        raise SettingsError(f"--draw writes one picture, but {len(args.photos)} photos were given")
    analyzer, worst = InsightFaceAnalyzer(), 0
    for path in args.photos:
        try:
            photo = read_photo(path)
        except PortraitError as error:
            _complain(error)
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
            print(json.dumps({"path": str(path), "faces": listed, "best_score": round(best, 4)}, ensure_ascii=False))
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
    return np.asarray(picture)


def _compare(args: argparse.Namespace) -> int:
    from portrait.faces.identity import FaceChoice, choose_faces, identify
    from portrait.faces.insight import InsightFaceAnalyzer
    from portrait.faces.referee import DlibReferee
    from portrait.images import read_photo
    from portrait.judge.thresholds import photo_thresholds, thresholds_for
    from portrait.judge.verification import similarities
    from portrait.recipes.recipe import load_recipe

    choice = FaceChoice.parse(args.face)
    if choice.kind not in ("auto", "largest", "index"):
        raise SettingsError(f"--face {args.face} does not name one face; use largest, auto or an index")
    if args.style:
        load_recipe(args.recipe).style(args.style)
        found = thresholds_for(args.recipe, args.style, args.far)
        limits, far, kind = found.identity, args.far, f"{args.recipe} / {args.style}"
    else:
        table = photo_thresholds()
        limits = {name: value["threshold"] for name, value in table["recognisers"].items()}
        far, kind = table["far"], "photo to photo"
    analyzer, referee = InsightFaceAnalyzer(), DlibReferee()
    people = []
    for path in (args.a, args.b):
        photo = read_photo(path)
        _, face = choose_faces(photo.pixels, str(path), choice, analyzer)[0]
        people.append(identify([(photo.pixels, face)], analyzer, [referee]))
    scores = similarities(people[0], people[1].embeddings)
    passed = {name: scores[name] >= limits[name] for name in limits}
    decision = (
        "same person" if all(passed.values()) else "not the same person" if not any(passed.values()) else "undecided"
    )
    if args.json:
        result = {"similarity": {k: round(v, 4) for k, v in scores.items()}, "thresholds": limits, "far": far}
        print(json.dumps(result | {"kind": kind, "decision": decision}))
    else:
        for name, value in scores.items():
            sign = ">=" if passed[name] else "<"
            print(f"{name:8} {value:.3f} {sign} {limits[name]:.3f}")
        print(f"{decision} (thresholds: {kind}, false accept rate {far:g}; both judges must agree)")
    return 0 if decision == "same person" else 1


def _replay(args: argparse.Namespace) -> int:
    from portrait.images import pixels_sha256, write_picture
    from portrait.stylizer import Stylizer, library_versions

    try:
        record = json.loads(args.record.read_text("utf-8"))
        source, wanted = record["input"], record["picture"]["pixels_sha256"]
        recipe, threads, weights = record["settings"]["recipe"], record["threads"], record["weights"]
        references = source.get("references", [])
    except OSError as error:
        raise SettingsError(f"cannot read {args.record}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{args.record} is not a record of portrait: {error!r}") from None
    photo = _same_photo(args.photo or Path(source["path"]), source["sha256"])
    more = [_same_photo(Path(r["path"]), r["sha256"]) for r in references]
    stylizer: Stylizer = Stylizer.from_recipe(recipe, threads=threads)
    changed = [name for name, digest in weights.items() if stylizer.digests.get(name) != digest]
    if changed:
        raise SettingsError(
            f"the weights are not those of the record, so the picture would be another: {', '.join(changed)}"
        )
    picture = stylizer.replay(record, photo, more)
    same = pixels_sha256(picture) == wanted
    output = args.output or args.record.with_name(f"{args.record.stem}-replay.png")
    write_picture(output, picture, parameters=parameters_text(record))
    if args.json:
        print(json.dumps({"identical": same, "output": str(output), "pixels_sha256": pixels_sha256(picture)}))
    elif same:
        print(f"identical, pixel for pixel: {output}")
    else:
        here, then = library_versions(), record.get("versions", {})
        other = ", ".join(f"{k} {then.get(k)} then, {v} now" for k, v in here.items() if then.get(k) != v)
        print(f"not identical ({other or 'same versions: another processor?'}): {output}")
    return 0 if same else 1


def _same_photo(path: Path, sha256: str) -> Photo:
    from portrait.images import read_photo

    photo = read_photo(path)
    if photo.sha256 != sha256:
        raise SettingsError(
            f"{path} is not the photo of the record (SHA-256 {photo.sha256[:12]}..., not {sha256[:12]}...)"
        )
    return photo


def _recipes(args: argparse.Namespace) -> int:
    from portrait import weights
    from portrait.recipes.recipe import load_recipe, recipe_names
    from portrait.recipes.style import styles

    judges = (weights.SCRFD_500M, weights.W600K_MBF, weights.DLIB_RESNET, weights.DLIB_LANDMARKS)
    chain = [{"part": f.name, "license": f.license, "commercial": f.commercial} for f in judges]
    found: dict[str, Any] = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        found[name] = {
            "title": recipe.title,
            "styles": {s: styles()[s].title for s in recipe.styles},
            "licenses": [*recipe.licenses, *chain],
        }
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for name, entry in found.items():
        print(f"{name}: {entry['title']}")
        print("  styles: " + ", ".join(f"{s} ({title})" for s, title in entry["styles"].items()))
        for part in entry["licenses"]:
            print(f"  {part['part']}: {part['license']}; commercial use: {part['commercial']}")
    return 0
