"""The page: Gradio blocks, connected to sessions and jobs. `strings` has its texts, `page` and `controls` its HTML."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field

from portrait.errors import PortraitError, SettingsError
from portrait.faces.identity import require_large_enough
from portrait.provenance.credentials import Signer
from portrait.recipes.load import load_recipe
from portrait.settings import Settings
from portrait.studio import page, strings, viewer
from portrait.studio.controls import FieldError, controls_html, first_form, fitting, form_of, settings_asked
from portrait.studio.downloads import portrait_square
from portrait.studio.drawing import PREVIEW_SIDE, Drawing, Render, framed, fresh_seed
from portrait.studio.jobs import to_user_error
from portrait.studio.model_host import ModelHost
from portrait.studio.presets import preset_toml, read_preset
from portrait.studio.render import data_uri, from_template
from portrait.studio.reports import Reports
from portrait.studio.reports_tab import ReportsTab
from portrait.studio.service import Service
from portrait.studio.session import Form, Session
from portrait.studio.session_registry import Sessions
from portrait.studio.uploads import read_upload, take_upload
from portrait.studio.web_settings import web_settings

BALANCE_STEP = 0.15
"""How far “more like the photo” and “more artistic” move the balance."""
CAPTURE_NAMES = ("camera.png", "image.png")
"""Browsers' names for a picture from the camera or the clipboard, which is not a file."""

Updates = dict[Any, Any]
"""Component -> its new value or properties."""


class Action(BaseModel):
    """What a visitor does, as the browser says it: `act`, the `values` of the form, and what the action needs.

    `key` and `load` are for hello, `path` and `name` for a file; `number` is of a picture or a reference photo. `is_form` says
    that the form changes.
    """

    model_config = ConfigDict(frozen=True)

    act: str
    values: Form = Form()
    key: str = ""
    load: str = ""
    path: str = ""
    name: str = ""
    face: int = 0
    more: str = ""
    do: str = ""
    number: int | None = None
    on: bool = False
    is_form: bool = Field(False, alias="form")


