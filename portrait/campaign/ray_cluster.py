"""Ray for a campaign: a running cluster, or one on this machine alone that nobody else can reach."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from portrait.errors import CampaignError, SettingsError, one_line


def import_ray(*, of_this_machine: bool) -> ModuleType:
    """Import Ray, so that a cluster that it starts stays on this machine and requires a token.

    Ray reads these settings when it is imported. On Linux it takes 127.0.0.1 for the machine's own address, and listens
    on every interface, unless clusters of several machines are switched off.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if of_this_machine and "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise SettingsError(
            '--engine ray needs Ray, which is not installed; run: pip install "portrait-stylizer[ray]"'
        ) from None
    return ray


@contextmanager
def connected(ray: ModuleType, address: str, cpus: int) -> Iterator[None]:
    """Connect to the cluster at an address; without an address, start one on this machine that ends with the block.

    A running cluster is joined with the mode and token that the environment names. One that is started here listens only on
    the loopback interface, requires a token that only this process and its workers know, and keeps its files readable for
    this user only.

    Raises:
        CampaignError: there is no such cluster, or none could be started in this way.
    """
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        _start(ray, f"no Ray cluster at {address}", address=address, **options)
        try:
            yield
        finally:
            ray.shutdown()
        return
    short = "/tmp" if os.name == "posix" else None  # noqa: S108 (a folder in it; the paths of sockets must be short)
    with tempfile.TemporaryDirectory(prefix="portrait-", dir=short, ignore_cleanup_errors=True) as folder:
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 256 * 2**20}
        options |= {"_node_ip_address": "127.0.0.1", "_temp_dir": f"{folder}/ray"}  # Ray opens its folder to everyone
        _start(ray, "Ray cannot be started on this machine", address="local", **options)
        try:
            _require_closed(ray)
            yield
        finally:
            ray.shutdown()


def _start(ray: ModuleType, complaint: str, **options: object) -> None:
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise CampaignError(f"{complaint}: {one_line(error)}") from None


def _require_closed(ray: ModuleType) -> None:
    """Check that Ray listens on the loopback interface and requires a token, which fails if it was imported too early."""
    places = [node["NodeManagerAddress"] for node in ray.nodes()]
    if os.environ.get("RAY_AUTH_MODE") != "token" or not all(ipaddress.ip_address(at).is_loopback for at in places):
        raise CampaignError(
            f"Ray was imported before this engine was created, and would listen at {', '.join(places)} for everybody; create the "
            "engine first, or start a cluster with ray.init and control who can reach it"
        )
