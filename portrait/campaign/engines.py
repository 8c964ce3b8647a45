"""Where the pictures of a campaign are made: in this process, or by Ray actors on many GPUs and machines."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from portrait.campaign.plan import PlannedPicture
from portrait.errors import CampaignError, FaceError, InputError, PortraitError, SettingsError
from portrait.images import Photo, decode, encode_picture, resized
from portrait.judge.appearance import appearance_features
from portrait.judge.thresholds import Thresholds
from portrait.loop.limits import resolve_thresholds
from portrait.loop.record import library_versions
from portrait.loop.response import as_table
from portrait.loop.stylizer import AttemptLoop
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.settings import Settings

log = logging.getLogger(__name__)

MAX_BEFORE_SIDE = 640
"""The framed photo is kept beside the pictures at no more than this many pixels, for the reports."""
MAX_WORKER_DEATHS = 3
"""A batch under which so many workers died is given up: its jobs fail, and the run goes on."""
START_SECONDS = 300.0
"""A Ray worker that does not answer within so long is given up: its machine may never come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One job as a worker gets it. `settings` are whole: recipe, style, prompt and seed of this job."""

    id: int
    key: str
    picture: PlannedPicture
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFile:
    """A photo's bytes, so that no worker needs the driver's disk."""

    path: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Jobs of one recipe and one person. `weights` is what the worker's models must be: file -> SHA-256."""

    items: tuple[WorkItem, ...]
    photos: tuple[PhotoFile, ...]
    weights: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkResult:
    """What came of one item. `record` None: nothing could be made, `failure` says why. `fault` is the kind of an error
    that may lie with the machine or the models and not with the photo.

    `encoded` is the picture's file, `before` the framed photo as JPEG, `identity` what the judges know of the photos.
    """

    item: WorkItem
    record: PortraitRecord | None = None
    encoded: bytes = b""
    before: bytes = b""
    look: dict[str, float] = field(default_factory=dict)
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    identity: dict[str, Embedding] = field(default_factory=dict)
    failure: str = ""
    fault: str = ""
    no_face: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A loaded recipe: `recipe` is what moves pictures (knobs, prompts, thresholds and the digest of each weights file),
    `environment` what moves them by rounding (threads, dtype, versions)."""

    recipe: dict[str, Any]
    environment: dict[str, Any]


class Engine(Protocol):
    """Makes batches. Results come in any order; `name` is for messages, `workers` for predictions."""

    name: str
    workers: int

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint: ...

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]: ...

    def close(self) -> None: ...


class Worker:
    """Makes pictures with one recipe's models at a time, loaded once."""

    def __init__(self, load: Callable[[Settings], AttemptLoop] = AttemptLoop.from_settings) -> None:
        self._load = load
        self._loaded: tuple[Any, AttemptLoop] | None = None

    def stylizer(self, settings: Settings) -> AttemptLoop:
        names = ("recipe", "threads", "device", "memory", "base", "lora", "commercial")
        key = tuple(getattr(settings, name) for name in names)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # the old models go before the new ones come
            self._loaded = key, self._load(settings)
        return self._loaded[1]

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """Load a recipe and say what it is, with the thresholds of these styles."""
        stylizer = self.stylizer(settings)
        generator, recipe = stylizer.generator, stylizer.recipe
        judges = set(stylizer.judges.names)
        custom = Path(settings.thresholds) if settings.thresholds else None
        entries = {}
        for style in styles:
            limits, _ = resolve_thresholds(recipe, style, settings.far, custom, generator.digests, judges)
            entries[style] = {
                "prompt": recipe.prompt_of(recipe.style(style)),
                "identity": limits.identity,
                "style_on_face": limits.style_on_face,
                "burned": limits.burned,
                "statistics": _statistics(limits),
                "curves": _digest(as_table(stylizer.curves(style, settings.curves))),
            }
        own = _plain(recipe) | {
            "weights": dict(sorted(stylizer.digests.items())),
            "judges": sorted(judges),
        }
        environment = {
            "threads": generator.threads,
            "dtype": generator.dtype,
            "machine": platform.machine(),
            "versions": library_versions(),
        }
        return Fingerprint(recipe=own | {"styles": entries}, environment=environment)

    def work(self, batch: Batch) -> Iterator[WorkResult]:
        """Make a batch, one result per item, in order; an error of one photo or picture is a result too, whatever it is.

        Raises:
            CampaignError: the models here are not those of the run, or cannot be loaded.
        """
        try:
            stylizer = self.stylizer(batch.items[0].settings)
        except PortraitError:
            raise
        except Exception as error:
            recipe = batch.items[0].settings.recipe
            raise CampaignError(f"{platform.node()} cannot load {recipe}: {type(error).__name__}: {error}") from error
        if wrong := [name for name, digest in batch.weights.items() if stylizer.digests.get(name) != digest]:
            raise CampaignError(f"{platform.node()} has other weights than the run began with: {', '.join(wrong)}")
        try:
            first, *more = [
                Photo(pixels=decode(p.data, Path(p.path).name), path=Path(p.path), sha256=p.sha256)
                for p in batch.photos
            ]
            (subject,) = stylizer.subjects(first, batch.items[0].settings.face, more)
        except Exception as error:
            for item in batch.items:
                yield _failed(item, error, photo=True)
            return
        for n, item in enumerate(batch.items):
            try:
                made = stylizer.stylize(subject, item.picture.style, item.settings)
                result = WorkResult(
                    item=item,
                    record=made.record,
                    encoded=encode_picture(made.pixels, item.settings.format, parameters=made.record.parameters_text()),
                    before=_before(made.before) if n == 0 else b"",
                    look=appearance_features(made.picture),
                    embeddings=made.embeddings,
                    identity=subject.identity.embeddings,
                )
            except Exception as error:
                result = _failed(item, error, identity=subject.identity.embeddings)
            yield result


