"""How well portraits by anybody are recognized: everybody's photos against every portrait, per style and judge.

    python eval/people.py --photos PHOTOS --portraits PORTRAITS [--far 0.01] [--output people.json]
    python eval/people.py --photos PHOTOS --portraits PORTRAITS --compare      # judges for commercial use beside all of them

PHOTOS/PERSON/*.jpg: a folder per person, with two photos or more. PORTRAITS/STYLE/PERSON.png, or PORTRAITS/STYLE/PERSON/*.png:
drawn by people, by `portrait stylize`, or by anything else. The first photo of a person, by name, is the one that was
stylized, unless a record that `portrait stylize` left beside the portrait names another. Likeness to that photo partly comes
from its pixels, so likeness to the second photo is the honest measure. Without --portraits only the photos are compared.

Per style, photo (`first`, `second`) and judge: TAR at the requested FAR with a limit derived from these impostors, EER, and
rank-1 (how often the nearest photo is of the right person), with 95 % intervals over people. `together` is the verdict of all
judges at limits derived from the other half of these people, if there are enough: 46 for a FAR of 0.01. `gate` is their
verdict at the limits of a recipe, for styles that are calibrated with these judges and this detector. A portrait in which no
face is found counts as not recognized; photos without a face are not scored, but counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portrait.calibrate.gate import fused_gate, passes
from portrait.errors import FaceError, PortraitError, SettingsError, TooFewPairsError
from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.identity import FaceAnalyzer, FaceChoice, Recognizer, choose_faces, identify
from portrait.files import write_json
from portrait.images import PassedOver, photos_below, photos_in, read_photo
from portrait.images.search import describe
from portrait.intervals import bootstrap_share_of_pairs, wilson_people
from portrait.judge.thresholds import Gate, equal_error_rate, threshold_at_far, thresholds_for
from portrait.records import Embedding
from portrait.records.portrait import read_portrait

ROUNDS = 200
"""Bootstrap rounds for the EER."""
NOT_SEEN = -1.0
"""The likeness of a portrait in which no face is found."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """N pictures as the judges see them: their people, and judge -> (N, D) unit embeddings, zeros without a face."""

    people: np.ndarray
    embeddings: dict[str, np.ndarray]
    seen: np.ndarray


def look_at(paths: Sequence[tuple[str, Path]], analyzer: FaceAnalyzer, recognizers: Sequence[Recognizer]) -> Pictures:
    """Embed the largest face of each picture."""
    rows: list[dict[str, Embedding] | None] = []
    for _, path in paths:
        try:
            photo = read_photo(path)
            _, face = choose_faces(photo.pixels, str(path), FaceChoice("largest"), analyzer)[0]
            rows.append(dict(identify([(photo.pixels, face)], analyzer, recognizers).embeddings))
        except FaceError:
            rows.append(None)
    has_face = np.array([row is not None for row in rows], bool)
    with_face = [row for row in rows if row is not None]
    embeddings = {}
    for judge in with_face[0] if with_face else ():
        vectors = np.zeros((len(rows), len(with_face[0][judge])), np.float32)
        vectors[has_face] = np.stack([row[judge] for row in with_face])
        embeddings[judge] = vectors
    return Pictures(people=np.array([person for person, _ in paths]), embeddings=embeddings, seen=has_face)


def likeness(references: Pictures, candidates: Pictures) -> dict[str, np.ndarray]:
    """Judge -> (references, candidates) cosine similarity; `NOT_SEEN` for candidates without a face."""
    scores = {}
    for judge, vectors in references.embeddings.items():
        values = vectors @ candidates.embeddings[judge].T if candidates.embeddings else np.zeros((len(vectors), 0))
        scores[judge] = np.where(candidates.seen, values, NOT_SEEN)
    return scores


def rates(scores: np.ndarray, references: np.ndarray, candidates: np.ndarray, far: float) -> dict[str, Any]:
    """The rates of one judge.

    Args:
        scores: (R, C) likeness.
        references: (R,) the person of each photo, each person once.
        candidates: (C,) the person of each portrait.
        far: The false accept rate of the TAR.

    Raises:
        TooFewPairsError: there are too few impostor pairs for the rate.
    """
    is_own = references[:, None] == candidates
    genuine, impostor = scores[is_own], scores[~is_own]
    whose = np.broadcast_to(candidates, scores.shape)[is_own]
    limit = threshold_at_far(impostor, far)
    nearest = references[scores.argmax(0)] == candidates
    nearest = nearest & (scores.max(0) > NOT_SEEN)
    counted = np.isin(candidates, references)
    return {
        "limit": round(limit, 4),
        "tar": _share(genuine >= limit, whose),
        "eer": {
            "rate": round(equal_error_rate(genuine, impostor), 4),
            "interval": _over_people(scores, references, candidates, equal_error_rate),
        },
        "rank_1": _share(nearest[counted], candidates[counted]),
        "genuine_mean": round(float(genuine.mean()), 4),
        "impostor_mean": round(float(impostor.mean()), 4),
        "impostor_pairs": int(impostor.size),
    }


def gate_rates(
    passed: np.ndarray, references: np.ndarray, candidates: np.ndarray, counted: np.ndarray | None = None
) -> dict[str, Any]:
    """TAR and FAR of a verdict, (R, C) bool, with intervals over people; of the pairs that are `counted`, if given."""
    is_own = references[:, None] == candidates
    whose = np.broadcast_to(candidates, passed.shape)[is_own]
    names = np.unique(np.concatenate([references, candidates]))
    row, column = np.searchsorted(names, references), np.searchsorted(names, candidates)
    above, pairs = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    places = np.ix_(row, column)
    stranger = ~is_own if counted is None else ~is_own & counted
    np.add.at(above, places, passed & stranger)
    np.add.at(pairs, places, stranger.astype(float))
    low, high = bootstrap_share_of_pairs(above, pairs)
    far = {"rate": round(float(passed[stranger].mean()), 5), "interval": [round(low, 5), round(high, 5)]}
    return {"tar": _share(passed[is_own], whose), "far": far | {"of": int(stranger.sum())}}


def held_out_gate(
    scores: Mapping[str, np.ndarray], references: np.ndarray, candidates: np.ndarray, far: float
) -> dict[str, Any] | None:
    """TAR and FAR of all judges together, each half of the people at the limits of the other; None for too few people.

    Args:
        scores: Judge -> (R, C) likeness.
        references: (R,) the person of each photo, each person once.
        candidates: (C,) the person of each portrait; the first of each person counts.
        far: The joint false accept rate of all judges.
    """
    names, first = np.unique(candidates, return_index=True)
    is_reference = np.isin(names, references)
    names, columns = names[is_reference], first[is_reference]
    rows = np.array([int(np.flatnonzero(references == name)[0]) for name in names], int)
    square = {judge: values[np.ix_(rows, columns)] for judge, values in scores.items()}
    halves = [np.arange(len(names)) % 2 == half for half in range(2)]
    passed = np.zeros((len(names), len(names)), bool)
    try:
        for tuning, new in (halves, halves[::-1]):
            gate = fused_gate({judge: values[np.ix_(tuning, tuning)] for judge, values in square.items()}, far)
            passed[np.ix_(new, new)] = passes(gate, {j: values[np.ix_(new, new)] for j, values in square.items()})
    except TooFewPairsError:
        return None
    return gate_rates(passed, names, names, counted=halves[0][:, None] == halves[0])


def _share(passed: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    low, high = wilson_people(passed, people)
    rate = round(float(passed.mean()), 4) if len(passed) else None
    return {"rate": rate, "interval": [round(low, 4), round(high, 4)], "of": len(passed)}


def _over_people(
    scores: np.ndarray,
    references: np.ndarray,
    candidates: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float],
) -> list[float]:
    """The 95 % interval of a statistic of genuine and impostor scores, resampling people in both roles."""
    rng = np.random.default_rng(0)
    names = np.unique(references)
    values = []
    for _ in range(ROUNDS):
        drawn = rng.choice(names, len(names))
        rows = np.concatenate([np.nonzero(references == name)[0] for name in drawn])
        columns = np.concatenate([np.nonzero(candidates == name)[0] for name in drawn])
        is_own = references[rows][:, None] == candidates[columns]
        sample = scores[np.ix_(rows, columns)]
        if is_own.any() and not is_own.all():
            values.append(statistic(sample[is_own], sample[~is_own]))
    return [round(float(value), 4) for value in np.quantile(values, [0.025, 0.975])]


def photos_of_people(folder: Path) -> dict[str, list[Path]]:
    """Person -> photos, by name."""
    people = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos, passed_over = photos_in(path)
        _say(path, passed_over)
        if photos:
            people[path.name] = photos
    if len(people) < 2:
        raise SettingsError(f"{folder} holds photos of {len(people)} people; it needs a folder per person, two or more")
    return people


def _say(folder: Path, passed_over: Sequence[PassedOver]) -> None:
    """Print the names of files that are not pictures; records beside portraits are expected."""
    others = [item for item in passed_over if item.path.suffix != ".json"]
    if others:
        print(f"{folder}: {describe(others)}", file=sys.stderr)


def portraits_of_people(folder: Path, people: Mapping[str, Sequence[Path]]) -> dict[str, list[tuple[str, Path]]]:
    """Style -> (person, file) of each portrait."""
    styles = {}
    for style in sorted(path for path in folder.iterdir() if path.is_dir()):
        listed = []
        portraits, passed_over = photos_below(style)
        _say(style, passed_over)
        for path in portraits:
            person = path.stem if path.parent == style else path.relative_to(style).parts[0]
            if person not in people:
                raise SettingsError(f"{path} is of nobody in the photos: there is no folder {person}")
            listed.append((person, path))
        if listed:
            styles[style.name] = listed
    if not styles:
        raise SettingsError(f"{folder} holds no portraits; put them into STYLE/PERSON.png or STYLE/PERSON/")
    return styles


def in_order(photos: Sequence[Path], portrait: Path | None) -> list[Path]:
    """A person's photos, beginning with the one that was stylized, if a record beside the portrait names it."""
    record = None if portrait is None else portrait.with_suffix(".json")
    if record is None or not record.is_file():
        return list(photos)
    try:
        name = Path(read_portrait(record.read_bytes(), record).input.path).name
    except PortraitError:
        return list(photos)
    return sorted(photos, key=lambda path: path.name != name)


