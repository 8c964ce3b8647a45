"""The page: Gradio blocks, wired to sessions and jobs. `strings` has its words, `page` its HTML, `work` its work."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from portrait.errors import PortraitError, SettingsError
from portrait.loop.stylizer import VARIANT_STRIDE
from portrait.recipes.load import load_recipe
from portrait.report.sheet import thumbnail
from portrait.settings import Settings
from portrait.studio import page, strings
from portrait.studio.controls import ADVANCED, control, text_of, value_of
from portrait.studio.downloads import file_stem, square, write_downloads
from portrait.studio.reports import Reports
from portrait.studio.service import Service
from portrait.studio.session import Session
from portrait.studio.sessions import Visitors, take_upload
from portrait.studio.work import Job, Workshop, as_told, installed_recipes, read_upload, web_settings

PAUSE = 0.35
"""Seconds without a further move before the slider acts."""
STEP = 0.15
"""How far “more like me” and “more style” move the balance."""
PREVIEW_SIDE = 384

Updates = dict[Any, Any]
"""Component -> what becomes of it."""


def _settled(handler: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
    """A handler that ends with an update of nothing.

    Gradio sends the last update of a generator once more when it ends: that of a wish which the visitor has replaced
    would come after those of the newer one.
    """

    @functools.wraps(handler)
    def settled(self: Studio, *args: Any) -> Iterator[Updates]:
        yield from handler(self, *args)
        yield {self.photo: gr.skip()}

    return settled


class Studio:
    """The page and everything behind it.

    Args:
        workshop: Models and the line in front of them.
        folder: Where files for download lie; the caller deletes it at the end.
        reports: The run folders that the viewer may open.
        local: Whether only this computer can reach the page.
    """

    def __init__(self, workshop: Workshop, folder: Path, reports: Reports, *, local: bool = True) -> None:
        self.workshop = workshop
        self.folder = folder
        self.reports = reports
        self.local = local
        self.visitors = Visitors(folder, self._styles(workshop.settings.recipe)[0], workshop.forget)
        self.service = Service(workshop, folder)

    def close(self) -> None:
        """Stop all work and forget everybody."""
        try:
            self.visitors.close()
        finally:
            self.workshop.close()

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
        base = self.workshop.settings
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
            self.advanced = {name: control(name, base) for name in ADVANCED}

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
        free: dict[str, Any] = {
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
        blocks.unload(self.visitors.leave)

    # What visitors do ----------------------------------------------------------------------------------------

    @_settled
    def _on_photo(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """A photo begins at once, when it is clear who is meant: nobody has to look for a button first."""
        session = self.visitors.session(request)
        session.cancel()
        turn = session.next_turn()
        yield {self.photo: page.photo_html(session, looking=True)}
        try:
            if not self._open(session, event, turn):
                yield from self._lost(request, session)
                return
        except PortraitError as error:
            yield {self.photo: page.photo_html(session, problem=str(error), local=self.local)}
            return
        yield {
            self.photo: page.photo_html(session, local=self.local),
            self.region: "",
            self.result: self._result(session),
        }
        balance, variants, keep, _, *more = values  # the region was one of the photo before
        yield from self._on_adjust(request, balance, variants, keep, "", *more)

    def _open(self, session: Session, event: gr.EventData, turn: int) -> bool:
        """Read the uploaded photo and take it; False if meanwhile the visitor wanted another one, or none."""
        try:
            with session.reading:
                data, name = take_upload(event._data or {}, self.folder)
                if session.turn != turn:
                    return False
                photo = read_upload(data, name)
                faces, meant = self.workshop.look(photo)
        except Exception as error:
            told = as_told(error)
            if session.turn != turn:
                return False
            raise told from None
        named = name not in ("camera.png", "image.png")  # what browsers call a picture that is no file
        return session.open(photo, faces, named=named, face=meant, turn=turn)

    @_settled
    def _on_face(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        session = self.visitors.session(request)
        before = session.face
        session.choose(int(event._data["face"]))
        if session.face != before:
            yield from self._on_make(request, *values)

    def _on_region(self, event: gr.EventData) -> str:
        region = event._data.get("region")
        return ",".join(str(int(v)) for v in region) if region else ""

    @_settled
    def _on_style(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        self.visitors.session(request).style = str(event._data["style"])
        yield from self._on_adjust(request, *values)

    @_settled
    def _on_balance(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = self.visitors.session(request)
        session.moves = mine = session.moves + 1
        time.sleep(PAUSE)
        if session.moves == mine:
            yield from self._on_adjust(request, *values)

    def _on_adjust(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Style and slider act at once, as soon as it is clear who is meant."""
        if self.visitors.session(request).face is not None:
            yield from self._on_make(request, *values)

    def _on_recipe(self, request: gr.Request, recipe: str) -> str:
        session = self.visitors.session(request)
        offered = self._styles(recipe)
        if session.style not in offered:
            session.style = offered[0]
        return page.styles_html(load_recipe(recipe), session.style)

    @_settled
    def _on_make(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = self.visitors.session(request)
        try:
            settings = self._settings(session, values)
        except PortraitError as error:
            yield self._refused(session, error)
            return
        yield from self._make(request, session, settings)

    @_settled
    def _on_more(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """More like me, more style, another one: from the picture that is shown."""
        session = self.visitors.session(request)
        shot, act = session.find(session.shown), event._data["act"]
        try:
            now = self._settings(session, values)
            if shot is None:
                raise SettingsError(strings.NEED_PHOTO)
            settings = replace(shot.settings, variants=now.variants)
            if act == "another":
                settings = replace(settings, seed=self._fresh_seed(session))
            else:
                step = -STEP if act == "like" else STEP
                settings = replace(settings, balance=round(min(1.0, max(0.0, settings.balance + step)), 2))
        except PortraitError as error:
            yield self._refused(session, error)
            return
        yield self._look(session, settings)
        yield from self._make(request, session, settings)

    @staticmethod
    def _fresh_seed(session: Session) -> int:
        """A seed whose attempts no picture of this session has seen."""
        used = max((shot.settings.seed for shot in session.shots), default=1 - VARIANT_STRIDE)
        return (used + VARIANT_STRIDE) % 2**31

    @_settled
    def _on_same_look(self, request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Updates]:
        """Another photo with everything else as it is."""
        session = self.visitors.session(request)
        shot = session.find(session.shown)
        turn = session.next_turn()
        yield {self.photo: page.photo_html(session, looking=True)}
        try:
            if not self._open(session, event, turn):
                yield from self._lost(request, session)
                return
        except PortraitError as error:
            yield {
                self.photo: page.photo_html(session, local=self.local),
                self.result: self._result(session, problem=str(error)),
            }
            return
        yield {self.photo: page.photo_html(session, local=self.local), self.region: ""}
        if shot is None:
            return
        kept = tuple(name for name in shot.settings.keep if not name.startswith("region:"))
        settings = replace(shot.settings, keep=kept)
        yield self._look(session, settings)
        if session.face is None:  # the click on a face goes on from here
            yield {self.result: self._result(session, said=strings.NEED_FACE)}
            return
        yield from self._make(request, session, settings)

    def _on_history(self, request: gr.Request, event: gr.EventData) -> Updates:
        session, wish = self.visitors.session(request), event._data
        if "compare" in wish:
            session.compare(wish["compare"])
            return {self.result: self._result(session)}
        shot = session.undo() if wish.get("undo") else session.show(int(wish["show"]))
        if shot is None:
            return {self.result: self._result(session)}
        return {self.result: self._result(session), **self._look(session, shot.settings)}

    def _on_cancel(self, request: gr.Request) -> None:
        self.visitors.session(request).cancel()

    def _on_reset(self, request: gr.Request) -> Updates:
        session = self.visitors.session(request)
        session.forget()
        self.workshop.forget()
        return self._forgotten()

    def _lost(self, request: gr.Request, session: Session) -> Iterator[Updates]:
        """For a tab whose connection broke, so that it was taken for closed, and which has not begun anew since."""
        if session.left and self.visitors.session(request).turn == 0:
            yield self._forgotten()

    def _forgotten(self) -> Updates:
        return {
            self.photo: page.photo_html(None, local=self.local),
            self.result: page.empty_html(said=strings.FORGOTTEN),
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
        wishes = {name: value_of(name, text) for name, text in zip(self.advanced, advanced, strict=True)}
        region = "".join((region or "").split())
        keeps = [*keep, *([f"region:{region}"] if region else [])]
        wishes |= {"balance": balance, "variants": variants, "keep": keeps, "recipe": recipe, "style": session.style}
        return web_settings(self.workshop.settings, wishes)

    def _make(self, request: gr.Request, session: Session, settings: Settings) -> Iterator[Updates]:
        """Start a job in place of the visitor's last one, for the face that is chosen, and show what becomes of it."""
        with session.lock:
            photo, named, face = session.photo, session.named, session.face
            if photo is None or face is None:
                return
            session.cancel()
            settings = replace(settings, face="auto" if len(session.faces) == 1 else str(face))
            known = session.subject(settings.recipe, face)
            job = self.workshop.start(
                photo,
                settings,
                known=known,
                on_subject=lambda subject: session.keep_subject(settings.recipe, face, subject),
            )
            session.job = job
        problem = said = preview = ""
        try:
            yield self._busy()
            shot = session.find(session.shown)
            before = page.data_uri(thumbnail(shot.portrait.picture if shot else photo.pixels, PREVIEW_SIDE), quality=75)
            for event in job.events():
                if session.job is not job:  # a newer wish has taken the stage
                    continue
                if event.portrait is not None and event.settings is not None:
                    try:
                        self._keep(session, event.portrait, event.settings, photo, named, job)
                    except PortraitError as error:  # a full disk, say: the picture is shown, its files are not there
                        problem = str(error)
                elif event.kind == "failed":
                    problem = event.sentence
                elif event.kind == "cancelled":
                    said = strings.CANCELLED
                else:
                    if event.preview is not None:
                        preview = page.data_uri(thumbnail(event.preview, PREVIEW_SIDE), quality=75)
                    shown = page.working_html(event, settings.variants, preview, before)
                    yield {self.result: shown, **self._busy()}  # the job before may have come to its end meanwhile
        except Exception as error:
            problem = str(as_told(error))
        finally:  # also when Gradio closes this, because nobody is there to see more
            job.cancel()
            with session.lock:
                newest = session.job is job
                session.job = None if newest else session.job
                session.seen = time.monotonic()  # the wait was long perhaps
        if newest:
            yield {self.result: self._result(session, problem=problem, said=said), **self._idle()}
        else:
            yield from self._lost(request, session)

    @staticmethod
    def _keep(session: Session, portrait: Any, settings: Settings, photo: Any, named: bool, job: Job) -> None:
        portrait = portrait.named(photo.path.name)  # the name that the visitor knows
        small = thumbnail(square(portrait), page.SMALL * 2)
        with session.lock:
            if session.job is not job:  # forgotten, or a newer wish
                return
            shot = session.add(portrait, settings, small, photo, named=named)
        stem = file_stem(photo.path.stem, f"{settings.style[0]}-{shot.number}")
        try:
            files = write_downloads(portrait, stem, session.folder)
        except OSError:
            if session.find(shot.number) is None:  # forgotten while they were written
                return
            raise
        with session.lock:
            if session.find(shot.number) is not None:
                session.with_files(shot, files)
            else:
                shutil.rmtree(files[0].parent, ignore_errors=True)

    def _refused(self, session: Session, error: PortraitError) -> Updates:
        """The complaint; whoever was forgotten meanwhile is shown the place for a photo again."""
        gone = {} if session.photo is not None else {self.photo: page.photo_html(None, local=self.local)}
        return {self.result: self._result(session, problem=str(error)), **gone}

    def _result(self, session: Session, *, problem: str = "", said: str = "") -> str:
        return page.result_html(session, problem=problem, said=said)

    def _busy(self) -> Updates:
        return {self.make: gr.update(visible=False), self.cancel: gr.update(visible=True)}

    def _idle(self) -> Updates:
        return {self.make: gr.update(visible=True), self.cancel: gr.update(visible=False)}

    def _look(self, session: Session, settings: Settings) -> Updates:
        """The style and the controls as they were for a picture."""
        session.style = settings.style[0]
        regions = [name.partition(":")[2] for name in settings.keep if name.startswith("region:")]
        return {
            self.styles: page.styles_html(load_recipe(settings.recipe), session.style),
            self.balance: settings.balance,
            self.keep: [name for name in settings.keep if name in strings.KEEPS],
            self.region: regions[0] if regions else "",
            self.recipe: settings.recipe,
            **{one: text_of(getattr(settings, name)) for name, one in self.advanced.items()},
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
            yield page.alert(str(as_told(error)))

    def _on_runs(self) -> tuple[Any, Any]:
        names = self.reports.names()
        return gr.update(choices=names), gr.update(choices=[(strings.NO_BASELINE, ""), *names])
