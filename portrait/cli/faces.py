"""`portrait faces` and `portrait compare`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.cli.console import complain, failure_record
from portrait.errors import PortraitError, SettingsError

if TYPE_CHECKING:
    from portrait.records import RgbImage


def add(commands: Any) -> None:
    """Add `faces` and `compare` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
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
            complain(error)
            if args.json:
                print(failure_record(path, error).to_json())
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

    from portrait.records import RgbImage

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
    from portrait.loop.limits import resolve_thresholds
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
        found, note = resolve_thresholds(recipe, args.style, 0.01 if args.far is None else args.far, judges=judges)
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
    from portrait.faces.dlib_recogniser import DlibRecogniser
    from portrait.faces.insightface_analyzer import InsightFaceAnalyzer

    return InsightFaceAnalyzer(), [DlibRecogniser()]
