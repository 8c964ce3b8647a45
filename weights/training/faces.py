"""Stage 0: fetch the CC0 portraits that everything is trained on, or check the existing ones.

    python weights/training/faces.py --out FACES

180 portraits of people who do not exist, from the repository faker-js/assets-person-portrait (CC0 1.0) at
one commit; a file is only kept if it has the SHA-256 in `faces.sha256`. Files that are correct already are not
fetched again. FACES then holds female/*.jpg and male/*.jpg.
"""

from __future__ import annotations

import argparse
import hashlib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from portrait.files import write_bytes

COMMIT = "63aef57b5a839aebe3ad913ec7c76469aabbb6c5"
SOURCE = f"https://raw.githubusercontent.com/faker-js/assets-person-portrait/{COMMIT}"
PINS = Path(__file__).parent / "faces.sha256"
LARGEST = 4 * 2**20
"""Bytes; the portraits have less than 1 MiB."""


def pins() -> dict[str, str]:
    """Name, such as female/0.jpg -> SHA-256."""
    lines = (line.split() for line in PINS.read_text("utf-8").splitlines())
    return {name: digest for digest, name in lines}


def fetch(name: str, digest: str, out: Path, source: str) -> bool:
    """Fetch one portrait to OUT/NAME; False if it existed.

    Raises:
        SystemExit: the source does not answer, or answers with other bytes.
    """
    path = out / name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return False
    folder, file = name.split("/")
    address = f"{source}/{folder}/512/{file}"
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # the source, or a mirror of the caller's
            data = answer.read(LARGEST + 1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise SystemExit(f"cannot fetch {address}: {error}; run again, what is there is kept") from None
    actual = hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise SystemExit(f"{address} has SHA-256 {actual}, not {digest}; it was not kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return True


def fetch_all(out: Path, source: str = SOURCE, workers: int = 8) -> int:
    """All portraits; returns how many had to be fetched."""
    digests = pins()
    with ThreadPoolExecutor(workers) as pool:
        fetched = pool.map(lambda name: fetch(name, digests[name], out, source), digests)
        return sum(tqdm(fetched, total=len(digests), desc="portraits", unit="file"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", default=SOURCE, help="a mirror with the same folders")
    args = parser.parse_args()
    print(f"{fetch_all(args.out, args.source)} of {len(pins())} portraits fetched, all of them checked: {args.out}")


if __name__ == "__main__":
    main()
