"""The page: Gradio blocks, wired to sessions and jobs. `strings` has its words, `page` its HTML."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from portrait.errors import PortraitError, SettingsError
from portrait.images import Photo
from portrait.loop.attempt_loop import VARIANT_STRIDE
from portrait.loop.types import StylizedPortrait
from portrait.provenance.credentials import Signer
from portrait.recipes.load import load_recipe
from portrait.records import RgbImage
from portrait.report.sheet import thumbnail
from portrait.settings import Settings
from portrait.studio import page, strings
from portrait.studio.controls import make_control, parse_value, to_text
from portrait.studio.downloads import portrait_square
from portrait.studio.jobs import RenderJob, to_user_error
from portrait.studio.model_host import ModelHost
from portrait.studio.reports import Reports
from portrait.studio.service import Service
from portrait.studio.session import Session
from portrait.studio.session_registry import Sessions
from portrait.studio.uploads import read_upload, take_upload
from portrait.studio.web_settings import ADVANCED, installed_recipes, web_settings

SLIDER_PAUSE = 0.35
"""Seconds without a further move before the slider acts."""
BALANCE_STEP = 0.15
"""How far “more like me” and “more style” move the balance."""
PREVIEW_SIDE = 384
CAPTURE_NAMES = ("camera.png", "image.png")
"""What browsers call a picture from the camera or the clipboard, which is not a file."""

Updates = dict[Any, Any]
"""Component -> its new value or properties."""


@dataclass(slots=True, kw_only=True)
class Render:
    """A job, what it was started with, and what to tell the visitor at its end."""

    job: RenderJob
    photo: Photo
    variants: int
    problem: str = ""
    message: str = ""


def _ends_with_skip(handler: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
    """A handler whose last update changes nothing.

    Gradio sends the last update of a generator once more when it ends: that of a request which the visitor has
    replaced would come after those of the newer one.
    """

    @functools.wraps(handler)
    def handle(self: StudioPage, *args: Any) -> Iterator[Updates]:
        yield from handler(self, *args)
        yield {self.photo: gr.skip()}

    return handle


def _small_uri(image: RgbImage) -> str:
    return page.data_uri(thumbnail(image, PREVIEW_SIDE), quality=75)


class StudioPage:
    """The page and everything behind it.

    Args:
        models: The models of one device, and the queue for it.
        folder: Where files for download lie; the caller deletes it at the end.
        reports: The run folders that the viewer may open.
        local: Whether only this computer can reach the page.
        signer: Who signs files for download with Content Credentials; None leaves them unsigned.
    """

    def __init__(
        self, models: ModelHost, folder: Path, reports: Reports, *, local: bool = True, signer: Signer | None = None
    ) -> None:
        self.models = models
        self.folder = folder
        self.reports = reports
        self.local = local
        self.signer = signer
        self.sessions = Sessions(folder, self._styles(models.settings.recipe)[0], models.clear_cache)
        self.service = Service(models, folder, signer)

    def close(self) -> None:
        """Stop all work and forget everybody."""
        try:
            self.sessions.close()
        finally:
            self.models.close()

    @staticmethod
    def _styles(recipe: str) -> tuple[str, ...]:
        return load_recipe(recipe).styles

    # The page ------------------------------------------------------------------------------------------------

    def build(self) -> gr.Blocks:
        """The blocks, ready to launch."""
        with gr.Blocks(title=strings.TITLE, analytics_enabled=False) as blocks:
            gr.HTML(
                f"<header><h1>{strings.TITLE}</h1><p>{strings.TAGLINE}</p></header>",
                apply_default_css=False,
                js_on_load=None,
            )
            with gr.Tabs():
                with gr.Tab(strings.TAB_STUDIO, id="studio"), gr.Row(elem_classes="columns"):
                    with gr.Column(scale=4, min_width=300, elem_classes="controls"):
                        self._build_controls()
                    with gr.Column(scale=8, min_width=320, elem_classes="showing"):
                        self.result = self._part("result", page.empty_html())
                with gr.Tab(strings.TAB_REPORTS, id="reports"):
                    self._build_reports()
            gr.HTML(f"<footer>{strings.FOOTER}</footer>", apply_default_css=False, js_on_load=None)
            self._wire(blocks)
            self.service.build()
        blocks.queue(default_concurrency_limit=None, max_size=64)
        return blocks

    @staticmethod
    def _part(name: str, value: str) -> gr.HTML:
        return gr.HTML(
            value,
            elem_id=name,
            apply_default_css=False,
            js_on_load=f"portraitStudio.{name}(element, trigger, upload, watch)",
        )

    def _build_controls(self) -> None:
        base = self.models.settings
        first = load_recipe(base.recipe)
        self.photo = self._part("photo", page.photo_html(None, local=self.local))
        self.styles = self._part("styles", page.styles_html(first, first.styles[0]))
        self.balance = gr.Slider(
            0, 1, base.balance, step=0.05, label=strings.BALANCE, info=strings.BALANCE_INFO, elem_id="balance"
        )
        self.make = gr.Button(strings.MAKE, variant="primary", elem_id="make")
        self.cancel = gr.Button(strings.CANCEL, variant="secondary", visible=False, elem_id="cancel")
        self.variants = gr.Radio([1, 2, 3, 4], value=1, label=strings.VARIANTS, elem_id="variants")
        self.keep = gr.CheckboxGroup(
            [(text, name) for name, text in strings.KEEPS.items()],
            label=strings.KEEP,
            info=strings.KEEP_INFO,
            elem_id="keep",
        )
        with gr.Accordion(strings.ADVANCED, open=False, elem_id="advanced"):
            self.region = gr.Textbox(label=strings.REGION, info=strings.REGION_INFO, elem_id="region")
            recipes = sorted({base.recipe, *installed_recipes()})
            self.recipe = gr.Dropdown(
                recipes, value=base.recipe, label=strings.RECIPE, interactive=True, elem_id="recipe"
            )
            self.advanced = {name: make_control(name, base) for name in ADVANCED}

    def _build_reports(self) -> None:
        names = self.reports.names()
        info = strings.RUN_INFO.format(root=self.reports.root)
        with gr.Row():
            self.run = gr.Dropdown(names, value=None, label=strings.RUN, info=info, elem_id="run")
            self.baseline = gr.Dropdown(
                [(strings.NO_BASELINE, ""), *names], value="", label=strings.BASELINE, info=strings.BASELINE_INFO
            )
        self.report = gr.HTML(
            page.notice(strings.CHOOSE_RUN if names else strings.NO_RUNS.format(root=self.reports.root)),
            apply_default_css=False,
            js_on_load=None,
            elem_id="report",
        )

    def _wire(self, blocks: gr.Blocks) -> None:
        # A visitor who changes their mind is not held up by what is still being made.
        free: dict[str, object] = {
            "show_progress": "hidden",
            "concurrency_limit": None,
            "api_visibility": "private",
            "trigger_mode": "multiple",
        }
        controls = [self.balance, self.variants, self.keep, self.region, self.recipe, *self.advanced.values()]
        everything = [self.photo, self.styles, self.result, self.make, self.cancel, *controls]
        self.photo.upload(self._on_photo, controls, everything, **free)
        self.photo.select(self._on_face, controls, everything, **free)
        self.photo.input(self._on_region, None, [self.region], queue=False, **free)
        self.styles.select(self._on_style, controls, everything, **free)
        self.balance.input(self._on_balance, controls, everything, **free)
        self.recipe.input(self._on_recipe, [self.recipe], [self.styles], **free)
        self.make.click(self._on_make, controls, everything, **free)
        self.cancel.click(self._on_cancel, None, None, queue=False, **free)
        self.result.submit(self._on_more, controls, everything, **free)
        self.result.upload(self._on_same_look, controls, everything, **free)
        self.result.select(self._on_history, None, everything, **free)
        self.result.clear(self._on_reset, None, everything, **free)
        chosen = free | {"trigger_mode": "always_last", "concurrency_limit": 2}
        gr.on([self.run.input, self.baseline.input], self._on_run, [self.run, self.baseline], [self.report], **chosen)
        self.run.focus(self._on_runs, None, [self.run, self.baseline], **free)
        blocks.unload(self.sessions.end)

    # What visitors do ----------------------------------------------------------------------------------------

    @_ends_with_skip
    def _on_photo(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """A photo begins at once, when it is clear who is meant, without a button."""
        session = self.sessions.get(request)
        session.cancel()
        generation = session.begin_upload()
        yield {self.photo: page.photo_html(session, looking=True)}
        try:
            if not self._open(session, event, generation):
                yield from self._reset_lost_tab(request, session)
                return
        except PortraitError as error:
            yield {self.photo: page.photo_html(session, problem=str(error), local=self.local)}
            return
        yield {
            self.photo: page.photo_html(session, local=self.local),
            self.region: "",
            self.result: page.result_html(session),
        }
        balance, variants, keep, _, *more = values  # the region was one of the photo before
        yield from self._on_adjust(request, balance, variants, keep, "", *more)

    def _open(self, session: Session, event: gr.EventData, generation: int) -> bool:
        """Read the uploaded photo and take it; False if meanwhile the visitor chose another one, or none."""
        try:
            with session.reading:
                data, name = take_upload(event._data or {}, self.folder)
                if session.upload_generation != generation:
                    return False
                photo = self.models.upright(read_upload(data, name))
                faces, face = self.models.detect_faces(photo)
        except Exception as error:
            user_error = to_user_error(error)
            if session.upload_generation != generation:
                return False
            raise user_error from None
        return session.open(photo, faces, has_file=name not in CAPTURE_NAMES, face=face, generation=generation)

    @_ends_with_skip
    def _on_face(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        session = self.sessions.get(request)
        before = session.face
        session.choose(int(event._data["face"]))
        if session.face != before:
            yield from self._on_make(request, *values)

    def _on_region(self, event: gr.EventData) -> str:
        region = event._data.get("region")
        return ",".join(str(int(v)) for v in region) if region else ""

    @_ends_with_skip
    def _on_style(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        self.sessions.get(request).style = str(event._data["style"])
        yield from self._on_adjust(request, *values)

    @_ends_with_skip
    def _on_balance(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = self.sessions.get(request)
        session.slider_moves += 1
        moves = session.slider_moves
        time.sleep(SLIDER_PAUSE)
        if session.slider_moves == moves:
            yield from self._on_adjust(request, *values)

    def _on_adjust(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Style and slider act at once, as soon as it is clear who is meant."""
        if self.sessions.get(request).face is not None:
            yield from self._on_make(request, *values)

    def _on_recipe(self, request: gr.Request, recipe: str) -> str:
        session = self.sessions.get(request)
        styles = self._styles(recipe)
        if session.style not in styles:
            session.style = styles[0]
        return page.styles_html(load_recipe(recipe), session.style)

    @_ends_with_skip
    def _on_make(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = self.sessions.get(request)
        try:
            settings = self._settings(session, values)
        except PortraitError as error:
            yield self._show_error(session, error)
            return
        yield from self._make(request, session, settings)

    @_ends_with_skip
    def _on_more(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """More like me, more style, another one: from the picture that is shown."""
        session = self.sessions.get(request)
        entry = session.find(session.current)
        act = event._data["act"]
        try:
            now = self._settings(session, values)
            if entry is None:
                raise SettingsError(strings.NEED_PHOTO)
            settings = replace(entry.settings, variants=now.variants)
            if act == "another":
                settings = replace(settings, seed=self._fresh_seed(session))
            else:
                step = -BALANCE_STEP if act == "like" else BALANCE_STEP
                settings = replace(settings, balance=round(min(1.0, max(0.0, settings.balance + step)), 2))
        except PortraitError as error:
            yield self._show_error(session, error)
            return
        yield self._restore_controls(session, settings)
        yield from self._make(request, session, settings)

    @staticmethod
    def _fresh_seed(session: Session) -> int:
        """A seed whose attempts no picture of this session has seen."""
        used = max((entry.settings.seed for entry in session.history), default=1 - VARIANT_STRIDE)
        return (used + VARIANT_STRIDE) % 2**31

    @_ends_with_skip
    def _on_same_look(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """Another photo with everything else as it is."""
        session = self.sessions.get(request)
        entry = session.find(session.current)
        generation = session.begin_upload()
        yield {self.photo: page.photo_html(session, looking=True)}
        try:
            if not self._open(session, event, generation):
                yield from self._reset_lost_tab(request, session)
                return
        except PortraitError as error:
            yield {
                self.photo: page.photo_html(session, local=self.local),
                self.result: page.result_html(session, problem=str(error)),
            }
            return
        yield {self.photo: page.photo_html(session, local=self.local), self.region: ""}
        if entry is None:
            return
        kept = tuple(name for name in entry.settings.keep if not name.startswith("region:"))
        settings = replace(entry.settings, keep=kept)
        yield self._restore_controls(session, settings)
        if session.face is None:  # the click on a face goes on from here
            yield {self.result: page.result_html(session, message=strings.NEED_FACE)}
            return
        yield from self._make(request, session, settings)

    def _on_history(self, request: gr.Request, event: gr.EventData) -> Updates:
        session = self.sessions.get(request)
        action = event._data
        if "compare" in action:
            session.compare(action["compare"])
            return {self.result: page.result_html(session)}
        entry = session.undo() if action.get("undo") else session.show(int(action["show"]))
        if entry is None:
            return {self.result: page.result_html(session)}
        return {self.result: page.result_html(session), **self._restore_controls(session, entry.settings)}

    def _on_cancel(self, request: gr.Request) -> None:
        self.sessions.get(request).cancel()

    def _on_reset(self, request: gr.Request) -> Updates:
        session = self.sessions.get(request)
        session.forget()
        self.models.clear_cache()
        return self._forgotten_page()

    def _reset_lost_tab(self, request: gr.Request, session: Session) -> Iterator[Updates]:
        """Tell a tab that its photo is forgotten: its connection broke, so that it was taken for closed.

        A tab that has a new photo by now keeps it.
        """
        if session.closed and self.sessions.get(request).upload_generation == 0:
            yield self._forgotten_page()

    def _forgotten_page(self) -> Updates:
        return {
            self.photo: page.photo_html(None, local=self.local),
            self.result: page.empty_html(message=strings.FORGOTTEN),
            self.region: "",
            **self._idle(),
        }

    # Making pictures -----------------------------------------------------------------------------------------

    def _settings(self, session: Session, values: tuple[Any, ...]) -> Settings:
        """What the controls say. Raises SettingsError with the sentence of the command line."""
        if session.photo is None:
            raise SettingsError(strings.NEED_PHOTO)
        if session.face is None:
            raise SettingsError(strings.NEED_FACE)
        balance, variants, keep, region, recipe, *advanced = values
        requested = {name: parse_value(name, text) for name, text in zip(self.advanced, advanced, strict=True)}
        region = "".join((region or "").split())
        keeps = [*keep, *([f"region:{region}"] if region else [])]
        requested |= {"balance": balance, "variants": variants, "keep": keeps, "recipe": recipe, "style": session.style}
        return web_settings(self.models.settings, requested)

    def _make(self, request: gr.Request, session: Session, settings: Settings) -> Iterator[Updates]:
        """Start a job in place of the visitor's last one, for the chosen face, and show what becomes of it."""
        render = self._start(session, settings)
        if render is None:
            return
        try:
            yield self._busy()
            yield from self._follow(session, render)
        except Exception as error:
            render.problem = str(to_user_error(error))
        if session.job is render.job:
            result = page.result_html(session, problem=render.problem, message=render.message)
            yield {self.result: result, **self._idle()}
        else:
            yield from self._reset_lost_tab(request, session)

    def _start(self, session: Session, settings: Settings) -> Render | None:
        """Start a job for the chosen face; None if the session was reset meanwhile."""
        with session.lock:
            photo = session.photo
            face = session.face
            if photo is None or face is None:
                return None
            session.cancel()
            settings = replace(settings, face="auto" if len(session.faces) == 1 else str(face))
            has_file = session.has_file

            def keep(portrait: StylizedPortrait, alone: Settings) -> None:
                self._add_to_history(session, job, portrait, alone, photo, has_file)

            session.job = job = self.models.start(
                photo,
                settings,
                subject=session.subject(settings.recipe, face),
                on_subject=lambda subject: session.remember_subject(settings.recipe, face, subject),
                on_portrait=keep,
            )
            return Render(job=job, photo=photo, variants=settings.variants)

    def _follow(self, session: Session, render: Render) -> Iterator[Updates]:
        """Show what happens to a job, for as long as the visitor requests nothing else."""
        entry = session.find(session.current)
        placeholder = _small_uri(render.photo.pixels if entry is None else entry.portrait.picture)
        preview = ""
        for event in render.job.events():
            if session.job is not render.job:  # a newer request has replaced it
                continue
            if event.kind == "portrait" or event.kind == "failed":
                render.problem = event.sentence
            elif event.kind == "cancelled":
                render.message = strings.CANCELLED
            else:
                if event.preview is not None:
                    preview = _small_uri(event.preview)
                shown = page.working_html(event, render.variants, preview, placeholder)
                yield {self.result: shown, **self._busy()}  # an earlier job may just have shown the idle buttons

    def _add_to_history(
        self,
        session: Session,
        job: RenderJob,
        portrait: StylizedPortrait,
        settings: Settings,
        photo: Photo,
        has_file: bool,
    ) -> None:
        """Add a finished picture to the history, unless the session was reset, or a newer request has replaced it."""
        small = thumbnail(portrait_square(portrait), page.SMALL * 2)
        with session.lock:
            if session.job is job:
                session.add(portrait, settings, small, photo, has_file=has_file)

    def _show_error(self, session: Session, error: PortraitError) -> Updates:
        """The error; a session without a photo, perhaps forgotten meanwhile, also gets the place for one again."""
        updates: Updates = {self.result: page.result_html(session, problem=str(error))}
        if session.photo is None:
            updates[self.photo] = page.photo_html(None, local=self.local)
        return updates

    def _busy(self) -> Updates:
        return {self.make: gr.update(visible=False), self.cancel: gr.update(visible=True)}

    def _idle(self) -> Updates:
        return {self.make: gr.update(visible=True), self.cancel: gr.update(visible=False)}

    def _restore_controls(self, session: Session, settings: Settings) -> Updates:
        """Set style and controls to what they were for a picture."""
        session.style = settings.style[0]
        regions = [name.partition(":")[2] for name in settings.keep if name.startswith("region:")]
        return {
            self.styles: page.styles_html(load_recipe(settings.recipe), session.style),
            self.balance: settings.balance,
            self.keep: [name for name in settings.keep if name in strings.KEEPS],
            self.region: regions[0] if regions else "",
            self.recipe: settings.recipe,
            **{component: to_text(getattr(settings, name)) for name, component in self.advanced.items()},
        }

    # Reports -------------------------------------------------------------------------------------------------

    def _on_run(self, name: str | None, baseline: str | None) -> Iterator[str]:
        if not name:
            yield page.notice(strings.CHOOSE_RUN)
            return
        yield page.notice(strings.REPORT_COMES)
        try:
            yield page.report_html(self.reports.page(name, baseline or ""), name)
        except Exception as error:
            yield page.alert(str(to_user_error(error)))

    def _on_runs(self) -> tuple[Any, Any]:
        names = self.reports.names()
        return gr.update(choices=names), gr.update(choices=[(strings.NO_BASELINE, ""), *names])