def shipped_gate(recipe: str, style: str, far: float, judges: Sequence[str], detector: str) -> Gate | None:
    """The limits of a recipe's calibration as a gate; None if it lacks the detector, or all but one of the judges."""
    for chosen in (judges, judges[:2]):
        try:
            limits = thresholds_for(recipe, style, far, judges=chosen, detector=detector)
        except SettingsError:
            continue
        return limits.gate or Gate(floors=limits.identity, far=far)
    return None


def all_rates(references: Pictures, candidates: Pictures, gate: Gate | None, far: float) -> dict[str, Any]:
    """Judge -> rates; and those of all judges together, and of the recipe's gate, where there are any."""
    whose = references.people[references.seen]
    scores = {judge: values[references.seen] for judge, values in likeness(references, candidates).items()}
    found = {judge: rates(values, whose, candidates.people, far) for judge, values in scores.items()}
    together = held_out_gate(scores, whose, candidates.people, far)
    if together is not None:
        found["together"] = together
    if gate is not None:
        found["gate"] = gate_rates(passes(gate, scores) & candidates.seen, whose, candidates.people)
    return found


def measure(
    photos: Mapping[str, Sequence[Path]],
    portraits: Mapping[str, Sequence[tuple[str, Path]]],
    analyzer: FaceAnalyzer,
    recognizers: Sequence[Recognizer],
    far: float,
    recipe: str = "mini",
) -> dict[str, Any]:
    """The whole table: style -> first and second photo -> judge -> rates."""
    judges = [analyzer.name, *(recognizer.name for recognizer in recognizers)]
    table: dict[str, Any] = {}
    unseen: dict[str, int] = {}
    for style, drawn in (portraits or {"photos": []}).items():
        by_person = {person: path for person, path in reversed(drawn)}
        ordered = {person: in_order(paths, by_person.get(person)) for person, paths in photos.items()}
        entry: dict[str, Any] = {}
        first = [(person, paths[0]) for person, paths in ordered.items()]
        second = [(person, paths[1]) for person, paths in ordered.items() if len(paths) > 1]
        candidates = look_at(drawn or second, analyzer, recognizers)
        gate = shipped_gate(recipe, style, far, judges, analyzer.detector) if drawn else None
        compared = {"first": first, "second": second} if drawn and second else {"first": first}
        for name, listed in compared.items():
            references = look_at(listed, analyzer, recognizers)
            unseen[f"{style}, {name}"] = int((~references.seen).sum())
            entry[name] = all_rates(references, candidates, gate, far)
        table[style] = entry | {"pictures": len(candidates.people), "no_face": int((~candidates.seen).sum())}
    return {"far": far, "people": len(photos), "photos_without_a_face": unseen, "styles": table}


