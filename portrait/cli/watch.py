"""`portrait watch`."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from portrait.campaign.lock import exclusive_lock
from portrait.cli.console import Console, failure_record
from portrait.cli.inbox import Inbox, Journal
from portrait.cli.signals import interrupted_by
from portrait.cli.signing import signer_of
from portrait.cli.stylize import Batch, check_files, checked_styles
from portrait.cli.terminal import complain, say
from portrait.errors import (
    FaceError,
    ImageReadError,
    InputError,
    PortraitError,
    SettingsError,
    ShapeError,
    WeightsError,
)
from portrait.images.decoder_process import DecoderProcess
from portrait.paths import prove_writable
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.settings import Settings, flags_of, settings_from

JOURNAL = "watch.jsonl"
SECONDS_AFTER_TROUBLE = 30.0
"""Seconds to wait after a problem that is not a photo's fault, such as a full disk, before trying again."""


def watch_folder(args: argparse.Namespace) -> int:
    """`portrait watch`."""
    settings = settings_from(vars(args), args.settings)
    _check_arguments(args)
    recipe = with_overrides(load_recipe(settings.recipe), settings.base, settings.lora)
    styles = checked_styles(recipe, settings)
    check_files(settings, [])
    prove_writable(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    console = Console(quiet=args.quiet or args.json)
    with interrupted_by("SIGTERM"), exclusive_lock(args.output):
        batch = Batch(settings, styles, [], args.output, console, signer_of(args))
        journal = Journal(args.output / JOURNAL)
        watcher = Watcher(Inbox(args.folder), journal, batch, DecoderProcess(), json=args.json)
        try:
            batch.load()
            console.line(f"watching {args.folder}; stop with Ctrl-C")
            while True:
                is_well = watcher.look()
                time.sleep(args.every if is_well else SECONDS_AFTER_TROUBLE)
        except KeyboardInterrupt:
            console.line(f"stopped; photos: {watcher.photos}, portraits: {watcher.portraits}")
    return 0


def _check_arguments(args: argparse.Namespace) -> None:
    if not args.folder.is_dir():
        raise SettingsError(f"{args.folder} is not a folder")
    if args.output.resolve() == args.folder.resolve():
        raise SettingsError("-o must not be the folder that is watched: its pictures would be taken for new photos")
    if not 0.1 <= args.every <= 3600:
        raise SettingsError(f"--every {args.every:g} is outside 0.1 to 3600")


class Watcher:
    """Turns arriving photos into portraits, each once.

    `photos` and `portraits` count those finished since the start.
    """

    def __init__(
        self, inbox: Inbox, journal: Journal, batch: Batch, decoder: DecoderProcess, *, json: bool = False
    ) -> None:
        self.inbox = inbox
        self.journal = journal
        self.batch = batch
        self.decoder = decoder
        self.json = json
        self.photos = 0
        self.portraits = 0
        self._job = _job_of(batch.settings)
        self._trouble = ""
        self._unreadable: set[Path] = set()

    def look(self) -> bool:
        """Make the portraits of all photos that have arrived; return False after a problem that is not a photo's fault.

        Raises:
            WeightsError: the models cannot be used.
        """
        try:
            photos, passed_over = self.inbox.look()
            for item in passed_over:
                self.inbox.take(item.path)
                self.batch.console.line(f"{item.path.name}: passed over ({item.reason})")
            for path in photos:
                self._turn(path)
        except WeightsError:
            raise
        except PortraitError as error:
            return self._troubled(error)
        except OSError as error:  # such as a network folder that is gone for a while
            return self._troubled(InputError(f"cannot read {self.inbox.folder}: {error.strerror or error}"))
        self._trouble = ""
        return True

    def _troubled(self, error: PortraitError) -> bool:
        if str(error) != self._trouble:
            complain(error)
        self._trouble = str(error)
        return False

    def _turn(self, path: Path) -> None:
        """Make the missing portraits of one photo; report in one line if that is impossible."""
        sha256 = self._digest(path)
        if not sha256:
            return
        if reason := self.journal.failure(sha256, self._job):
            self._say_if_copy(path, sha256, f"it failed before: {reason}")
            self.inbox.take(path)
            return
        missing = [style for style in self.batch.styles if not self.journal.has(sha256, self._job, style)]
        if not missing:
            self._say_if_copy(path, sha256, "already done")
            self.inbox.take(path)
            return
        try:
            self._make(path, sha256, missing)
        except (ImageReadError, ShapeError, FaceError, SettingsError) as error:
            if not self.inbox.is_unchanged(path):
                return  # it was still being written, or is gone: the next check will tell
            complain(error)
            if self.json:
                say(failure_record(path, error, self.batch.settings.recipe).to_json())
            self.journal.fail(sha256, self._job, name=path.name, reason=str(error))
        self.inbox.take(path)

    def _digest(self, path: Path) -> str:
        """SHA-256 of a photo's bytes; empty if it cannot be read, which is reported once."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            if path not in self._unreadable and path.exists():
                complain(
                    InputError(f"cannot read {path}: {error.strerror or error}; trying again until it can be read")
                )
                self._unreadable.add(path)
            return ""
        self._unreadable.discard(path)
        return digest

    def _make(self, path: Path, sha256: str, styles: Sequence[str]) -> None:
        photo = self.decoder.read(path)
        if photo.sha256 != sha256:
            raise ImageReadError(f"{path} changed while it was read")
        subjects = self.batch.subjects(photo)
        for _, subject in subjects:
            self.batch.console.notes(subject)
        stem = self._begin(path, sha256)
        self.batch.own(stem)
        for style in styles:
            files = []
            for face, subject in subjects:
                for row in self.batch.variants(subject, style, stem, face):
                    self.portraits += 1
                    if row.problems:  # such as a full disk: it is made again later
                        raise row.problems[0]
                    files.append(row.path.name)
                    if self.json:
                        say(row.record.to_json())
                    elif row.record.accepted:
                        self.batch.console.line(f"accepted {row.path}")
            self.journal.finish(sha256, self._job, style, files)
        self.photos += 1

    def _begin(self, path: Path, sha256: str) -> str:
        """The name of a photo's pictures: as before a restart, or else a name that no other photo has."""
        if stem := self.journal.stem_of(sha256, self._job):
            return stem
        stem = self.batch.free_stem(path, self.journal.is_taken)
        self.journal.begin(sha256, self._job, name=path.name, stem=stem)
        return stem

    def _say_if_copy(self, path: Path, sha256: str, what: str) -> None:
        first = self.journal.name_of(sha256, self._job)
        if first != path.name:
            self.batch.console.line(f"{path.name}: the same photo as {first}, {what}")


def _job_of(settings: Settings) -> str:
    """A digest of the settings that determine a photo's pictures, except the style and where they are computed."""
    flags = flags_of(replace(settings, style=("any",), threads=0, device="auto", memory="auto"))
    return hashlib.sha256("\0".join(flags).encode()).hexdigest()[:16]
