"""What is drawn for a session: its portraits, and previews of its photo in every style."""

from __future__ import annotations

from dataclasses import dataclass, replace

from portrait.errors import SettingsError
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, thumbnail
from portrait.loop.attempt_loop import VARIANT_STRIDE
from portrait.loop.types import StylizedPortrait
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Recipe
from portrait.records import RgbImage, parse_shift
from portrait.settings import Settings
from portrait.studio import strings, viewer
from portrait.studio.controls import STRENGTHS, settings_asked
from portrait.studio.downloads import portrait_square
from portrait.studio.jobs import RenderJob
from portrait.studio.model_host import ModelHost
from portrait.studio.session import Session
from portrait.studio.web_settings import installed_recipes, web_settings

PREVIEW_BALANCE = 0.5
"""The balance at which a photo is previewed in every style."""
PREVIEW_SIDE = 512
"""Side of the forming picture that is shown, in pixels."""


@dataclass(slots=True, kw_only=True)
class Render:
    """A job, what it was started with, and what to tell the visitor at its end."""

    job: RenderJob
    photo: Photo
    variants: int
    problem: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """A job that draws previews, for a recipe, the chosen style and a crop: a frame and a shift."""

    job: RenderJob
    recipe: str
    style: str
    crop: str


class Drawing:
    """Starts the jobs of sessions."""

    def __init__(self, models: ModelHost) -> None:
        self.models = models

    def recipes(self) -> list[str]:
        """The names of the recipes that a visitor may choose."""
        return sorted({self.models.settings.recipe, *installed_recipes()})

    def recipe(self, session: Session) -> Recipe:
        """The recipe that the visitor has chosen; the studio's own if that one is not installed."""
        name = session.form.recipe
        return load_recipe(name if name in self.recipes() else self.models.settings.recipe)

    def settings(self, session: Session) -> Settings:
        """The settings in the form; raises SettingsError with the same message as the command line."""
        if session.photo is None:
            raise SettingsError(strings.NEED_PHOTO)
        if session.face is None:
            raise SettingsError(strings.NEED_FACE)
        return web_settings(self.models.settings, settings_asked(session.form), session.backdrop)

    def start(self, session: Session, settings: Settings) -> Render | None:
        """Start a job for the chosen face; None if the session was reset meanwhile."""
        with session.lock:
            photo = session.photo
            face = session.face
            if photo is None or face is None:
                return None
            session.cancel()
            session.choices = ()
            session.is_choosing = settings.variants > 1
            settings = replace(settings, face=face_setting(session))
            has_file = session.has_file

            def keep(portrait: StylizedPortrait, alone: Settings) -> None:
                self.keep(session, job, portrait, alone, photo, has_file)

            session.job = job = self.models.start(
                photo,
                settings,
                references=session.references,
                subject=session.subject(settings.recipe, face),
                on_subject=lambda subject: session.remember_subject(settings.recipe, face, subject),
                on_portrait=keep,
            )
            return Render(job=job, photo=photo, variants=settings.variants)

    def keep(
        self,
        session: Session,
        job: RenderJob,
        portrait: StylizedPortrait,
        settings: Settings,
        photo: Photo,
        has_file: bool,
    ) -> None:
        """Add a finished picture to the history, unless the session was reset, or a newer request has replaced it."""
        small = thumbnail(portrait_square(portrait), viewer.SMALL * 2)
        with session.lock:
            if session.job is job:
                entry = session.add(portrait, settings, small, photo, has_file=has_file)
                if session.is_choosing:
                    session.choices = (*session.choices, entry.number)

    def start_previews(self, session: Session) -> Previews | None:
        """Start previews of the photo in every style, and in the chosen one at several strengths; None without a face."""
        with session.lock:
            photo, face, recipe = session.photo, session.face, self.recipe(session)
            if photo is None or face is None or session.is_working:
                return None
            form = session.form
            crop = f"{form.frame} {form.shift}"
            wishes = [(name, PREVIEW_BALANCE) for name in recipe.styles] + [(form.style, n) for n in STRENGTHS]
            missing = session.missing_previews(recipe.name, crop, list(dict.fromkeys(wishes)))
            settings = replace(
                self.models.settings, recipe=recipe.name, frame=form.frame, shift=form.shift, face=face_setting(session)
            )
            job = session.begin_previews(
                lambda: self.models.start_previews(
                    photo,
                    settings,
                    missing,
                    references=session.references,
                    subject=session.subject(recipe.name, face),
                    on_subject=lambda subject: session.remember_subject(recipe.name, face, subject),
                )
            )
            return Previews(job=job, recipe=recipe.name, style=form.style, crop=crop)


def face_setting(session: Session) -> str:
    """The value of the setting `face` for the chosen face."""
    return "auto" if len(session.faces) == 1 else str(session.face)


def framed(session: Session, photo: Photo) -> RgbImage:
    """The square of the photo that is drawn, shown until the picture forms."""
    if session.face is None or session.face >= len(session.faces):
        return photo.pixels
    shift = parse_shift(session.form.shift)
    return frame_portrait(photo.pixels, session.faces[session.face], session.form.frame, PREVIEW_SIDE, shift).image


def fresh_seed(session: Session) -> int:
    """A seed that no picture of this session has used in any attempt."""
    used = max((entry.settings.seed for entry in session.history), default=1 - VARIANT_STRIDE)
    return (used + VARIANT_STRIDE) % 2**31
