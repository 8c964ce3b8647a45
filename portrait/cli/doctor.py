"""`portrait doctor`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from portrait.cli.console import Commands, Console, say
from portrait.errors import SettingsError

if TYPE_CHECKING:
    from portrait.calibrate.probe import Probe
    from portrait.images import Photo
    from portrait.loop.attempt_loop import AttemptLoop
    from portrait.loop.types import Subject


def add(commands: Commands) -> None:
    """Add `doctor` to the command line."""
    doctor = commands.add_parser(
        "doctor",
        help="check what this machine can run, and what is missing",
        description="Check Python, libraries, device, memory, disk, face models and weights; say for each recipe "
        "whether it can run here, how much memory it needs, and what to do if not. The exit code is 1 if none can.\n\n"
        "With --recipe: test whether its identity input works. One face is drawn with it on, off, and with another person's\n"
        "in its place, from the same seeds and with the photo hidden as far as possible; the judges say how much the\n"
        "pictures look like the person. The exit code is 1 if no pixel changes.",
        epilog="examples:\n  portrait doctor\n  portrait doctor --device cuda --json\n"
        "  portrait doctor --recipe mini\n  portrait doctor --recipe klein4b --photo anna.jpg --other bo.jpg",
    )
    doctor.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="as in stylize (default: auto)"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    doctor.add_argument(
        "--recipe", metavar="TEXT", help="draw one face with this recipe's identity on, off and swapped"
    )
    probe = doctor.add_argument_group("with --recipe")
    probe.add_argument("--photo", type=Path, metavar="FILE", help="the person to draw (default: the demo photo)")
    probe.add_argument(
        "--other",
        type=Path,
        metavar="FILE",
        help="the person who replaces them (default: a face in InsightFace's test photo)",
    )
    probe.add_argument("--style", metavar="TEXT", help="a style of the recipe (default: its first)")
    probe.add_argument(
        "--pictures", type=int, default=3, metavar="N", help="pictures of each kind, 2 or more (default: 3)"
    )
    probe.add_argument("--commercial", action="store_true", help="judge by SFace and dlib, as in stylize")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    if args.recipe:
        return _probe(args)
    from portrait.cli.diagnosis import diagnose, in_lines

    machine = diagnose(args.device)
    say(json.dumps(asdict(machine)) if args.json else "\n".join(in_lines(machine)))
    return 0 if any(recipe.runs for recipe in machine.recipes.values()) else 1


def _probe(args: argparse.Namespace) -> int:
    from portrait.calibrate.probe import probe_identity
    from portrait.images import read_photo
    from portrait.loop.load import load_loop
    from portrait.recipes.load import load_recipe

    if args.pictures < 2:
        raise SettingsError(
            f"pictures {args.pictures}: use 2 or more of each kind, to tell effects from those of the seed"
        )
    recipe = load_recipe(args.recipe)
    if "ip_adapter_scale" in recipe.lacks:
        raise SettingsError(f"recipe {recipe.name} has no identity input to switch off: only the photo tells who it is")
    style = args.style or recipe.styles[0]
    recipe.style(style)
    loop = load_loop(args.recipe, device=args.device, commercial=args.commercial)
    person = loop.subjects(_demo_photo() if args.photo is None else read_photo(args.photo))[0]
    other = _other_face(loop) if args.other is None else loop.subjects(read_photo(args.other))[0]
    with Console(quiet=args.json).status("drawing"):
        probe = probe_identity(loop, person, other.identity, style, range(1, args.pictures + 1))
    if args.json:
        say(json.dumps(asdict(probe) | {"verdict": probe.verdict}))
    else:
        say("\n".join(_in_lines(probe)))
    return 1 if probe.verdict == "nothing" else 0


def _demo_photo() -> Photo:
    from skimage.data import astronaut

    from portrait.images import as_photo

    return as_photo(astronaut())  # type: ignore[no-untyped-call,unused-ignore]


def _other_face(loop: AttemptLoop) -> Subject:
    """The leftmost person of InsightFace's group photo."""
    from portrait.images import as_photo

    try:
        from insightface.data import get_image
    except ImportError:
        raise SettingsError(
            "the other face comes with insightface; name a photo of somebody else with --other"
        ) from None
    return loop.subjects(as_photo(get_image("t1")[:, :, ::-1].copy()), "0")[0]


def _in_lines(found: Probe) -> list[str]:
    judges = list(found.to_other)
    lines = [
        f"recipe {found.recipe}, style {found.style}, {found.pictures} pictures of each kind from the same seeds",
        f"{'identity input':28}" + "".join(f"{judge:>10}" for judge in judges),
    ]
    titles = {"on": "on", "off": "off", "swapped": "another person's"}
    rows = [(titles[kind], found.likeness[kind]) for kind in titles]
    rows.append(("another person's, to them", found.to_other))
    lines += [f"{title:28}" + "".join(f"{row[judge]:>10.3f}" for judge in judges) for title, row in rows]
    lines.append(f"switching it changes a pixel by {found.moved:.2f} of 255 levels on average")
    for name, rises in (("off", found.over_off), ("another person's", found.over_swapped)):
        text = ", ".join(f"{judge} {rise.mean:+.3f} (standard error {rise.error:.3f})" for judge, rise in rises.items())
        lines.append(f"likeness to the person, on less {name}: {text}")
    return [*lines, _WORDS[found.verdict]]


_WORDS = {
    "works": "The identity input works: with it, every judge sees more of the person.",
    "unclear": "Unclear: pictures change, but not every judge sees more of the person than seeds alone explain.",
    "nothing": "The identity input does nothing: no pixel changes. Is its file the one that the recipe needs?",
}
