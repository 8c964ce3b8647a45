"""Validate tables of TOML files, and word what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from portrait.errors import PortraitError, SettingsError
from portrait.validation import did_you_mean

Item = TypeVar("Item")
Entries = Annotated[tuple[Item, ...], Field(strict=False)]
"""A TOML array, as a tuple."""

_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
}
"""Prefix of a pydantic error type -> what the value must be."""
_LIMITS = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}


class FileModel(BaseModel):
    """A table of a TOML file: unknown keys are refused, and values are never converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def from_table(
        cls,
        table: Mapping[str, object],
        file: str,
        elsewhere: Mapping[str, str] = {},
        kind: type[PortraitError] = SettingsError,
    ) -> Self:
        """Validate a table; the arguments are those of `errors_from`, which words the error."""
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise errors_from(error, file, cls, elsewhere, kind) from None


def first_problem(error: ValidationError, tags: Collection[object] = ()) -> str:
    """A model's first error on one line: where it is, without the `tags` of unions, and what is wrong."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"] if part not in tags)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def errors_from(
    error: ValidationError,
    file: str,
    model: type[BaseModel],
    elsewhere: Mapping[str, str] = {},
    kind: type[PortraitError] = SettingsError,
) -> PortraitError:
    """Word a model's first error, as an error to raise in its place.

    Unknown keys are reported before missing ones, since a misspelt key causes both.

    Args:
        error: The error of `model_validate`.
        file: Where the values come from; the message begins with it.
        model: The model that was validated.
        elsewhere: Top-level key that belongs somewhere else -> what to say about it.
        kind: Class of the error that is returned.
    """
    problems = error.errors(include_url=False)
    order = {"extra_forbidden": 0, "missing": 1}
    first = min(problems, key=lambda problem: order.get(problem["type"], 2))
    *location, name = first["loc"] or ("",)
    place, table = _walk(model, location)
    where = f"{file}: {place}" if place else file
    if first["type"] == "extra_forbidden":
        hint = elsewhere.get(str(name), "") if table is model else ""
        keys = [] if table is None else [*table.model_fields]
        return kind(f"{where}: unknown key {name!r}{f'; {hint}' if hint else did_you_mean(str(name), keys)}")
    if first["type"] == "missing":
        missing = [str(problem["loc"][-1]) for problem in problems if problem["type"] == "missing"]
        return kind(f"{where} lacks: {', '.join(missing)}")
    field = table.model_fields.get(str(name)) if table else None
    words = (_walk(model, first["loc"])[0], _what_is_wrong(first, field))
    return kind(f"{file}: {' '.join(filter(None, words))}")


def _walk(model: type[BaseModel], location: Sequence[int | str]) -> tuple[str, type[BaseModel] | None]:
    """Name a place in a TOML file, such as `[budget] hours` or `[[loras]] 2 weight`, and find the model of its table."""
    words: list[str] = []
    inner: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            words.append(str(part + 1))
            continue
        field = inner.model_fields.get(part) if inner else None
        inner = _model_in(field.annotation) if field else None
        words.append(_heading(part, field))
    return " ".join(words), inner


def _heading(name: str, field: FieldInfo | None) -> str:
    if field is None or not name:
        return name
    if get_origin(field.annotation) is tuple:
        return f"[[{name}]]" if _model_in(field.annotation) else name
    return f"[{name}]" if _model_in(field.annotation) or get_origin(field.annotation) is dict else name


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in an annotation such as `tuple[Model, ...]`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _what_is_wrong(problem: ErrorDetails, field: FieldInfo | None) -> str:
    context, value = problem.get("ctx", {}), problem["input"]
    if problem["type"] == "value_error":
        return str(context["error"])
    if problem["type"] == "literal_error":
        choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{value!r} is not one of: {', '.join(filter(None, choices))}"
    if limit := _LIMITS.get(problem["type"]):
        (bound,) = context.values()
        low, high = (_bound(field, name) for name in ("ge", "le"))
        if low is not None and high is not None:
            return f"{value!r} is outside {low:g} to {high:g}"
        return f"must be {limit} {bound:g}, got {value!r}"
    if problem["type"] == "too_short":
        return "must not be empty"
    for prefix, what in _KINDS.items():
        if problem["type"].startswith(prefix):
            return f"must be {what}, got {value!r}"
    return f"{problem['msg']}, got {value!r}"


def _bound(field: FieldInfo | None, name: str) -> float | None:
    """The `ge` or `le` bound of a field, if it has one."""
    rules = field.metadata if field else ()
    return next((getattr(rule, name) for rule in rules if hasattr(rule, name)), None)
