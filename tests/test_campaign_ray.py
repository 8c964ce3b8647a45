"""The same campaign on a real local Ray: equal to local, also when workers are killed. Needs `portrait-stylizer[ray]`."""

from __future__ import annotations

import ipaddress
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from portrait.campaign.engines import Engine, RayEngine, workers_per_node
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.ray_cluster import connected, import_ray
from portrait.campaign.run import Progress, run_campaign
from portrait.errors import CampaignError, SettingsError
from portrait.images import Photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.types import Subject
from portrait.settings import Settings
from tests.campaigns import Load, local, pictures, write_campaign


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r'pip install "portrait-stylizer\[ray\]"'):
        RayEngine()


@pytest.mark.parametrize(
    ("has", "gpus", "room"),
    [
        ({"GPU": 2.0, "CPU": 8.0}, 0.6, 2),  # 2 / 0.6 is 3, but two do not share a GPU
        ({"GPU": 2.0}, 0.5, 4),
        ({"GPU": 2.0}, 0.1, 20),
        ({"GPU": 3.0}, 1, 3),
        ({"GPU": 3.0}, 2, 1),
        ({"CPU": 8.0}, 0.5, 0),
        ({"CPU": 7.0}, 0, 2),
    ],
)
def test_as_many_as_fit_is_what_each_machine_can_hold(has: dict[str, float], gpus: float, room: int) -> None:
    assert workers_per_node(has, gpus, threads=3) == room


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray as a campaign imports it; what that sets for this process is taken back."""
    if find_spec("ray") is None:
        pytest.skip("needs portrait-stylizer[ray]")
    before = dict(os.environ)
    yield import_ray(of_this_machine=True)
    os.environ.clear()
    os.environ |= before


def test_the_room_of_a_cluster_is_the_sum_over_its_machines(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three machines of 2 CPUs hold no worker of 3, whatever they come to together; a dead one counts for nothing."""
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}] * 3 + [{"Alive": False, "Resources": {"CPU": 64.0}}]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6.0})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(SettingsError, match=r"room for 0 worker\(s\) of 3 CPU"):
        RayEngine(threads=3)


