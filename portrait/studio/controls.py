"""The form with everything that a visitor may set: written as HTML, and read back as settings."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from portrait.errors import SettingsError
from portrait.generate.framing import Square
from portrait.recipes.recipe import Recipe
from portrait.recipes.samples import sample_file
from portrait.recipes.style import styles
from portrait.records import Background
from portrait.settings import KNOB_SETTINGS, RULES, Settings
from portrait.studio import strings
from portrait.studio.uploads import ACCEPTED
from portrait.studio.web_settings import ADVANCED, MAX_VALUES, Choices, choices_for

Form = dict[str, str | list[str]]
"""The values of the form: name -> text, or texts if several may be chosen. Missing names are left to the balance."""

STRENGTHS = (0.0, 0.5, 1.0)
"""The strengths for which a preview is shown."""
COLORS = ("#f2e8d8", "#7fa6b8")
"""The colors that are offered first for a background."""
_STEPS = {"strength": 0.05, "guidance_scale": 0.1, "ip_adapter_scale": 0.05, "controlnet_conditioning_scale": 0.05}
_MOST = {"guidance_scale": 15.0}
"""Sliders that end before the setting's own limit."""


def first_form(recipe: Recipe, base: Settings) -> Form:
    """The initial values of the form."""
    style = base.style[0] if base.style[0] in recipe.styles else recipe.styles[0]
    return form_of(base) | {"recipe": recipe.name, "style": style, "variants": "1"}


def fitting(form: Form, recipe: Recipe) -> Form:
    """Adapt the form to a recipe or style that lacks what was chosen for another one."""
    style = _text(form, "style")
    style = style if style in recipe.styles else recipe.styles[0]
    choices = choices_for(recipe, style)
    palette, size = _text(form, "palette"), _text(form, "size")
    supported = {name: value for name, value in form.items() if name not in recipe.lacks}
    return supported | {
        "recipe": recipe.name,
        "style": style,
        "palette": palette if palette in choices.palettes else "",
        "size": size if size in map(str, choices.sizes) else "0",
    }


def form_of(settings: Settings) -> Form:
    """The form that `settings_asked` reads as these settings."""
    form: Form = {
        "recipe": settings.recipe,
        "style": settings.style[0],
        "palette": settings.palette,
        "balance": f"{settings.balance:g}",
        "frame": settings.frame,
        "shift": settings.shift,
        "size": str(settings.size),
        "keep": [name for name in settings.keep if name in strings.KEEPS],
        "region": next((name.partition(":")[2] for name in settings.keep if name.startswith("region:")), ""),
        "variants": str(settings.variants),
        **_background_form(settings.backdrop()),
    }
    for name in ADVANCED:
        value = getattr(settings, name)
        if value is not None:
            form[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return form


def _background_form(background: Background | None) -> Form:
    colors = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in background.colors] if background else []
    first, second = [*colors, *COLORS[len(colors) :]][:2]
    return {"background": background.kind if background else "", "color": first, "color2": second}