def _ends_with_skip(handler: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
    """Make a handler end with an update that changes nothing.

    Gradio sends a generator's last update again when it ends; without this, that of a replaced request would overwrite those
    of the newer one.
    """

    @functools.wraps(handler)
    def handle(self: StudioPage, *args: Any) -> Iterator[Updates]:
        yield from handler(self, *args)
        yield {self.photo: gr.skip()}

    return handle


class StudioPage:
    """The page and everything behind it.

    Args:
        models: The models of one device, and the queue for it.
        folder: Folder for uploads and downloads; the caller deletes it at the end.
        reports: The run folders that the viewer may open.
        local: Whether only this computer can reach the page.
        signer: Signs files for download with Content Credentials; None leaves them unsigned.
    """

    def __init__(
        self, models: ModelHost, folder: Path, reports: Reports, *, local: bool = True, signer: Signer | None = None
    ) -> None:
        self.models = models
        self.folder = folder
        self.reports = ReportsTab(reports)
        self.local = local
        self.signer = signer
        first = load_recipe(models.settings.recipe)
        self.sessions = Sessions(folder, first_form(first, models.settings), models.clear_cache)
        self.drawing = Drawing(models)
        self.service = Service(models, folder, signer)

    def close(self) -> None:
        """Stop all work and forget everybody."""
        try:
            self.sessions.close()
        finally:
            self.models.close()

    # The page ------------------------------------------------------------------------------------------------

    def build(self) -> gr.Blocks:
        first = load_recipe(self.models.settings.recipe)
        form = first_form(first, self.models.settings)
        with gr.Blocks(title=strings.TITLE, analytics_enabled=False) as blocks:
            self._fixed(f"<header><h1>{strings.TITLE}</h1><p>{strings.TAGLINE}</p></header>")
            with gr.Tabs():
                with gr.Tab(strings.TAB_STUDIO, id="studio"), gr.Row(elem_classes="columns"):
                    with gr.Column(elem_classes="controls"):
                        self.photo = self._part("photo", page.photo_html(None, local=self.local))
                        self.controls = self._part("controls", controls_html(first, form, self.drawing.recipes()))
                        self._fixed(from_template("footer.html"))
                    with gr.Column(elem_classes="showing"):
                        self.result = self._part("viewer", viewer.empty_html(first))
                        self.history = self._part("history", "")
                self.reports.build()
            self.previews = self._part("previews", "")
            self.wire = gr.HTML(
                "",
                elem_id="wire",
                apply_default_css=False,
                js_on_load="portraitStudio.connect(element, trigger, upload, watch)",
            )
            self._fixed(from_template("dialogs.html"))
            self._wire(blocks)
            self.service.build()
        blocks.queue(default_concurrency_limit=None, max_size=64)
        return blocks

    @staticmethod
    def _fixed(html: str) -> None:
        gr.HTML(html, apply_default_css=False, js_on_load=None)

    @staticmethod
    def _part(name: str, value: str) -> gr.HTML:
        script = f'portraitStudio.part("{name}", element, watch)'
        return gr.HTML(value, elem_id=name, apply_default_css=False, js_on_load=script)

    def _wire(self, blocks: gr.Blocks) -> None:
        # Visitors who change their mind need not wait for what is still being made.
        free: dict[str, object] = {
            "show_progress": "hidden",
            "concurrency_limit": None,
            "api_visibility": "private",
            "trigger_mode": "multiple",
        }
        parts = [self.photo, self.controls, self.result, self.history, self.previews, self.wire]
        self.wire.submit(self._on_act, None, parts, **free)
        self.wire.stop(self._on_cancel, None, None, queue=False, **free)
        self.reports.wire(blocks, free)
        blocks.unload(self.sessions.end)

    # What is shown -------------------------------------------------------------------------------------------

    def _photo(self, session: Session, **more: Any) -> Updates:
        return {self.photo: page.photo_html(session, local=self.local, **more)}

    def _controls(self, session: Session) -> Updates:
        recipe = self.drawing.recipe(session)
        return {self.controls: controls_html(recipe, session.form, self.drawing.recipes(), session)}

    def _result(self, session: Session, **more: str) -> Updates:
        html = viewer.result_html(session, self.drawing.recipe(session), viewer.Notice(**more))
        return {self.result: html, self.history: viewer.history_html(session)}

    # What visitors do ----------------------------------------------------------------------------------------

    @_ends_with_skip
    def _on_act(self, request: gr.Request, event: gr.EventData) -> Iterator[Updates]:
        """Handle everything that a visitor does on the page, except canceling."""
        action = Action.model_validate(event._data)
        if action.act == "hello":
            yield from self._on_hello(request, action.key, action.load)
            return
        session = self.sessions.get(request)
        if session.lost:  # the page was open before the studio was restarted
            session.lost = False
            yield self._forgotten_page(session, strings.LOST)
            if action.act != "photo":
                return
        if action.values.model_fields_set:
            session.form = action.values
            session.form = fitting(session.form, self.drawing.recipe(session))
        acts: dict[str, Callable[[gr.Request, Session, Action], Iterator[Updates]]] = {
            "photo": self._on_photo,
            "face": self._on_face,
            "make": self._on_make,
            "adjust": self._on_adjust,
            "more": self._on_more,
            "controls": self._on_controls,
            "backdrop": self._on_backdrop,
            "reference": self._on_reference,
            "drop-reference": self._on_reference,
            "save-look": self._on_save_look,
            "look": self._on_look,
            "history": self._on_history,
            "reset": self._on_reset,
        }
        yield from acts[action.act](request, session, action)

    def _on_hello(self, request: gr.Request, key: str, load: str = "") -> Iterator[Updates]:
        """A page was loaded: show what its session has, if it had one before.

        A page whose answer is slow says hello again, with the same `load`; what the visitor did in the meantime stays.
        """
        session = self.sessions.resume(request, key)
        message = strings.LOST if session.lost else strings.STOPPED if session.stopped else ""
        session.lost = session.stopped = False
        if load and session.greeted == load:
            yield {self.wire: page.key_html(session)}
            return
        session.greeted = load
        yield {
            **self._photo(session),
            **self._controls(session),
            **self._result(session, message=message),
            self.wire: page.key_html(session),
        }
        job, photo = session.job, session.photo
        if session.is_working and job is not None and photo is not None:
            variants = int(session.form.variants) if session.is_choosing else 1
            yield from self._show_job(request, session, Render(job=job, photo=photo, variants=variants))
        else:
            yield from self._preview(session)

    def _on_photo(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Start with a new photo at once, if it is clear who is meant. A photo that fails changes nothing."""
        generation, had_photo = session.begin_upload(), session.photo is not None
        yield self._photo(session, looking=True)
        try:
            if not self._open(session, action, generation):
                yield from self._reset_lost_tab(request, session)
                return
        except PortraitError as error:
            yield self._photo(session, problem=str(error))
            return
        # They were about the previous photo.
        shift = "0,0" if had_photo else session.form.shift
        session.form = session.form.model_copy(update={"region": "", "shift": shift})
        yield {**self._photo(session), **self._controls(session), **self._result(session), self.previews: ""}
        yield from self._on_adjust(request, session, action)

    def _open(self, session: Session, action: Action, generation: int) -> bool:
        """Read the uploaded photo and open it; return False if the visitor has chosen another one, or none, in the meantime."""
        try:
            with session.reading:
                data, name = take_upload(action.path, action.name, self.folder)
                if session.upload_generation != generation:
                    return False
                photo = read_upload(data, name, lambda: session.upload_generation == generation)
                photo = self.models.upright(photo)
                faces, face = self.models.detect_faces(photo)
                if face is not None:
                    require_large_enough(faces[face], name)
        except Exception as error:
            user_error = to_user_error(error)
            if session.upload_generation != generation:
                return False
            raise user_error from None
        return session.open(photo, faces, has_file=name not in CAPTURE_NAMES, face=face, generation=generation)

    def _on_face(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        before = session.face
        session.choose(action.face)
        if session.face != before:
            if before is not None:
                session.form = session.form.model_copy(update={"shift": "0,0"})
            yield {**self._photo(session), **self._controls(session), self.previews: ""}
            yield from self._on_make(request, session, action)

    def _on_adjust(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Apply settings that show in every picture at once, if it is clear who is meant."""
        if session.face is None:
            if action.is_form:
                yield self._controls(session)
            return
        yield from self._on_make(request, session, action)

    def _on_controls(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Another recipe has other styles and settings."""
        yield self._controls(session) | {self.previews: ""}

    def _on_backdrop(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Take a picture of the visitor's own as background."""
        try:
            session.take_backdrop(*take_upload(action.path, action.name, self.folder))
        except Exception as error:
            yield self._show_error(session, to_user_error(error))
            return
        session.form = session.form.model_copy(update={"background": "picture"})
        yield self._controls(session)
        yield from self._on_adjust(request, session, action)

    def _on_make(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        try:
            settings = self.drawing.settings(session)
        except PortraitError as error:
            yield self._show_error(session, error)
            return
        if action.is_form:  # the style has palettes of its own
            yield self._controls(session)
        yield from self._make(request, session, settings)

    def _on_more(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """More like the photo, more artistic, or again: starting from the picture that is shown."""
        entry = session.find(session.current)
        wish = action.more
        try:
            now = self.drawing.settings(session)
            if entry is None:
                raise SettingsError(strings.NEED_PHOTO)
            settings = replace(entry.settings, variants=now.variants)
            if wish == "another":
                settings = replace(settings, seed=fresh_seed(session))
            else:
                step = -BALANCE_STEP if wish == "like" else BALANCE_STEP
                settings = replace(settings, balance=round(min(1.0, max(0.0, settings.balance + step)), 2))
        except PortraitError as error:
            yield self._show_error(session, error)
            return
        session.form = form_of(settings)
        yield self._controls(session)
        yield from self._make(request, session, settings)

    def _on_reference(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Add or remove a photo of the same person; the next portrait uses all of them."""
        try:
            if action.act == "drop-reference":
                session.drop_reference(action.number)
            else:
                data, name = take_upload(action.path, action.name, self.folder)
                reference = self.models.upright(read_upload(data, name, lambda: not session.closed))
                if session.photo is None or session.face is None:
                    raise SettingsError(strings.NEED_PHOTO)
                self.models.check_reference(session.photo, session.faces[session.face], reference)
                session.add_reference(reference)
        except Exception as error:
            yield self._photo(session, problem=str(to_user_error(error)))
            return
        yield self._photo(session)
        yield from self._on_adjust(request, session, action)

    def _on_save_look(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Save the form as a file that the command line reads too."""
        try:
            settings = web_settings(self.models.settings, settings_asked(session.form), session.backdrop)
        except PortraitError as error:
            yield self._show_error(session, error)
            return
        yield {self.wire: page.key_html(session) + page.look_html(preset_toml(settings), settings.style[0])}

    def _on_look(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Load a look's file into the form, and draw it at once."""
        try:
            data, _ = take_upload(action.path, action.name, self.folder)
            text = data.decode("utf-8-sig", errors="replace")
            settings = read_preset(text, self.models.settings, session.backdrop)
        except Exception as error:
            yield self._show_error(session, to_user_error(error))
            return
        session.form = form_of(settings)
        yield self._controls(session)
        yield from self._on_adjust(request, session, action)

    def _on_history(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        """Show, compare, star or delete a picture, or undo that."""
        before = session.current
        do = action.do
        if do == "compare":
            session.compare(action.number)
        elif do == "star":
            session.star(action.number, action.on)
        elif do == "delete":
            session.delete(action.number)
        elif do == "undo":
            session.undo()
        elif do == "show":
            session.show(action.number)
        if do in ("choices", "show", "undo") and not session.is_working:
            session.is_choosing = do == "choices"
        entry = session.find(session.current)
        if session.is_working or do == "star":  # what is shown, or being made, stays in sight
            yield {self.history: viewer.history_html(session)}
            return
        yield self._result(session)
        if entry is not None and (session.current != before or do == "show"):  # the form is what it was for the picture
            session.form = form_of(entry.settings).model_copy(update={"variants": session.form.variants})
            yield self._controls(session)
            yield from self._preview(session)

    def _on_cancel(self, request: gr.Request) -> None:
        self.sessions.get(request).cancel()

    def _on_reset(self, request: gr.Request, session: Session, action: Action) -> Iterator[Updates]:
        session.forget()
        session.form = first_form(load_recipe(self.models.settings.recipe), self.models.settings)
        self.models.clear_cache()
        yield self._forgotten_page(session)

    def _reset_lost_tab(self, request: gr.Request, session: Session) -> Iterator[Updates]:
        """Tell a tab that its photo was forgotten, because its connection broke and it seemed to be closed.

        A tab that has a new photo by now keeps it.
        """
        if session.closed and self.sessions.get(request).upload_generation == 0:
            yield self._forgotten_page(session)

    def _forgotten_page(self, session: Session, message: str = strings.FORGOTTEN) -> Updates:
        forgotten = viewer.empty_html(self.drawing.recipe(session), viewer.Notice(message=message))
        return {
            self.photo: page.photo_html(None, local=self.local),
            **self._controls(session),
            self.result: forgotten,
            self.history: "",
            self.previews: "",
            self.wire: page.key_html(session),
        }

    # Making pictures -----------------------------------------------------------------------------------------

    def _make(self, request: gr.Request, session: Session, settings: Settings) -> Iterator[Updates]:
        """Start a job for the chosen face instead of the visitor's last one, and show its progress and result."""
        render = self.drawing.start(session, settings)
        if render is not None:
            yield from self._show_job(request, session, render)

    def _show_job(self, request: gr.Request, session: Session, render: Render) -> Iterator[Updates]:
        """Show a job from now to its end, then what the other styles would look like."""
        try:
            yield from self._follow(session, render)
        except Exception as error:
            render.problem = str(to_user_error(error))
        if session.job is render.job:
            yield self._result(session, problem=render.problem, message=render.message)
            yield from self._preview(session)
        else:
            yield from self._reset_lost_tab(request, session)

    def _follow(self, session: Session, render: Render) -> Iterator[Updates]:
        """Show the progress of a job, as long as the visitor requests nothing else."""
        entry = session.find(session.current)
        before = portrait_square(entry.portrait) if entry else framed(session, render.photo)
        placeholder = data_uri(before, side=PREVIEW_SIDE, quality=75)
        preview = ""
        yield {self.result: viewer.working_html(session, None, render.variants, preview, placeholder)}
        for event in render.job.events():
            if session.job is not render.job:  # a newer request has replaced it
                continue
            if event.kind == "portrait":
                preview = ""
                render.problem = event.sentence
                yield {self.history: viewer.history_html(session)}
            elif event.kind == "failed":
                render.problem = event.sentence
            elif event.kind == "cancelled":
                render.message = strings.CANCELLED
            else:
                if event.preview is not None:
                    preview = data_uri(event.preview, side=PREVIEW_SIDE, quality=75)
                yield {self.result: viewer.working_html(session, event, render.variants, preview, placeholder)}

    def _preview(self, session: Session) -> Iterator[Updates]:
        """Show small previews of the photo in every style, and in the chosen style at several strengths, as they arrive."""
        previews = self.drawing.start_previews(session)
        if previews is None:
            return
        what = previews.recipe, previews.style, previews.crop
        yield {self.previews: page.previews_html(session, *what)}
        for event in previews.job.events():
            if event.kind == "preview" and event.preview is not None:
                key = (previews.recipe, event.style, previews.crop, event.balance)
                if not session.keep_preview(previews.job, key, data_uri(event.preview, quality=80, generated=True)):
                    return
                yield {self.previews: page.previews_html(session, *what)}

    def _show_error(self, session: Session, error: PortraitError) -> Updates:
        """Show the error; a session without a photo, perhaps forgotten in the meantime, also gets the drop zone again."""
        field = error.field if isinstance(error, FieldError) else ""
        updates = self._result(session, problem=str(error), field=field)
        return updates | self._photo(session) if session.photo is None else updates