def _failed(
    item: WorkItem, error: Exception, *, photo: bool = False, identity: Mapping[str, Embedding] | None = None
) -> WorkResult:
    """The result of a item that an error ended; `photo`: it was met before any picture was begun."""
    own = isinstance(error, InputError | FaceError)
    if not own:
        log.info("%s: %s", item.picture.stem, error, exc_info=error)
    why = str(error) if isinstance(error, PortraitError) else f"{type(error).__name__}: {_line(error)}"
    fault = "" if own else type(error).__name__
    return WorkResult(item=item, failure=why, fault=fault, no_face=photo and own, identity=dict(identity or {}))


def _statistics(limits: Thresholds) -> str:
    known = limits.statistics
    return "" if known is None else _digest([known.mean.tolist(), known.precision.tolist(), known.limit])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values that move pictures; its files are named by their digests elsewhere."""
    found: dict[str, Any] = {}
    for f in fields(recipe):
        value = getattr(recipe, f.name)
        if f.name == "balance":
            found[f.name] = [[at, [getattr(knobs, k.name) for k in fields(knobs)]] for at, knobs in value]
        elif f.name == "loras":
            found[f.name] = [[lora.part or Path(lora.path).name, lora.weight] for lora in value]
        elif f.name != "title" and isinstance(value, str | int | float):
            found[f.name] = value
    return found


def _before(image: RgbImage) -> bytes:
    scale = min(1.0, MAX_BEFORE_SIDE / max(image.shape[:2]))
    small = resized(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(small)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


class LocalEngine:
    """Makes everything in this process, one picture after the other."""

    name = "local"
    workers = 1

    def __init__(self, load: Callable[[Settings], AttemptLoop] = AttemptLoop.from_settings) -> None:
        self._worker = Worker(load)

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        return self._worker.describe(settings, styles)

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]:
        for batch in batches:
            yield from self._worker.work(batch)

    def close(self) -> None:
        pass


class _RayWorker:
    """A worker as a Ray actor; a batch is a list here, since a dead actor's half of one is of no use."""

    def __init__(self, load: Callable[[Settings], AttemptLoop]) -> None:
        self._worker = Worker(load)

    def ready(self) -> None:
        """Answers as soon as the actor runs."""

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        return self._worker.describe(settings, styles)

    def work(self, batch: Batch) -> list[WorkResult]:
        return list(self._worker.work(batch))