def markdown(result: Mapping[str, Any]) -> str:
    """A line per style, photo and judge."""
    lines = [
        f"| style | photo | judge | TAR at FAR {result['far']:g} | EER | rank-1 | FAR |",
        "|---|---|---|---|---|---|---|",
    ]

    def cell(entry: Mapping[str, Any] | None) -> str:
        if entry is None or entry["rate"] is None:
            return ""
        low, high = entry["interval"]
        return f"{entry['rate']:.1%} ({low:.1%} to {high:.1%})"

    for style, entry in result["styles"].items():
        for photo in ("first", "second"):
            for judge, row in entry.get(photo, {}).items():
                cells = [cell(row["tar"]), cell(row.get("eer")), cell(row.get("rank_1")), cell(row.get("far"))]
                lines.append(f"| {style} | {photo} | {judge} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison(full: Mapping[str, Any], commercial: Mapping[str, Any]) -> str:
    """A line per style and photo: the joint TAR of both sets of judges, and what the second set loses."""
    lines = [
        f"| style | photo | all judges: TAR at FAR {full['far']:g}, FAR | for commercial use: TAR, FAR | loses |",
        "|---|---|---|---|---|",
    ]
    for style in full["styles"]:
        for photo in ("first", "second"):
            rows = [table["styles"][style].get(photo, {}).get("together") for table in (full, commercial)]
            if any(row is None for row in rows):
                continue
            cells = [f"{row['tar']['rate']:.1%}, {row['far']['rate']:.2%}" for row in rows]
            loss = (rows[0]["tar"]["rate"] - rows[1]["tar"]["rate"]) / max(rows[0]["tar"]["rate"], 1e-9)
            lines.append(f"| {style} | {photo} | {cells[0]} | {cells[1]} | {loss:.1%} |")
    if len(lines) == 2:
        return "too few people to derive limits from one half for the other; use a larger --far"
    return "\n".join(lines)


def face_tools(*, commercial: bool) -> tuple[FaceAnalyzer, list[Recognizer]]:
    """The judges: ArcFace, dlib, and SFace where it was fetched; YuNet, SFace and dlib for commercial use."""
    from portrait.errors import WeightsError
    from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
    from portrait.faces.opencv import SFaceRecognizer, YuNetAnalyzer

    if commercial:
        return YuNetAnalyzer(), [DlibRecognizer()]
    recognizers: list[Recognizer] = [DlibRecognizer()]
    try:
        recognizers.append(SFaceRecognizer())
    except WeightsError as error:
        print(f"without SFace: {error}")
    return InsightFaceAnalyzer(), recognizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder per person")
    parser.add_argument("--portraits", type=Path, help="a folder per style")
    parser.add_argument("--far", type=float, default=0.01)
    parser.add_argument("--recipe", default="mini", help="recipe whose calibration is the gate")
    parser.add_argument("--commercial", action="store_true", help="judge by YuNet, SFace and dlib, without InsightFace")
    parser.add_argument("--compare", action="store_true", help="measure both all judges and those for commercial use")
    parser.add_argument("--output", type=Path, help="also write the table as JSON")
    args = parser.parse_args()
    if args.compare and args.commercial:
        raise SystemExit("--compare measures the judges for commercial use as well: leave out --commercial")
    try:
        photos = photos_of_people(args.photos)
        portraits = portraits_of_people(args.portraits, photos) if args.portraits else {}
        result = measure(photos, portraits, *face_tools(commercial=args.commercial), args.far, args.recipe)
        other = (
            measure(photos, portraits, *face_tools(commercial=True), args.far, args.recipe) if args.compare else None
        )
    except PortraitError as error:
        raise SystemExit(str(error)) from None
    print(markdown(result))
    print("photos without a face, not scored:", result["photos_without_a_face"])
    if other is not None:
        print(f"\n{markdown(other)}\n\n{comparison(result, other)}")
        result["commercial"] = other
    if args.output is not None:
        print(write_json(args.output, result))


if __name__ == "__main__":
    main()
