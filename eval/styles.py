"""Does the style judge tell styles apart? A confusion table: which pictures pass as which style.

    python eval/styles.py --data FACES --pictures DIR --draw            # draw held-out people, then the table
    python eval/styles.py --data FACES --pictures DIR --draw --training 4 --only-draw   # draw training people, to train on
    python eval/styles.py --data FACES --pieces WORK/judge/held --judge WORK/judge      # a judge that is not shipped yet

Rows: the recipe's portraits (DIR/STYLE/PERSON.png, in every style along the whole dial; existing ones are not drawn again),
those of the painters and the autoencoder (`weights/training/style_crops.py`), and photographs of held-out people, as they are
and degraded: compressed, gray, tinted, blocky, blurred, with few tones. Columns: the share that passes as each style; for
photographs also together with the preceding check, whether the face was redrawn. Writes eval/styles.json, and prints the
cells in which more than 5 % of other pictures pass as a style.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from held_out_people import data_argument, everyone, file_of, held_out, name_of, spread, weights_today

from portrait.calibrate.degrade import copies
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.files import write_json
from portrait.generate.framing import Framed, frame_portrait
from portrait.hub.files import sha256_of
from portrait.images import read_photo, write_picture
from portrait.judge.style_judge import STYLE_JUDGE_FILES, StyleJudge
from portrait.loop.limits import style_limit
from portrait.loop.load import load_loop, style_judge_of
from portrait.loop.scoring import face_crops, face_style
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Recipe
from portrait.records import RgbImage
from portrait.settings import Settings

OUTPUT = Path(__file__).with_suffix(".json")
MAX_CONFUSED = 0.05
"""The share of a style's pictures, or of a kind of photograph, that may pass as another style."""
POSITIONS = (0.5, 0.0, 1.0, 0.25, 0.75)
SIZE = 512


def _few_tones(photo: np.ndarray, levels: int) -> np.ndarray:
    step = 256 // levels
    return photo // step * step + step // 2


def _tinted(photo: np.ndarray, dark: tuple[int, int, int], light: tuple[int, int, int]) -> np.ndarray:
    gray = cv2.cvtColor(RgbImage(photo), cv2.COLOR_RGB2GRAY)[..., None] / 255
    return gray * np.array(light) + (1 - gray) * np.array(dark)


def _blocks(photo: np.ndarray, side: int) -> np.ndarray:
    small = cv2.resize(photo, (photo.shape[1] // side, photo.shape[0] // side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def _jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


PHOTOGRAPHS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda x: x,
    "gray": lambda x: cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "teal": lambda x: _tinted(x, (8, 40, 48), (205, 240, 235)),
    "sepia, strong": lambda x: _tinted(x, (40, 22, 8), (250, 232, 200)),
    "black ink on cream": lambda x: _tinted(x, (20, 22, 28), (243, 234, 214)),
    "violet and orange": lambda x: _tinted(x, (60, 20, 90), (255, 170, 60)),
    "jpeg quality 5": lambda x: _jpeg(x, 5),
    "blocks of 8": lambda x: _blocks(x, 8),
    "blocks of 16": lambda x: _blocks(x, 16),
    "four levels a channel": lambda x: _few_tones(x, 4),
    "three levels, gray": lambda x: _few_tones(np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, 2), 3),
    "blurred": lambda x: cv2.GaussianBlur(x, (0, 0), 3),
    "smooth within edges": lambda x: cv2.bilateralFilter(x, 9, 60, 9),
}


def of_photographs(judge: StyleJudge, frames: Iterable[Framed], copy_limit: float) -> dict[str, dict[str, Any]]:
    """Kind of photograph -> its row of the table.

    `passing` is by the style judge alone, `passing_both` together with the preceding check that the face was redrawn.
    """
    results: dict[str, list[list[float]]] = {}
    redrawn: dict[str, list[bool]] = {}
    rng = np.random.default_rng(0)
    for framed in frames:
        spoiled = {kind: np.clip(spoil(framed.image), 0, 255).astype(np.uint8) for kind, spoil in PHOTOGRAPHS.items()}
        for kind, picture in (spoiled | copies(framed.image, rng)).items():
            offered = RgbImage(np.ascontiguousarray(picture))
            results.setdefault(kind, []).append(list(judge.probabilities(offered, framed.face.kps).values()))
            redrawn.setdefault(kind, []).append(face_style(framed, offered) >= copy_limit)
    return {
        kind: row(judge, np.array(rows))
        | {"passing_both": passing(judge, np.array(rows) * np.array(redrawn[kind])[:, None])}
        for kind, rows in results.items()
    }


