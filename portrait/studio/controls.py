"""The form with everything that a visitor may set: written as HTML, and read back as settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from portrait.errors import SettingsError
from portrait.recipes.recipe import Recipe
from portrait.records import Background
from portrait.settings import KNOB_SETTINGS, RULES, Settings
from portrait.studio import strings
from portrait.studio.render import from_template
from portrait.studio.session import Form, Session
from portrait.studio.web_settings import ADVANCED, MAX_VALUES, choices_for

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
    return form_of(base).model_copy(update={"recipe": recipe.name, "style": style, "variants": "1"})


def fitting(form: Form, recipe: Recipe) -> Form:
    """Adapt the form to a recipe or style that lacks what was chosen for another one."""
    style = form.style if form.style in recipe.styles else recipe.styles[0]
    choices = choices_for(recipe, style)
    supported = {name: value for name, value in form if name not in recipe.lacks}
    changed = {
        "recipe": recipe.name,
        "style": style,
        "palette": form.palette if form.palette in choices.palettes else "",
        "size": form.size if form.size in map(str, choices.sizes) else "0",
    }
    return Form.model_validate(supported | changed)


def form_of(settings: Settings) -> Form:
    """The form that `settings_asked` reads as these settings."""
    form = {
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
    return Form.model_validate(form)


def _background_form(background: Background | None) -> dict[str, str]:
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
    names = (*ADVANCED, "recipe", "style", "frame", "shift", "palette", "balance", "size", "variants")
    texts = dict(form)
    settings = {name: parse_value(name, texts[name]) for name in names if name in texts}
    region = "".join(form.region.split())
    settings["keep"] = [*form.keep, *([f"region:{region}"] if region else [])]
    colors = {"color": form.color, "gradient": f"gradient:{form.color},{form.color2}"}
    settings["background"] = colors.get(form.background, form.background) or None
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


# The form --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """An advanced setting: one of `choices`, a slider, whose `range` is (low, high, step), or else a text or a number."""

    name: str
    label: str
    about: str
    choices: Mapping[str, str]
    range: tuple[float, float, float] | None
    is_number: bool


def controls_html(recipe: Recipe, form: Form, recipes: Iterable[str], session: Session | None = None) -> str:
    """The form with its chosen values: the styles of `recipe`, and the names of all `recipes` that are installed."""
    choices = choices_for(recipe, form.style)
    palettes = {name: name.capitalize() for name in choices.palettes}
    return from_template(
        "controls.html",
        recipe=recipe,
        form=form,
        recipes=recipes,
        palettes=palettes and {"": strings.PALETTE_AUTO, **palettes},
        sizes={str(n if n != recipe.resolution else 0): strings.SIZE_PIXELS.format(n=n) for n in choices.sizes},
        groups={
            title: [_field(name) for name in names if name in choices.advanced]
            for title, names in strings.GROUPS.items()
        },
        strengths=STRENGTHS,
        photo=session.photo if session else None,
        squares=_squares(session) if session else {},
        backdrop=session.backdrop.name if session and session.backdrop else "",
    )


def _squares(session: Session) -> dict[str, list[int]]:
    """Frame -> side, left and top of its square in the photo, and how far it can be moved; none while no face is chosen."""
    squares = {frame: square for frame in strings.FRAMES if (square := session.square(frame))}
    return {frame: [one.side, one.left, one.top, *one.lefts, *one.tops] for frame, one in squares.items()}


def _field(name: str) -> Field:
    rule = RULES[name]
    low, high = rule.low or 0, min(rule.high, _MOST.get(name, rule.high), MAX_VALUES.get(name, rule.high))
    return Field(
        name=name,
        label=strings.LABELS[name],
        about=strings.HELP.get(name, rule.help),
        choices={value: strings.UNTIL[value] for value in rule.choices},
        range=(low, high, _STEPS.get(name, 1)) if name in KNOB_SETTINGS else None,
        is_number=rule.kind is not str,
    )
