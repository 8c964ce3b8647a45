"""The studio over HTTP and from Python: three functions, with the same names as on the command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData
from pydantic import ValidationError

from portrait.errors import InputError, PortraitError, SettingsError
from portrait.images import Photo
from portrait.paths import shorten_name
from portrait.provenance.credentials import Signer
from portrait.provenance.files import write_portrait
from portrait.recipes.load import load_recipe
from portrait.studio import strings
from portrait.studio.jobs import JobEvent
from portrait.studio.model_host import ModelHost
from portrait.studio.session import MAX_REFERENCES, named
from portrait.studio.uploads import read_upload, take_upload
from portrait.studio.web_settings import installed_recipes, web_settings

PULSE = 0.5
"""Seconds within which a caller who hung up is noticed, even while nothing happens."""


class Service:
    """Functions for callers without a page. `folder` is for uploads and downloads."""

    def __init__(self, models: ModelHost, folder: Path, signer: Signer | None = None) -> None:
        self.models = models
        self.folder = folder
        self.signer = signer

    def build(self) -> None:
        """Add the functions to the blocks that are being built."""
        gr.api(self.stylize, api_name="stylize", concurrency_limit=None)
        gr.api(self.faces, api_name="faces", concurrency_limit=None)
        gr.api(self.recipes, api_name="recipes", concurrency_limit=None)

    def stylize(
        self,
        photo: FileData,
        style: str = "watercolor",
        balance: float = 0.5,
        seed: int = 1,
        face: str = "auto",
        frame: str = "bust",
        keep: list[str] | None = None,
        settings: dict[str, object] | None = None,
        references: list[FileData] | None = None,
    ) -> Iterator[tuple[FileData | None, str]]:
        """Make one portrait: the picture (PNG) and its record as JSON text.

        The names are those of `portrait stylize`; `references` are further photos of the person, and `settings` takes any
        other setting of the page, such as {"strength": 0.6}.
        Until it is done there is no picture, and the text reports the progress. It is stopped if the caller cancels or hangs
        up.
        """
        try:
            image = self._photo(photo)
            further = [self._photo(reference) for reference in (references or [])[: MAX_REFERENCES + 1]]
            if len(further) > MAX_REFERENCES:
                raise SettingsError(strings.MANY_REFERENCES.format(n=MAX_REFERENCES))
            requested = {
                "style": style,
                "balance": balance,
                "seed": seed,
                "face": face,
                "frame": frame,
                "keep": keep or [],
            }
            chosen = web_settings(self.models.settings, requested | (settings or {}))
            job = self.models.start(image, replace(chosen, variants=1), references=further)
            progress = ""
            try:
                for event in job.events(PULSE):
                    if event.portrait is not None:
                        portrait = named(event.portrait, image.path.name)
                        name = f"{shorten_name(image.path.stem)}-{chosen.style[0]}.png"
                        file = self.folder / secrets.token_urlsafe(16) / name
                        write_portrait(file, portrait.pixels, portrait.record, signer=self.signer)
                        # As text, because Gradio's client takes every dict with a `path` for a file on the server.
                        yield FileData(path=str(file), orig_name=file.name), portrait.record.to_json()
                        return
                    if event.kind in ("failed", "cancelled"):
                        raise SettingsError(event.sentence or strings.CANCELLED)
                    else:  # after each, Gradio checks whether the caller is still there
                        progress = progress if event.kind == "still" and progress else _progress(event)
                        yield None, progress
            finally:
                job.cancel()
        except PortraitError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def faces(self, photo: FileData) -> list[dict[str, object]]:
        """The faces of a photo from left to right: index, bbox, kps, det_score."""
        try:
            faces, _ = self.models.detect_faces(self.models.upright(self._photo(photo)))
        except PortraitError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [face.entry(index) for index, face in enumerate(faces)]

    def recipes(self) -> dict[str, list[str]]:
        """The recipes that are installed, and the styles of each."""
        return {name: list(load_recipe(name).styles) for name in installed_recipes()}

    def _photo(self, photo: FileData | dict[str, object]) -> Photo:
        try:
            file = FileData.model_validate(photo, from_attributes=True)
        except ValidationError:
            raise InputError(strings.UPLOAD_FAILED) from None
        return read_upload(*take_upload(file.path, file.orig_name or "", self.folder))


def _progress(event: JobEvent) -> str:
    numbers = {"place": event.position, "attempt": event.attempt, "step": event.step, "total": event.total}
    return json.dumps({"status": event.kind} | {name: value for name, value in numbers.items() if value})
