"""A plan: which people, styles and prompts a campaign makes, and under which key each picture is known."""

from __future__ import annotations

import csv
import difflib
import hashlib
import itertools
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import portrait
from portrait.campaign.sizes import SIZES
from portrait.errors import SettingsError
from portrait.faces.identity import FaceChoice
from portrait.recipes.recipe import Recipe
from portrait.settings import Settings, settings_from

_LONGEST_WORD, _LONGEST_NAME = 60, 200
"""Bytes of a text in a file name, and of the name without what is put behind it; file systems take 255."""
PICTURE_KINDS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic")

_TABLES = ("axes", "settings", "budget")
_KEYS = ("name", "subjects", "recipes", "styles", "variants", "sizes", *_TABLES)
_ELSEWHERE = {"style": "styles", "recipe": "recipes", "variants": "variants"}
_NOT_PICTURES = (
    "recipe",
    "style",
    "variants",
    "max_seconds",
    "threads",
    "device",
    "memory",
    "thresholds",
    "curves",
    "base",
)
"""Settings that are no part of a job's key as they stand: named there in another way, or moving no more than rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person of a campaign: the photo that is stylized, more photos of the same person, columns of the CSV."""

    name: str
    photos: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When no further job is started: after so many hours of this run, or attempts in the whole run. 0 is no limit."""

    hours: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One picture of the plan, by its place: who, by which recipe, in which style, with which texts, which variant."""

    subject: str
    recipe: str
    style: str
    axes: tuple[tuple[str, str], ...]
    variant: int

    @property
    def stem(self) -> str:
        """Path of its files below `pictures/`, without suffix. No text of an axis has the `_` that joins them."""
        words = "_".join([self.style, *(_slug(text) or "plain" for _, text in self.axes), str(self.variant + 1)])
        return f"{self.subject}/{self.recipe}/{_cut(words, _LONGEST_NAME, words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `campaign.toml` says, read and checked. `settings` are those of no recipe and style yet: see `settings_of`."""

    name: str
    people: tuple[Person, ...]
    recipes: tuple[str, ...]
    styles: tuple[str, ...]
    variants: int = 1
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sizes: tuple[str, ...] = ()
    budget: Budget = Budget()
    settings: Settings = field(default_factory=Settings)
    text: str = ""
    path: Path | None = None

    def styles_of(self, recipe: Recipe) -> list[str]:
        """Names of the plan's styles in this recipe; raises SettingsError for one that it lacks."""
        return list(recipe.styles) if "all" in self.styles else [recipe.style(name).name for name in self.styles]

    def slots(self, recipes: Mapping[str, Recipe]) -> Iterator[Slot]:
        """Every picture: recipe by recipe, so that models are loaded once, and person by person within it, so that
        the face and the photo are encoded once."""
        texts = [[(axis, text) for text in values] for axis, values in self.axes]
        for name, recipe in recipes.items():
            for person in self.people:
                for style, axes in itertools.product(self.styles_of(recipe), itertools.product(*texts)):
                    for variant in range(self.variants):
                        yield Slot(subject=person.name, recipe=name, style=style, axes=axes, variant=variant)

    def settings_of(self, recipe: Recipe, style: str, axes: Sequence[tuple[str, str]]) -> Settings:
        """The settings of a style's jobs: its prompt, with the texts of the axes behind it."""
        own = self.settings.prompt or recipe.prompt_of(recipe.style(style))
        words = ", ".join([own, *(text for _, text in axes if text)])
        return replace(self.settings, recipe=recipe.name, style=(style,), prompt=words)


def read_plan(path: Path) -> Plan:
    """Read a plan; paths in it start from the file's folder.

    Raises:
        SettingsError: the file cannot be read; an unknown key (says which was probably meant), a bad value; no people,
            or two of one name.
    """
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"cannot read plan {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    return replace(plan_from(table, path.parent, str(path)), text=text, path=path)


