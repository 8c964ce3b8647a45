"""The whole training in one command, within a budget: data, all stages, export, and a sheet.

    python weights/training/all.py --data FACES --mattes MATTES --teachers TEACHERS --out WORK --minutes 600

Runs on the CPU, or on CUDA where there is a GPU. The budget is shared out as `SHARES` says; a stage that was stopped
goes on where it was when the same command is given again with --resume.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHARES = {"dataset": 0.10, "autoencoder": 0.15, "denoiser": 0.55, "decoder": 0.12, "adapter": 0.08}
"""The share of the minutes that each stage gets, in the order in which they run."""


def stage_command(stage: str, args: argparse.Namespace) -> list[str]:
    """The command of one stage, with its share of the minutes."""
    minutes = args.minutes * SHARES[stage]
    command = [sys.executable, str(HERE / f"{stage}.py"), "--out", str(args.out), "--minutes", f"{minutes:.3f}"]
    if stage == "dataset":
        return [
            *command,
            *("--data", str(args.data)),
            *("--mattes", str(args.mattes)),
            *("--teachers", str(args.teachers)),
        ]
    if args.resume and (args.out / f"{stage}.checkpoint").exists():
        command.append("--resume")
    return command


def is_finished(stage: str, out: Path) -> bool:
    return (out / f"{stage}.finished").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg")
    parser.add_argument("--mattes", type=Path, required=True, help="folder that matte_teacher.py wrote")
    parser.add_argument("--teachers", type=Path, required=True, help="folder that teachers.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument("--to", type=Path, help="where the trained chain goes (default: OUT/mini)")
    parser.add_argument("--minutes", type=float, required=True, help="wall time of everything but the export")
    parser.add_argument("--resume", action="store_true", help="skip finished stages, go on with a stopped one")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for stage in SHARES:
        if args.resume and is_finished(stage, args.out):
            print(f"{stage}: finished before", flush=True)
            continue
        print(f"{stage}: {args.minutes * SHARES[stage]:.1f} minutes", flush=True)
        subprocess.run(stage_command(stage, args), check=True)
        (args.out / f"{stage}.finished").touch()
    to = args.to or args.out / "mini"
    subprocess.run([sys.executable, str(HERE / "export.py"), "--out", str(args.out), "--to", str(to)], check=True)
    subprocess.run([sys.executable, str(HERE / "sheet.py"), "--out", str(args.out)], check=True)


if __name__ == "__main__":
    main()