def framed_photos(people: list[Path]) -> dict[Path, Framed]:
    """Each person's photo, framed as by `draw`."""
    analyzer = InsightFaceAnalyzer()
    frames = {}
    for path in people:
        pixels = read_photo(path).pixels
        face = max(analyzer.detect(pixels), key=lambda f: f.size)
        frames[path] = frame_portrait(pixels, face, "bust", SIZE)
    return frames


def draw(recipe: str, people: list[Path], folder: Path) -> None:
    """Draw the recipe's portraits of people, DIR/STYLE/PERSON.png, along the whole dial; existing ones are kept."""
    loop = load_loop(Settings(recipe=recipe))
    for number, path in enumerate(people):
        missing = [s for s in loop.recipe.styles if not (folder / s / file_of(name_of(path), ".png")).is_file()]
        if not missing:
            continue
        (subject,) = loop.subjects(read_photo(path), "largest")
        framed = frame_portrait(subject.photo.pixels, subject.face, "bust", loop.recipe.resolution)
        for k, style in enumerate(loop.recipe.styles):
            if style not in missing:
                continue
            knobs = loop.knobs_for_balance(style, POSITIONS[(number + k) % len(POSITIONS)], 0.0)
            picture = loop.draw(framed, subject.identity, style, knobs, 1 + number)
            write_picture(folder / style / file_of(name_of(path), ".png"), picture)
        print(f"{number + 1} of {len(people)}: {name_of(path)}", flush=True)