def plan_from(table: Mapping[str, Any], folder: Path, name: str = "plan") -> Plan:
    """As `read_plan`, from what the TOML holds."""
    _only_known(table, _KEYS, name, {f.name: "settings" for f in fields(Settings)} | _ELSEWHERE)
    for key in _TABLES:
        if not isinstance(table.get(key, {}), Mapping):
            raise SettingsError(f"{name}: {key} must be a table: [{key}]")
    if "subjects" not in table:
        raise SettingsError(f"{name} lacks subjects: a folder of photos, a .csv or .txt file, or a list of photos")
    budget = dict(table.get("budget", {}))
    _only_known(budget, [f.name for f in fields(Budget)], f"{name}: [budget]", {})
    for key, value in budget.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise SettingsError(f"{name}: [budget] {key} must be a number from 0, got {value!r}")
    variants = table.get("variants", 1)
    if isinstance(variants, bool) or not isinstance(variants, int) or not 1 <= variants <= 64:
        raise SettingsError(f"{name}: variants {variants!r} is not a number from 1 to 64")
    sizes = _texts(table.get("sizes", []), "sizes", name)
    for size in sizes:
        if size not in SIZES:
            close = difflib.get_close_matches(size, SIZES, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise SettingsError(f"{name}: no size {size!r}; {hint}sizes: {', '.join(SIZES)}")
    axes = tuple((axis, _texts(values, f"[axes] {axis}", name)) for axis, values in table.get("axes", {}).items())
    for axis, values in axes:
        if not values or len({_slug(v) for v in values}) < len(values):
            raise SettingsError(f"{name}: [axes] {axis} must be a list of different texts, got {list(values)}")
    return Plan(
        name=str(table.get("name", folder.resolve().name)),
        people=tuple(_people(table["subjects"], folder, name)),
        recipes=tuple(
            _beside(folder, text) if text.endswith(".toml") else text
            for text in _texts(table.get("recipes", ["mini"]), "recipes", name, least=1)
        ),
        styles=_texts(table.get("styles", ["all"]), "styles", name, least=1),
        variants=variants,
        axes=axes,
        sizes=sizes,
        budget=Budget(**budget),
        settings=_settings(dict(table.get("settings", {})), folder, name),
    )


def template() -> str:
    """A commented plan, as `portrait campaign new` writes it."""
    return (resources.files("portrait.campaign") / "campaign.toml").read_text("utf-8")


def _settings(values: dict[str, Any], folder: Path, name: str) -> Settings:
    known = [f.name for f in fields(Settings) if f.name not in _ELSEWHERE and f.name != "max_seconds"]
    for key in values:
        if key in _ELSEWHERE:
            raise SettingsError(f"{name}: [settings] {key} is said above the tables, as {_ELSEWHERE[key]} = ...")
        if key == "max_seconds":
            raise SettingsError(
                f"{name}: [settings] max_seconds would let a picture depend on the speed of the machine; "
                "use max_attempts, or hours in [budget] for the whole run"
            )
    _only_known(values, known, f"{name}: [settings]", {})
    for key in ("thresholds", "curves", "base"):
        if isinstance(values.get(key), str) and values[key]:
            values[key] = _beside(folder, values[key])
    if isinstance(values.get("keep"), list):
        values["keep"] = [_from(folder, text, "mask:") for text in values["keep"]]
    if isinstance(values.get("lora"), list):
        values["lora"] = [str((folder / text).resolve()) if isinstance(text, str) else text for text in values["lora"]]
    if isinstance(values.get("face"), str):
        values["face"] = _from(folder, values["face"], "like:")
        if FaceChoice.parse(values["face"]).kind == "each":
            raise SettingsError(f"{name}: face each is not one person; name each person in a CSV of subjects")
    return settings_from(values | {"max_seconds": 86400.0})


def _beside(folder: Path, text: str) -> str:
    """A file or folder seen from the plan's folder, if it is there; any other name as it stands."""
    return str((folder / text).resolve()) if (folder / text).exists() else text


def _from(folder: Path, text: Any, prefix: str) -> Any:
    """`mask:FILE` and `like:FILE` with the file's place seen from the plan's folder."""
    if isinstance(text, str) and text.startswith(prefix):
        return prefix + str((folder / text[len(prefix) :]).resolve())
    return text


def _only_known(table: Mapping[str, Any], known: Sequence[str], where: str, elsewhere: Mapping[str, str]) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            if key in elsewhere:
                place = elsewhere[key]
                hint = "; it goes into the table [settings]" if place == "settings" else f"; did you mean {place}?"
            raise SettingsError(f"{where}: unknown key {key!r}{hint}")


def _texts(value: Any, key: str, name: str, least: int = 0) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given) or len(given) < least:
        raise SettingsError(f"{name}: {key} must be a list of texts, got {value!r}")
    return tuple(dict.fromkeys(given))