class FieldError(SettingsError):
    """The value that a visitor entered into `field` is invalid."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


def settings_asked(form: Form) -> dict[str, object]:
    """The settings that a visitor requests, by name, with values for `web_settings`.

    Raises:
        FieldError: a number is invalid or out of range.
    """
    settings: dict[str, object] = {name: parse_value(name, _text(form, name)) for name in ADVANCED if name in form}
    region = "".join(_text(form, "region").split())
    settings["keep"] = [*form.get("keep", []), *([f"region:{region}"] if region else [])]
    for name in ("recipe", "style", "frame", "shift", "palette", "balance", "size", "variants"):
        settings[name] = parse_value(name, _text(form, name))
    kind, first, second = (_text(form, name) for name in ("background", "color", "color2"))
    settings["background"] = {"color": first, "gradient": f"gradient:{first},{second}"}.get(kind, kind) or None
    return {name: value for name, value in settings.items() if value is not None}


def parse_value(name: str, text: str) -> object:
    """The value of a control: None for an empty one.

    Raises:
        FieldError: it is not a number where one is needed, or out of range.
    """
    rule = RULES[name]
    text = text.strip()
    if rule.kind is str or not text:
        return text or None
    label = strings.LABELS.get(name, name)
    try:
        value = rule.kind(text)
    except ValueError:
        must = strings.NOT_WHOLE if rule.kind is int else strings.NOT_A_NUMBER
        raise FieldError(name, must.format(label=label, text=text)) from None
    low, high = rule.low or 0, min(rule.high, MAX_VALUES.get(name, rule.high))
    if not low <= value <= high:
        raise FieldError(name, strings.OUT_OF_RANGE.format(label=label, text=text, low=low, high=high))
    return value


def _text(form: Mapping[str, str | list[str]], name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ",".join(value)


# The form --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CropView:
    """The photo, small, as a data URI; its full size in pixels; and the square of each frame, by name."""

    uri: str
    width: int
    height: int
    squares: Mapping[str, Square]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoInputs:
    """The photo with its crops, and the name of the uploaded background."""

    crop: CropView | None = None
    backdrop: str = ""


NOTHING = PhotoInputs()


def controls_html(recipe: Recipe, form: Form, recipes: Iterable[str], inputs: PhotoInputs = NOTHING) -> str:
    """The form with its chosen values: the styles of `recipe`, and the names of all `recipes` that are installed."""
    choices = choices_for(recipe, _text(form, "style"))
    return (
        f'<form id="form" autocomplete="off">{_styles(recipe, _text(form, "style"))}'
        f"{_palettes(choices, form)}{_balance(form)}{_picture(recipe, choices, form, inputs)}"
        f"{_keep(form)}{_advanced_groups(recipe, choices, form, recipes)}"
        f'<div class="actions"><button type="submit" id="make" data-key="make">{strings.MAKE}</button>'
        f'<button type="button" id="cancel" data-key="cancel">{strings.CANCEL}</button>'
        f'<button type="button" id="again" class="plain" data-more="another" data-key="another" title="{strings.ANOTHER_HELP}">'
        f"{strings.ANOTHER}</button></div></form>"
    )


def _styles(recipe: Recipe, chosen: str) -> str:
    """One card per style, with a sample until there is a preview of the visitor's photo; radio buttons for the keyboard."""
    cards = []
    for name in recipe.styles:
        sample = sample_of(recipe.name, name)
        picture = f'<img src="{sample}" alt="" width="256" height="256" data-preview="{escape(name)}">'
        none = f'<span class="none" data-preview="{escape(name)}">{strings.NO_SAMPLE}</span>'
        checked = " checked" if name == chosen else ""
        cards.append(
            f'<label class="style"><input type="radio" class="sr" name="style" value="{escape(name)}" data-now '
            f'data-key="style-{escape(name)}"{checked}>{picture if sample else none}<span>{escape(title_of(name))}</span></label>'
        )
    return (
        f'<fieldset id="styles" class="styles"><legend>{strings.STYLE}</legend>'
        f'<div class="cards">{"".join(cards)}</div></fieldset>'
    )


def title_of(style: str) -> str:
    """The title of a style on the page."""
    return styles()[style].title if style in styles() else style


@lru_cache(maxsize=64)
def sample_of(recipe: str, style: str) -> str:
    """The sample of a style as a data URI; empty if there is none."""
    file = sample_file(recipe, style)
    return "" if file is None else "data:image/webp;base64," + base64.b64encode(file.read_bytes()).decode()


def _palettes(choices: Choices, form: Form) -> str:
    if not choices.palettes:
        return ""
    chosen = _text(form, "palette")
    options = {"": strings.PALETTE_AUTO} | {name: name.capitalize() for name in choices.palettes}
    return _segments("palette", strings.PALETTE, options, chosen if chosen in choices.palettes else "", now=True)


def _segments(
    name: str,
    label: str,
    options: Mapping[str, str],
    chosen: str,
    *,
    now: bool = False,
    below: str = "",
) -> str:
    """Radio buttons in a row, with HTML `below` them; with `now`, a choice is drawn at once."""
    now_mark = " data-now" if now else ""
    items = "".join(
        f'<label><input type="radio" class="sr" name="{name}" value="{escape(value)}" data-key="{name}-{escape(value)}"'
        f"{now_mark}{' checked' if value == chosen else ''}><span>{escape(text)}</span></label>"
        for value, text in options.items()
    )
    return (
        f'<fieldset class="segments" id="{name}"><legend>{escape(label)}</legend><div>{items}</div>{below}</fieldset>'
    )