def of_pictures(judge: StyleJudge, folder: Path, people: list[Path], styles: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Style -> (N, classes) probabilities of the portraits in DIR/STYLE in which a face is found."""
    analyzer = InsightFaceAnalyzer()
    results: dict[str, np.ndarray] = {}
    for style in styles:
        rows = []
        for path in people:
            file = folder / style / file_of(name_of(path), ".png")
            if not file.is_file():
                continue
            picture = read_photo(file).pixels
            face = max(analyzer.detect(picture), key=lambda f: f.size, default=None)
            if face is not None:
                rows.append(list(judge.probabilities(picture, face.kps).values()))
        if rows:
            results[style] = np.array(rows)
    return results


def changed_of(judge: StyleJudge, folder: Path, frames: Mapping[Path, Framed], style: str) -> dict[str, float]:
    """Feature of a person -> the share of a style's portraits that are rejected because it was changed."""
    limits = judge.limits[style]
    rejected: dict[str, list[bool]] = {}
    for path, framed in frames.items():
        file = folder / style / file_of(name_of(path), ".png")
        if file.is_file():
            for what, change in limits.changes(*face_crops(framed, read_photo(file).pixels)).items():
                rejected.setdefault(what, []).append(abs(change) > limits.most[what])
    return {what: round(float(np.mean(values)), 4) for what, values in rejected.items()}


def of_pieces(judge: StyleJudge, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Kind -> style -> (N, classes) probabilities of the crops from `style_crops.py`."""
    results: dict[str, dict[str, np.ndarray]] = {}
    for kind in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        for style in sorted(path.name for path in (folder / kind).iterdir()):
            windows = []
            for file in sorted((folder / kind / style).glob("*.png")):
                piece: np.ndarray = read_photo(file).pixels
                edge = (piece.shape[0] - judge.side) // 2
                windows.append(piece[edge : edge + judge.side, edge : edge + judge.side])
            results.setdefault(kind, {})[style] = judge.classify(np.stack(windows))
    return results


def passing(judge: StyleJudge, probabilities: np.ndarray) -> dict[str, float]:
    """Style -> the share of pictures that pass as it."""
    return {
        style: round(float((probabilities[:, judge.classes.index(style)] >= limit.probability).mean()), 4)
        for style, limit in judge.limits.items()
    }


def row(judge: StyleJudge, probabilities: np.ndarray) -> dict[str, Any]:
    return {"pictures": len(probabilities), "passing": passing(judge, probabilities)}


def confusions(table: Mapping[str, Any]) -> tuple[list[str], dict[str, list[float]]]:
    """Cells above `MAX_CONFUSED`, in words; and kind -> the share of right pictures that are rejected, one per style."""
    bad = []
    rejected: dict[str, list[float]] = {}
    for who, rows in table["drawn"].items():
        for style, entry in rows.items():
            rejected.setdefault(who, []).append(1 - entry["passing"].get(style, 1.0))
            bad += [
                f"{who}, {style}: {share:.0%} of {entry['pictures']} pass as {other}"
                for other, share in entry["passing"].items()
                if other != style and share > MAX_CONFUSED
            ]
    for kind, entry in table["photographs"].items():
        bad += [
            f"photographs, {kind}: {share:.0%} of {entry['pictures']} pass as {other}"
            for other, share in entry["passing_both"].items()
            if share > MAX_CONFUSED
        ]
    return bad, rejected


def judge_in(folder: Path) -> StyleJudge:
    """A judge that is not part of a recipe yet."""
    return StyleJudge(folder, {name: sha256_of(folder / name) for name in STYLE_JUDGE_FILES})


def measured(recipe: Recipe, judge: StyleJudge, people: list[Path], args: argparse.Namespace) -> dict[str, Any]:
    """What the judge says of the pieces, of the portraits of these people, and of photographs."""
    drawn: dict[str, dict[str, np.ndarray]] = {} if args.pieces is None else of_pieces(judge, args.pieces)
    if args.pictures:
        drawn[recipe.name] = of_pictures(judge, args.pictures, people, recipe.styles)
    frames = framed_photos(held_out(args.data))
    table: dict[str, Any] = {
        "weights": weights_today(),
        "judge": judge.digests,
        "least": {style: limit.probability for style, limit in judge.limits.items()},
        "drawn": {who: {style: row(judge, p) for style, p in rows.items()} for who, rows in drawn.items()},
        "photographs": of_photographs(judge, frames.values(), style_limit(recipe, recipe.styles[0], {})),
    }
    if args.pictures:
        judged_styles = [style for style in recipe.styles if style in judge.limits]
        table["changed"] = {style: changed_of(judge, args.pictures, frames, style) for style in judged_styles}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--judge", type=Path, help="folder of a style judge to use instead of the recipe's")
    parser.add_argument("--pieces", type=Path, help="crops of held-out people from weights/training/style_crops.py")
    parser.add_argument("--pictures", type=Path, help="the recipe's portraits, DIR/STYLE/PERSON.png")
    parser.add_argument("--draw", action="store_true", help="draw those that are missing in --pictures")
    parser.add_argument(
        "--training", type=int, default=0, metavar="N", help="draw N training people instead of the held-out ones"
    )
    parser.add_argument("--only-draw", action="store_true", help="measure nothing")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    judge = judge_in(args.judge) if args.judge else style_judge_of(recipe)
    if judge is None and not args.only_draw:
        raise SystemExit(f"recipe {recipe.name} has no style judge; name one with --judge")
    people = held_out(args.data)
    if args.training:
        people = spread([path for path in everyone(args.data) if path not in people], args.training)
    if args.draw:
        draw(args.recipe, people, args.pictures)
    if args.only_draw or judge is None:
        return
    table = measured(recipe, judge, people, args)
    for style, shares in table.get("changed", {}).items():
        print(f"{style}: rejected as changed:", ", ".join(f"{what} {share:.0%}" for what, share in shares.items()))
    bad, rejected = confusions(table)
    write_json(args.output, table | {"above_5_percent": bad})
    for who, shares in rejected.items():
        print(f"{who}: {np.mean(shares):.1%} of right pictures rejected, at most {max(shares):.1%} in a style")
    print("\n".join(bad) or "no more than 5 % of other pictures, or of any kind of photograph, pass as a style")


if __name__ == "__main__":
    main()
