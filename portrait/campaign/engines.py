"""Where the pictures of a campaign are made: in this process, or by Ray actors on many GPUs and machines."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from portrait.campaign.keys import Fingerprint
from portrait.campaign.ray_cluster import connected, import_ray
from portrait.campaign.worker import Batch, Worker, WorkResult
from portrait.errors import CampaignError, SettingsError, one_line
from portrait.images.decoder_process import DecoderProcess
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop_for
from portrait.paths import cpu_threads
from portrait.settings import Settings

log = logging.getLogger(__name__)

MAX_WORKER_DEATHS = 3
"""A batch under which so many workers died is given up: its jobs fail, and the run goes on."""
START_SECONDS = 300.0
"""A Ray worker that does not answer within so long is given up: its machine may never come back."""


class Engine(Protocol):
    """Makes batches. Results come in any order; `name` is for messages, `workers` for predictions."""

    name: str
    workers: int

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """Load a recipe and say what it is, with the thresholds of these styles."""

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]:
        """Make every batch; the next one is asked for when a worker is free."""

    def close(self) -> None:
        """Let go of the workers."""


class LocalEngine:
    """Makes everything in this process, one picture after the other; the arguments are those of `Worker`."""

    name = "local"
    workers = 1

    def __init__(
        self, load: Callable[[Settings], AttemptLoop] = load_loop_for, decoder: DecoderProcess | None = None
    ) -> None:
        self._worker = Worker(load, decoder)

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """See `Engine`."""
        return self._worker.describe(settings, styles)

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]:
        """See `Engine`."""
        for batch in batches:
            yield from self._worker.work(batch)

    def close(self) -> None:
        """See `Engine`."""
        self._worker.close()


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
        address: Of a running cluster, or `auto`; empty starts one that ends with the engine (`connected`), unless Ray runs here.
        workers: Actors; 0 for as many as the CPUs or GPUs of each machine hold.
        gpus: GPUs per actor, also a fraction such as 0.5: two actors then share one.
        threads: Processor threads per actor, which is also how many CPUs Ray counts for it.
        load: Makes the loop, on the actor.

    Raises:
        SettingsError: Ray is not installed; the cluster has no room for one actor.
        CampaignError: there is no cluster at the address; one of this machine could not be started, or not closed off.
    """

    name = "ray"

    def __init__(
        self,
        *,
        address: str = "",
        workers: int = 0,
        gpus: float = 0.0,
        threads: int = 0,
        load: Callable[[Settings], AttemptLoop] = load_loop_for,
    ) -> None:
        ray = import_ray(of_this_machine=not address)
        self._ray = ray
        self._load = load
        threads = threads or cpu_threads()
        self._connection = ExitStack()
        if not ray.is_initialized():
            self._connection.enter_context(connected(ray, address, cpu_threads()))
        try:
            self.workers = workers or self._room(gpus, threads)
            self._require_room(workers, gpus, threads)
        except SettingsError:
            self._connection.close()
            raise
        errors = self._ray.exceptions
        self._death = (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError)
        self._options = {"num_cpus": 0 if gpus else threads, "num_gpus": gpus, "max_restarts": 0}
        self._actors: list[Any] = []
        self._starting: dict[Any, tuple[Any, float]] = {}
        for _ in range(self.workers):
            self._start()

    def _room(self, gpus: float, threads: int) -> int:
        """How many actors the cluster holds."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(workers_per_node(resources, gpus, threads) for resources in nodes)

    def _require_room(self, workers: int, gpus: float, threads: int) -> None:
        room = self._room(gpus, threads)
        if room >= max(1, workers):
            return
        resources = self._ray.cluster_resources()
        need = f"{gpus:g} GPU(s)" if gpus else f"{threads} CPU(s)"
        raise SettingsError(
            f"the Ray cluster has {resources.get('CPU', 0):g} CPU(s) and {resources.get('GPU', 0):g} GPU(s): room for "
            f"{room} worker(s) of {need} each, and {max(1, workers)} are wanted; set threads in [settings], --workers or "
            "--gpus"
        )

    def _start(self) -> None:
        """Ask for an actor; it is in `_actors` when it has answered."""
        actor: Any = self._ray.remote(_RayWorker).options(**self._options).remote(self._load)
        self._starting[actor.ready.remote()] = actor, time.monotonic() + START_SECONDS

    def _answered(self, done: Sequence[Any]) -> list[Any]:
        """The actors that have answered, of the references that are done; those that never will are given up."""
        answered = []
        for reference, (actor, deadline) in list(self._starting.items()):
            if reference in done:
                del self._starting[reference]
                try:
                    self._ray.get(reference)
                    answered.append(actor)
                except self._death as error:
                    log.warning("a worker could not be started: %s", one_line(error, 200))
            elif time.monotonic() > deadline:
                del self._starting[reference]
                self._ray.kill(actor)
                log.warning("a worker did not start within %.0f s and is given up", START_SECONDS)
        self._actors += answered
        return answered

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """By every actor, so that all have loaded the models; they must have the same ones."""
        while self._starting:
            self._answered(self._ray.wait(list(self._starting), timeout=1.0)[0])
        if not self._actors:
            raise CampaignError("no Ray worker could be started; see ray status for what the cluster has free")
        try:
            fingerprints: list[Fingerprint] = self._ray.get(
                [actor.describe.remote(settings, styles) for actor in self._actors]
            )
        except self._death as error:
            raise CampaignError(
                f"a Ray worker died while it loaded {settings.recipe}: {one_line(error, 200)}"
            ) from None
        first = fingerprints[0]
        if any(other.recipe() != first.recipe() for other in fingerprints):
            raise CampaignError(f"the workers have different weights or thresholds for recipe {settings.recipe}")
        if any(other.environment != first.environment for other in fingerprints):
            log.warning("the workers differ in libraries or processor: their pictures may differ by rounding")
        return first

    def work(self, batches: Iterator[Batch]) -> Iterator[WorkResult]:
        """See `Engine`. A batch of which `MAX_WORKER_DEATHS` workers died is given up."""
        free = deque(self._actors)
        again: deque[tuple[Batch, int]] = deque()
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
            done, _ = self._ray.wait([*running, *self._starting], num_returns=1, timeout=1.0)
            free.extend(self._answered(done))
            for reference in running.keys() & set(done):
                actor, batch, deaths = running.pop(reference)
                try:
                    yield from self._ray.get(reference)
                    free.append(actor)
                except self._death as error:
                    self._replace(actor, batch, error)
                    if deaths + 1 >= MAX_WORKER_DEATHS:
                        yield from _given_up(batch, error)
                    else:
                        again.append((batch, deaths + 1))
        if not free:
            log.warning("no Ray worker is left and none could be started; what is not made stays pending")

    def _replace(self, actor: object, batch: Batch, error: Exception) -> None:
        """Start another actor in place of one that died."""
        log.warning("a worker died (%s); its %d jobs will be run again", one_line(error, 200), len(batch.items))
        self._actors.remove(actor)
        self._start()

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        for actor in (*self._actors, *(actor for actor, _ in self._starting.values())):
            self._ray.kill(actor)
        self._connection.close()


def _given_up(batch: Batch, error: Exception) -> list[WorkResult]:
    why = f"{MAX_WORKER_DEATHS} workers died making it, the last one so: {one_line(error, 200)}"
    return [WorkResult(item=item, failure=why, fault="death of workers") for item in batch.items]


def workers_per_node(resources: Mapping[str, float], gpus: float, threads: int) -> int:
    """How many actors one machine holds. An actor lies on one machine, and a part of a GPU on one GPU.

    Args:
        resources: Of the machine, as `ray.nodes()` names them.
        gpus: Per actor; below 1 a share of one GPU, 0 for none.
        threads: CPUs per actor, where it has no GPU.
    """
    if not gpus:
        return int(resources.get("CPU", 0) // threads)
    gpu_count = int(resources.get("GPU", 0))
    return gpu_count * int(1 / gpus + 1e-9) if gpus < 1 else int(gpu_count // gpus)