class RayEngine:
    """Makes batches on Ray actors, each of which holds the models.

    Pictures come back as bytes, so machines share no disk; the driver alone writes. When an actor dies, with its machine
    or from lack of memory, another is started and its batch made again; the pictures are the same, since their seeds
    come from their keys. If none can be started, the others go on; without any, the run ends with what it has.

    Args:
        address: Of a running cluster, or `auto`; empty starts a local one on the loopback interface.
        workers: Actors; 0 for as many as the CPUs or GPUs of each machine hold.
        gpus: GPUs per actor, also a fraction such as 0.5: two actors then share one.
        threads: Processor threads per actor, which is also how many CPUs Ray counts for it.
        load: Makes the AttemptLoop, on the actor.

    Raises:
        SettingsError: Ray is not installed; the cluster has no room for one actor.
        CampaignError: there is no cluster at the address.
    """

    name = "ray"

    def __init__(
        self,
        *,
        address: str = "",
        workers: int = 0,
        gpus: float = 0.0,
        threads: int = 0,
        load: Callable[[Settings], AttemptLoop] = AttemptLoop.from_settings,
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError:
            raise SettingsError(
                '--engine ray needs Ray, which is not installed; run: pip install "portrait-stylizer[ray]"'
            ) from None
        self._ray, self._load = ray, load
        threads = threads or cpu_threads()
        self._own = not ray.is_initialized()
        if self._own:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address:
                options["address"] = address
            else:  # a cluster of one machine that nobody else reaches
                options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": cpu_threads()}
                options["object_store_memory"] = 256 * 2**20
            try:
                ray.init(**options)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise CampaignError(f"no Ray cluster at {address or 'this machine'}: {error}") from None
        has = ray.cluster_resources()
        room = sum(workers_per_node(node["Resources"], gpus, threads) for node in ray.nodes() if node["Alive"])
        self.workers = workers or room
        if room < max(1, workers):
            what = f"{gpus:g} GPU(s)" if gpus else f"{threads} CPU(s)"
            raise SettingsError(
                f"the Ray cluster has {has.get('CPU', 0):g} CPU(s) and {has.get('GPU', 0):g} GPU(s): room for {room} "
                f"worker(s) of {what} each, and {max(1, workers)} are wanted; set threads in [settings], --workers or --gpus"
            )
        dead = ray.exceptions
        self._lost = (dead.RayActorError, dead.WorkerCrashedError, dead.OutOfMemoryError, dead.NodeDiedError)
        self._options = {"num_cpus": 0 if gpus else threads, "num_gpus": gpus, "max_restarts": 0}
        self._actors: list[Any] = []
        self._starting: dict[Any, tuple[Any, float]] = {}
        for _ in range(self.workers):
            self._start()

    def _start(self) -> None:
        """Ask for an actor; it is in `_actors` when it has answered."""
        actor: Any = self._ray.remote(_RayWorker).options(**self._options).remote(self._load)
        self._starting[actor.ready.remote()] = actor, time.monotonic() + START_SECONDS

    def _started(self, done: Sequence[Any]) -> list[Any]:
        """The actors that have answered, of the references that are done; those that never will are given up."""
        found = []
        for reference, (actor, deadline) in list(self._starting.items()):
            if reference in done:
                del self._starting[reference]
                try:
                    self._ray.get(reference)
                    found.append(actor)
                except self._lost as error:
                    log.warning("a worker could not be started: %s", _line(error))
            elif time.monotonic() > deadline:
                del self._starting[reference]
                self._ray.kill(actor)
                log.warning("a worker did not start within %.0f s and is given up", START_SECONDS)
        self._actors += found
        return found

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """By every actor, so that all have loaded the models; they must have the same ones."""
        while self._starting:
            self._started(self._ray.wait(list(self._starting), timeout=1.0)[0])
        if not self._actors:
            raise CampaignError("no Ray worker could be started; see ray status for what the cluster has free")
        try:
            found = self._ray.get([actor.describe.remote(settings, styles) for actor in self._actors])
        except self._lost as error:
            raise CampaignError(f"a Ray worker died while it loaded {settings.recipe}: {_line(error)}") from None
        if any(one.recipe != found[0].recipe for one in found):
            raise CampaignError(f"the workers have different weights or thresholds for recipe {settings.recipe}")
        if any(one.environment != found[0].environment for one in found):
            log.warning("the workers differ in libraries or processor: their pictures may differ by rounding")
        return found[0]

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]:
        ray = self._ray
        free, again = deque(self._actors), deque[tuple[Batch, int]]()
        running: dict[Any, tuple[Any, Batch, int]] = {}
        while True:
            while free:
                batch, deaths = again.popleft() if again else (next(batches, None), 0)
                if batch is None:
                    break
                actor = free.popleft()
                running[actor.work.remote(batch)] = actor, batch, deaths
            if not running and (free or not self._starting):
                break
            # short, so that Ctrl-C is heard
            done, _ = ray.wait([*running, *self._starting], num_returns=1, timeout=1.0)
            free.extend(self._started(done))
            for reference in running.keys() & set(done):
                actor, batch, deaths = running.pop(reference)
                try:
                    results = ray.get(reference)
                    free.append(actor)
                except self._lost as error:
                    log.warning("a worker died (%s); its %d jobs are made again", _line(error), len(batch.items))
                    self._actors.remove(actor)
                    self._start()
                    results = []
                    if deaths + 1 < MAX_WORKER_DEATHS:
                        again.append((batch, deaths + 1))
                    else:
                        why = f"{MAX_WORKER_DEATHS} workers died making it, the last one so: {_line(error)}"
                        results = [WorkResult(item=item, failure=why, fault="death of workers") for item in batch.items]
                yield from results
        if not free:
            log.warning("no Ray worker is left and none could be started; what is not made stays pending")

    def close(self) -> None:
        for actor in (*self._actors, *(actor for actor, _ in self._starting.values())):
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()


def workers_per_node(has: Mapping[str, float], gpus: float, threads: int) -> int:
    """How many actors one machine holds. An actor lies on one machine, and a part of a GPU on one GPU.

    Args:
        has: Resources of the machine, as `ray.nodes()` names them.
        gpus: Per actor; below 1 a share of one GPU, 0 for none.
        threads: CPUs per actor, where it has no GPU.
    """
    if not gpus:
        return int(has.get("CPU", 0) // threads)
    own = int(has.get("GPU", 0))
    return own * int(1 / gpus + 1e-9) if gpus < 1 else int(own // gpus)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
