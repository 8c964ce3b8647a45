"""Allow only one writing process in the folder of a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from portrait.errors import CampaignError
from portrait.paths import below

FILE = "lock.sqlite"


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock the run's folder for one writing process; the system releases it when the process ends, however it ends.

    Raises:
        CampaignError: another process holds the lock, there is no such folder, or it cannot be written to.
    """
    if not folder.is_dir():
        raise CampaignError(f"{folder} is not a campaign run: there is no such folder")
    with ExitStack() as stack:
        try:
            lock = sqlite3.connect(below(folder, FILE), timeout=0, isolation_level=None)
            stack.callback(lock.close)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise CampaignError(f"another process is working on {folder}; wait for it, or end it") from None
            raise CampaignError(f"cannot write to {folder}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise CampaignError(f"{folder / FILE} is no lock of a run ({error}); remove it") from None
        yield
