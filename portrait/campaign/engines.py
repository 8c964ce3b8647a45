"""Engines that make a campaign's pictures: in this process, or on Ray actors across GPUs and machines."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from portrait.campaign.keys import Fingerprint
from portrait.campaign.ray_cluster import connected, import_ray
from portrait.campaign.worker import Batch, Drawn, Worker, WorkResult
from portrait.errors import CampaignError, SettingsError, one_line
from portrait.images.decoder_process import DecoderProcess
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.paths import cpu_threads
from portrait.settings import Settings

log = logging.getLogger(__name__)

MAX_WORKER_DEATHS = 3
"""After this many workers died on a batch, it is given up: its jobs fail, and the run continues."""
START_SECONDS = 300.0
"""Seconds after which a Ray worker that does not answer is given up: its machine may never come back."""


class Engine(Protocol):
    """Makes batches. Results come in any order; `name` is for messages, `workers` for estimates."""

    name: str
    workers: int

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """Load a recipe and return its fingerprint, with the thresholds of these styles."""

    def work(self, batches: Iterator[Batch]) -> Iterator[Drawn | WorkResult]:
        """Make all batches; the next one is requested when a worker is free."""

    def close(self) -> None:
        """Release the workers."""


class LocalEngine:
    """Makes everything in this process, one picture after the other; the arguments are those of `Worker`."""

    name = "local"
    workers = 1

    def __init__(
        self, load: Callable[[Settings], AttemptLoop] = load_loop, decoder: DecoderProcess | None = None
    ) -> None:
        self._worker = Worker(load, decoder)

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        return self._worker.describe(settings, styles)

    def work(self, batches: Iterator[Batch]) -> Iterator[Drawn | WorkResult]:
        for batch in batches:
            yield from self._worker.work(batch)

    def close(self) -> None:
        self._worker.close()


class _RayWorker:
    """A worker as a Ray actor; results of a batch are one list, as half a batch of a dead actor would be useless."""

    def __init__(self, load: Callable[[Settings], AttemptLoop]) -> None:
        self._worker = Worker(load)

    def ready(self) -> None:
        """Returns as soon as the actor runs."""

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        return self._worker.describe(settings, styles)

    def work(self, batch: Batch) -> list[WorkResult]:
        return [result.result() if isinstance(result, Drawn) else result for result in self._worker.work(batch)]


class RayEngine:
    """Makes batches on Ray actors, each of which holds the models.

    Pictures come back as bytes, so machines need no shared disk; only the driver writes. When an actor dies, with its
    machine or for lack of memory, another is started and the batch is made again; the pictures are the same, since their
    seeds come from their keys. If none can be started, the others continue; without any, the run ends with what it has.

    Args:
        address: Address of a running cluster, or `auto`; empty starts one that ends with the engine (`connected`),
            unless Ray is already running here.
        workers: Number of actors; 0 for as many as fit on the CPUs or GPUs of each machine.
        gpus: GPUs per actor, also a fraction such as 0.5: two actors then share one.
        threads: CPU threads per actor, which is also the number of CPUs that Ray reserves for it.
        load: Loads the loop, on the actor.

    Raises:
        SettingsError: Ray is not installed; the cluster has no room for one actor.
        CampaignError: there is no cluster at the address, or a local one could not be started or closed off.
    """

    name = "ray"

    def __init__(
        self,
        *,
        address: str = "",
        workers: int = 0,
        gpus: float = 0.0,
        threads: int = 0,
        load: Callable[[Settings], AttemptLoop] = load_loop,
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
            f"{room} worker(s) of {need} each, but {max(1, workers)} are requested; set threads in [settings], --workers or "
            "--gpus"
        )

    def _start(self) -> None:
        """Request an actor; it is added to `_actors` once it answers."""
        actor: Any = self._ray.remote(_RayWorker).options(**self._options).remote(self._load)
        self._starting[actor.ready.remote()] = actor, time.monotonic() + START_SECONDS

    def _answered(self, done: Sequence[Any]) -> list[Any]:
        """Add the actors that have answered, given the finished references; give up those that never will."""
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
                log.warning("a worker did not start within %.0f s and was given up", START_SECONDS)
        self._actors += answered
        return answered

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """Ask every actor, so that all load the models; these must be the same everywhere."""
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
        """See `Engine`; a batch of which `MAX_WORKER_DEATHS` workers died is given up."""
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
            # short, so that Ctrl-C has an effect
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
            log.warning("no Ray worker is left and none could be started; unfinished jobs stay pending")

    def _replace(self, actor: object, batch: Batch, error: Exception) -> None:
        """Start another actor in place of one that died."""
        log.warning("a worker died (%s); its %d jobs will be run again", one_line(error, 200), len(batch.items))
        self._actors.remove(actor)
        self._start()

    def close(self) -> None:
        """Stop the actors, and Ray if it was started here."""
        for actor in (*self._actors, *(actor for actor, _ in self._starting.values())):
            self._ray.kill(actor)
        self._connection.close()


def _given_up(batch: Batch, error: Exception) -> list[WorkResult]:
    why = f"{MAX_WORKER_DEATHS} workers died making it, the last one so: {one_line(error, 200)}"
    return [WorkResult(item=item, failure=why, fault="death of workers") for item in batch.items]


def workers_per_node(resources: Mapping[str, float], gpus: float, threads: int) -> int:
    """How many actors fit on one machine. An actor must be on one machine, and a share of a GPU on one GPU.

    Args:
        resources: The machine's resources, as named by `ray.nodes()`.
        gpus: GPUs per actor; below 1 a share of one GPU, 0 for none.
        threads: CPUs per actor without a GPU.
    """
    if not gpus:
        return int(resources.get("CPU", 0) // threads)
    gpu_count = int(resources.get("GPU", 0))
    return gpu_count * int(1 / gpus + 1e-9) if gpus < 1 else int(gpu_count // gpus)