def _people(subjects: Any, folder: Path, name: str) -> list[Person]:
    if isinstance(subjects, list):
        found = [Person(name=Path(text).stem, photos=(folder / text,)) for text in _texts(subjects, "subjects", name)]
    elif not isinstance(subjects, str):
        raise SettingsError(f"{name}: subjects must be a folder, a .csv or .txt file or a list of photos")
    else:
        path = folder / subjects
        if path.suffix.lower() in (".csv", ".tsv"):
            found = _from_csv(path)
        elif path.suffix.lower() == ".txt":
            found = _from_list(path)
        elif path.is_dir():
            found = _from_folder(path)
        else:
            raise SettingsError(f"{name}: subjects {path} is no folder, no .csv and no .txt file")
    if not found:
        raise SettingsError(f"{name}: no photos in subjects {subjects!r} ({', '.join(PICTURE_KINDS)})")
    taken: dict[str, Person] = {}
    for person in (replace(one, name=safe_name(one.name)) for one in found):
        other = taken.setdefault(person.name.casefold(), person)
        if other is not person:
            raise SettingsError(
                f"{name}: {other.photos[0]} and {person.photos[0]} are both called {person.name}; rename one"
            )
    return list(taken.values())


def _from_folder(folder: Path) -> list[Person]:
    """A picture is a person; so is a folder of pictures, of which the first by name is stylized."""

    def pictures(place: Path) -> list[Path]:
        return sorted(p for p in place.iterdir() if p.suffix.lower() in PICTURE_KINDS and p.is_file())

    found = [Person(name=path.stem, photos=(path,)) for path in pictures(folder)]
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        if photos := pictures(place):
            found.append(Person(name=place.name, photos=tuple(photos)))
    return found


def _from_list(path: Path) -> list[Person]:
    lines = [line.strip() for line in _read(path).splitlines()]
    return [Person(name=Path(x).stem, photos=(path.parent / x,)) for x in lines if x and not x.startswith("#")]


def _from_csv(path: Path) -> list[Person]:
    """Columns: photo, with | between several; subject, or else the photo's name; any others are kept for the report.

    Several rows of one subject are several photos of the same person.
    """
    lines = _read(path).splitlines()
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(lines, delimiter=delimiter)
    names = {str(column).strip().lower(): column for column in rows.fieldnames or ()}
    if not (photo := names.get("photo") or names.get("photos")):
        raise SettingsError(f"{path} lacks the column photo; its columns: {', '.join(names) or 'none'}")
    subject = names.get("subject") or names.get("name")
    people: dict[str, Person] = {}
    for number, row in enumerate(rows, 2):
        photos = tuple(path.parent / text.strip() for text in (row[photo] or "").split("|") if text.strip())
        if not photos or None in row:
            raise SettingsError(f"{path} line {number}: " + ("more cells than columns" if photos else "no photo"))
        name = (row[subject] or "").strip() if subject else ""
        columns = {c.strip(): (v or "").strip() for c, v in row.items() if c and c not in (photo, subject)}
        person = Person(name=name or photos[0].stem, photos=photos, columns=columns)
        if name and name in people:
            person = replace(people[name], photos=people[name].photos + photos)
        elif person.name in people:
            raise SettingsError(f"{path} line {number}: a second {person.name}; add a column subject with their names")
        people[person.name] = person
    return list(people.values())


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from None