def _balance(form: Form) -> str:
    value = float(_text(form, "balance") or 0.5)
    like, art = strings.BALANCE_ENDS
    strengths = "".join(
        f'<button type="button" data-strength="{n:g}" data-key="strength-{n:g}" style="grid-column:{place}" hidden aria-label="{strings.STRENGTH_LABEL.format(n=n)}">'
        f'<img alt="" width="256" height="256"></button>'
        for place, n in enumerate(STRENGTHS, 1)
    )
    return (
        f'<fieldset id="balance"><legend><label for="balance-range">{strings.BALANCE}</label></legend>'
        f'<input type="range" id="balance-range" name="balance" min="0" max="1" step="0.05" value="{value:g}" data-now data-key="balance">'
        f'<div class="ends"><button type="button" class="quiet" data-more="like" data-key="like"{" disabled" if value <= 0 else ""}>'
        f'<span aria-hidden="true">− </span>{like}</button><output>{value:g}</output>'
        f'<button type="button" class="quiet" data-more="style" data-key="more"{" disabled" if value >= 1 else ""}>{art}'
        f'<span aria-hidden="true"> +</span></button></div><div class="strengths">{strengths}</div></fieldset>'
    )


def _picture(recipe: Recipe, choices: Choices, form: Form, inputs: PhotoInputs) -> str:
    """Crop, background, size and number: the settings that everybody needs for a profile picture."""
    kind = _text(form, "background")
    colors = "".join(
        f'<label class="color"{"" if kind in kinds else " hidden"} data-kinds="{" ".join(kinds)}">{label}'
        f'<input type="color" name="{name}" value="{escape(_text(form, name))}" data-now data-key="{name}"></label>'
        for name, kinds, label in (
            ("color", ("color", "gradient"), strings.COLOR),
            ("color2", ("gradient",), strings.COLOR_BOTTOM),
        )
    )
    shown_backdrop = strings.BACKDROP_OTHER.format(name=inputs.backdrop) if inputs.backdrop else strings.BACKDROP
    colors += (
        f'<label class="color plain"{"" if kind == "picture" else " hidden"} data-kinds="picture">{escape(shown_backdrop)}'
        f'<input type="file" class="sr" data-file="backdrop" data-key="backdrop" accept="{ACCEPTED}"{" data-has" if inputs.backdrop else ""}></label>'
    )
    size = _text(form, "size")
    sizes = {str(n if n != recipe.resolution else 0): strings.SIZE_PIXELS.format(n=n) for n in choices.sizes}
    chosen = size if size in sizes else "0"
    sizes_html = _segments("size", strings.SIZE, sizes, chosen, now=True) if len(sizes) > 1 else ""
    return (
        f"{_segments('frame', strings.FRAME, strings.FRAMES, _text(form, 'frame'), now=True, below=_crop(inputs.crop, form))}"
        f"{_segments('background', strings.BACKGROUND, strings.BACKGROUNDS, kind, now=True)}"
        f'<div class="colors">{colors}</div>{sizes_html}'
        f"{_segments('variants', strings.VARIANTS, {str(n): str(n) for n in range(1, 5)}, _text(form, 'variants'))}"
    )


def _crop(view: CropView | None, form: Form) -> str:
    """The photo with the square that is drawn of it, to be moved by pointer or keys, once a face is chosen."""
    shift = f'<input type="hidden" name="shift" value="{escape(_text(form, "shift"))}">'
    if view is None:
        return shift
    squares = {
        name: [square.side, square.left, square.top, *square.lefts, *square.tops]
        for name, square in view.squares.items()
    }
    axes = "".join(
        f'<input type="range" class="sr" min="-100" max="100" value="0" data-axis="{axis}" data-key="crop-{axis}" data-now '
        f'aria-label="{label}">'
        for axis, label in strings.CROP_AXES.items()
    )
    return (
        f'{shift}<div class="crop" data-squares="{escape(json.dumps(squares))}" '
        f'data-value="{strings.CROP_VALUE}" style="--w:{view.width};--h:{view.height}"><img src="{view.uri}" alt="" draggable="false"><i></i>{axes}</div>'
        f'<p class="note crop-how">{strings.CROP_HOW} <button type="button" class="quiet" data-act="center" data-key="center">{strings.CROP_CENTER}</button></p>'
    )