@pytest.fixture(scope="module")
def cluster(ray: Any) -> Iterator[None]:
    """One Ray for all tests of this file, started as a campaign starts its own; engines find it running and leave it so."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with connected(ray, "", cpus=2):
        yield


def test_a_cluster_of_our_own_listens_on_the_loopback_interface_alone(cluster: None) -> None:
    processes = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    listening = [
        ipaddress.ip_address(at.laddr.ip)
        for process in processes
        for at in process.net_connections("tcp")
        if at.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert [str(ip) for ip in listening if not (getattr(ip, "ipv4_mapped", None) or ip).is_loopback] == []


@pytest.mark.parametrize("token", ["", "of-somebody-else"])
def test_a_client_without_the_token_is_refused(cluster: None, ray: Any, tmp_path: Path, token: str) -> None:
    code = "import sys, ray._raylet as ray; print(ray.GcsClient(address=sys.argv[1]).internal_kv_keys(b'', b'fun'))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(tmp_path)
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    address = ray.get_runtime_context().gcs_address
    client = subprocess.run(
        [sys.executable, "-c", code, address],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert client.returncode == 1
    assert client.stdout == ""
    assert "uthentication" in client.stderr


def test_a_ray_that_everybody_would_reach_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where a program imported Ray first."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    ended: list[bool] = []
    open_to_all = SimpleNamespace(
        init=lambda **options: None,
        nodes=lambda: [{"NodeManagerAddress": "192.0.2.2"}],
        shutdown=lambda: ended.append(True),
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    with (
        pytest.raises(CampaignError, match=r"would listen at 192.0.2.2 for everybody"),
        connected(cast(ModuleType, open_to_all), "", 1),
    ):
        pass
    assert ended == [True]


def test_only_this_user_reads_the_files_of_our_own_cluster(cluster: None, ray: Any) -> None:
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    assert session.is_dir()
    assert stat.S_IMODE(session.parents[1].stat().st_mode) == 0o700


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_campaign(tmp_path, people=8, styles=("oil", "comic"))


def test_ray_makes_the_pictures_that_local_makes(cluster: None, plan: Path, tmp_path: Path) -> None:
    whole = run_campaign(read_plan(plan), tmp_path / "local", local())
    engines: list[RayEngine] = []

    def engine(threads: int) -> Engine:
        engines.append(RayEngine(threads=threads, load=Load(0.01)))
        return engines[0]

    counts = run_campaign(read_plan(plan), tmp_path / "ray", engine)
    assert engines[0].workers == 2
    assert (counts.accepted, counts.rejected, counts.attempts) == (whole.accepted, whole.rejected, whole.attempts)
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "local")
    with Ledger.open(tmp_path / "ray") as a, Ledger.open(tmp_path / "local") as b:
        assert [(j.key, j.state) for j in a.jobs()] == [(j.key, j.state) for j in b.jobs()]


def test_the_jobs_of_a_dead_worker_are_made_again_and_are_the_same(cluster: None, plan: Path, tmp_path: Path) -> None:
    run_campaign(read_plan(plan), tmp_path / "local", local())
    load = Load(0.03, die_once=str(tmp_path / "died"))  # ends its own process in the middle of a picture
    counts = run_campaign(read_plan(plan), tmp_path / "ray", lambda threads: RayEngine(threads=threads, load=load))
    assert (tmp_path / "died").exists()
    assert counts.failed == counts.pending == 0
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "local")


def killer(engines: list[RayEngine]) -> Callable[[Progress], None]:
    """For `on_progress`: the process of the first worker is killed when two pictures are written."""
    pids: list[int] = []

    def progress(now: Progress) -> None:
        import ray

        if now.made == 0:
            pids.append(ray.get(engines[0]._actors[0].__ray_call__.remote(lambda self: os.getpid())))
        if now.made == 2:
            os.kill(pids.pop(), signal.SIGKILL)

    return progress


def test_a_worker_killed_from_outside_costs_nothing(cluster: None, plan: Path, tmp_path: Path) -> None:
    run_campaign(read_plan(plan), tmp_path / "local", local())

    def engine(threads: int) -> Engine:
        engines.append(RayEngine(threads=threads, load=Load(0.05)))
        return engines[0]

    engines: list[RayEngine] = []
    counts = run_campaign(read_plan(plan), tmp_path / "ray", engine, on_progress=killer(engines))
    assert counts.failed == counts.pending == 0
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "local")


def test_a_job_that_kills_every_worker_fails_and_the_run_continues(cluster: None, plan: Path, tmp_path: Path) -> None:
    class Poison(Load):
        def __call__(self, settings: Settings) -> AttemptLoop:
            loop = super().__call__(settings)
            subjects = loop.subjects

            def fatal(
                photo: Photo, face: str = "auto", references: Sequence[Photo] = (), *, upright: str = "auto"
            ) -> list[Subject]:
                if photo.path.stem == "p03":
                    os._exit(1)
                return subjects(photo, face, references, upright=upright)

            loop.subjects = fatal  # type: ignore[method-assign,assignment]
            return loop

    counts = run_campaign(
        read_plan(plan),
        tmp_path / "ray",
        lambda threads: RayEngine(threads=threads, load=Poison()),  # type: ignore[arg-type]
    )
    assert counts.failed == 2
    assert counts.pending == 0
    with Ledger.open(tmp_path / "ray") as ledger:
        (job, _) = list(ledger.jobs("failed"))
        assert job.picture.subject == "p03"
        assert "3 workers died making it" in job.reasons[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_cannot_be_replaced_hangs_nothing(
    cluster: None,
    plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    """Its machine is gone, and the cluster has no room: the other worker makes the rest; without one it stays pending."""

    def engine(threads: int) -> Engine:
        engines.append(RayEngine(threads=threads, workers=workers, load=Load(0.05)))
        engines[0]._options["num_cpus"] = 64  # for every one from now on
        monkeypatch.setattr("portrait.campaign.engines.START_SECONDS", 3.0)
        return engines[0]

    engines: list[RayEngine] = []
    counts = run_campaign(read_plan(plan), tmp_path / "ray", engine, on_progress=killer(engines))
    assert counts.failed == 0
    assert (counts.pending == 0) == (workers == 2)
    if workers == 1:
        assert counts.done > 0
        assert "no Ray worker is left" in caplog.text
        run_campaign(read_plan(plan), tmp_path / "ray", local())  # and another day
    run_campaign(read_plan(plan), tmp_path / "local", local())
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "local")


def test_a_cluster_that_starts_nobody_says_so(
    cluster: None, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def engine(threads: int) -> Engine:
        return RayEngine(threads=threads, workers=1, load=Load())

    busy = RayEngine(threads=2, workers=1, load=Load())  # holds both processors
    try:
        busy.describe(read_plan(plan).settings, ("oil",))
        monkeypatch.setattr("portrait.campaign.engines.START_SECONDS", 1.0)
        with pytest.raises(CampaignError, match="no Ray worker could be started; see ray status"):
            run_campaign(read_plan(plan), tmp_path / "ray", engine)
    finally:
        busy.close()


def test_a_cluster_without_room_says_what_it_has(cluster: None) -> None:
    with pytest.raises(SettingsError, match=r"has 2 CPU\(s\) and 0 GPU\(s\): room for 0 worker\(s\) of 64 CPU"):
        RayEngine(threads=64)
    with pytest.raises(SettingsError, match=r"room for 0 worker\(s\) of 0.5 GPU"):
        RayEngine(threads=1, gpus=0.5)