def safe_name(text: str) -> str:
    """A name that every file system takes as one folder: letters, digits, space, dot, hyphen, underscore."""
    text = "".join(c if c.isalnum() or c in " .-_" else "-" for c in unicodedata.normalize("NFC", text))
    text = text.strip(" .-")[:80] or "unnamed"
    return f"{text}-" if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", text) else text


def _slug(text: str) -> str:
    """A text as a word of a file name; two texts that differ have two words, but for case and punctuation of short ones."""
    return _cut(re.sub(r"[\W_]+", "-", text.lower()).strip("-"), _LONGEST_WORD, text)


def _cut(name: str, most: int, whole: str) -> str:
    """A name of at most so many bytes; one that was cut ends in six digits of the SHA-256 of what it stands for."""
    if len(name.encode()) <= most:
        return name
    digits = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{name.encode()[: most - 7].decode(errors='ignore').rstrip('-_')}-{digits}"


def shared_ingredients(settings: Settings) -> dict[str, Any]:
    """What all jobs of a plan have in common and what moves pixels or verdicts; files stand for their contents."""
    values = {key: value for key, value in asdict(settings).items() if key not in _NOT_PICTURES}
    values["keep"] = [f"mask:{_digest(Path(keep.file))}" if keep.file else keep.name for keep in settings.keeps()]
    values["lora"] = [_lora_weight(text) for text in settings.lora]  # the file itself is among the weights
    choice = FaceChoice.parse(settings.face)
    if choice.kind == "like":
        values["face"] = f"like:{_digest(Path(choice.reference))}"
    return values | {"portrait": portrait.__version__}


def _lora_weight(text: str) -> float:
    """The weight in `FILE.safetensors:WEIGHT`, read as `recipes.override.with_overrides` does: without one it is 1."""
    name, colon, number = text.rpartition(":")
    with suppress(ValueError):
        return float(number) if colon and "." in name else 1.0
    return 1.0


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def job_key(slot: Slot, shared: Mapping[str, Any], recipe: Mapping[str, Any], photos: Sequence[str]) -> str:
    """SHA-256 of everything that determines the picture, and nothing else.

    In it: portrait's version, the settings, the recipe (knobs, and the digest of each file of weights, the judges'
    too, since they choose among the attempts), the style's prompts, thresholds and curves, which the retries follow, the texts of the axes, the variant,
    and the bytes of the photos in their order. Not in it: the person's name and the photo's path, which no pixel
    depends on; and device, memory tier, threads and the versions of libraries, which move pictures by rounding. A
    run holds on to the threads that it began with, and says when the libraries are no longer the same.

    Args:
        slot: The picture's place in the plan.
        shared: As `shared_ingredients`.
        recipe: As `engines.Fingerprint.recipe` says it, with the entry of each style under `styles`.
        photos: SHA-256 of each photo's bytes.
    """
    own = {key: value for key, value in recipe.items() if key != "styles"}
    ingredients = {
        "shared": shared,
        "recipe": own,
        "style": [slot.style, recipe["styles"][slot.style]],
        "axes": slot.axes,
        "variant": slot.variant,
        "photos": list(photos),
    }
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def seed_of(key: str, round_: int = 0) -> int:
    """The first seed of a job, from its key alone; each further round (`campaign retry`) has seeds of its own."""
    digest = hashlib.sha256(f"{key}:{round_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (2**31 - 10_000)