def _keep(form: Form) -> str:
    chosen = form.get("keep", [])
    boxes = "".join(
        f'<label class="tick"><input type="checkbox" name="keep" value="{name}" data-key="keep-{name}"'
        f"{' checked' if name in chosen else ''}>{text}</label>"
        for name, text in strings.KEEPS.items()
    )
    region = escape(_text(form, "region"))
    return (
        f'<details id="keep" data-fold="keep"><summary>{strings.KEEP}</summary><p class="note">{strings.KEEP_INFO} {strings.LATER}</p>'
        f'<div class="ticks">{boxes}</div><div class="row"><button type="button" class="plain" data-act="draw" data-key="draw">{strings.DRAW}'
        f'</button></div><label class="field" id="region">{strings.REGION}<input type="text" name="region" value="{region}" '
        f'inputmode="numeric" data-key="region"><small>{strings.REGION_INFO}</small></label></details>'
    )


def _advanced_groups(recipe: Recipe, choices: Choices, form: Form, recipes: Iterable[str]) -> str:
    groups = []
    for title, names in strings.GROUPS.items():
        supported = [name for name in names if name in choices.advanced]
        fields = "".join(_field(name, form) for name in supported)
        if supported:
            groups.append(f"<fieldset><legend>{title}</legend>{fields}</fieldset>")
    options = "".join(
        f'<option value="{escape(name)}"{" selected" if name == recipe.name else ""}>{escape(name)}</option>'
        for name in recipes
    )
    model = f'<label class="field" id="recipe">{strings.RECIPE}<select name="recipe" data-key="recipe">{options}</select></label>'
    return (
        f'<details id="advanced" data-fold="advanced"><summary>{strings.ADVANCED}</summary>'
        f'<p class="note">{strings.LATER}</p>{model}{"".join(groups)}<fieldset><legend>{strings.LOOK}</legend>'
        f'<p class="note">{strings.LOOK_HELP}</p><div class="row"><button type="button" class="plain" data-act="save-look" data-key="save-look">'
        f'{strings.LOOK_SAVE}</button><label class="plain">{strings.LOOK_LOAD}<input type="file" class="sr" data-file="look" data-key="look" '
        f'accept=".toml,.json"></label></div></fieldset></details>'
    )


def _field(name: str, form: Form) -> str:
    """One setting: a slider that can be left to the balance, radio buttons, or a text field."""
    rule, label = RULES[name], strings.LABELS[name]
    if rule.choices:
        return _segments(name, label, {value: strings.UNTIL[value] for value in rule.choices}, _text(form, name))
    about = strings.HELP.get(name, rule.help)
    if name not in KNOB_SETTINGS:
        mode = ' inputmode="decimal"' if rule.kind is not str else ""
        value = escape(_text(form, name))
        return (
            f'<label class="field" id="advanced-{name}">{label}<input type="text" name="{name}" value="{value}"{mode} '
            f'aria-describedby="{name}-about" data-key="{name}">{_about(name, about)}</label>'
        )
    low, high = rule.low or 0, min(rule.high, _MOST.get(name, rule.high), MAX_VALUES.get(name, rule.high))
    step = _STEPS.get(name, 1)
    value = _text(form, name)
    displayed = value or f"{(low + high) / 2:g}"
    free = not value
    about = strings.RANGE.format(low=low, high=high, about=about)
    return (
        f'<div class="field knob" id="advanced-{name}"><label for="{name}-range">{label}</label><label class="tick">'
        f'<input type="checkbox" data-auto="{name}" data-key="auto-{name}" aria-label="{strings.AUTOMATIC_LABEL.format(label=label)}"'
        f"{' checked' if free else ''}>{strings.AUTOMATIC}</label>"
        f'<input type="range" id="{name}-range" name="{name}" min="{low:g}" max="{high:g}" step="{step:g}" value="{displayed}" '
        f'aria-describedby="{name}-about" data-key="{name}"{" disabled" if free else ""}><output>{"" if free else displayed}</output>{_about(name, about)}</div>'
    )


def _about(name: str, text: str) -> str:
    return f'<small id="{name}-about">{escape(text)}</small>'
