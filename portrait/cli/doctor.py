"""`portrait doctor`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from portrait.calibrate.probe import Probe, probe_identity
from portrait.cli.console import Console
from portrait.cli.diagnosis import diagnose, in_lines
from portrait.cli.terminal import say
from portrait.errors import SettingsError
from portrait.images import Photo, as_photo, read_photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.types import Subject
from portrait.recipes.load import load_recipe
from portrait.settings import Settings


def check_machine(args: argparse.Namespace) -> int:
    """`portrait doctor`."""
    if args.recipe:
        return _probe(args)
    machine = diagnose(args.device)
    say(json.dumps(asdict(machine)) if args.json else "\n".join(in_lines(machine)))
    return 0 if any(recipe.runs for recipe in machine.recipes.values()) else 1


def _probe(args: argparse.Namespace) -> int:
    if args.pictures < 2:
        raise SettingsError(
            f"pictures {args.pictures}: use 2 or more of each kind, to tell effects from those of the seed"
        )
    recipe = load_recipe(args.recipe)
    if "ip_adapter_scale" in recipe.lacks:
        raise SettingsError(f"recipe {recipe.name} has no identity input to switch off: only the photo tells who it is")
    style = args.style or recipe.styles[0]
    recipe.style(style)
    loop = load_loop(Settings(recipe=args.recipe, device=args.device, commercial=args.commercial))
    person = loop.subjects(_demo_photo() if args.photo is None else read_photo(args.photo))[0]
    other = _other_face(loop) if args.other is None else loop.subjects(read_photo(args.other))[0]
    with Console(quiet=args.json).status("drawing"):
        probe = probe_identity(loop, person, other.identity, style, range(1, args.pictures + 1))
    if args.json:
        say(json.dumps(asdict(probe) | {"verdict": probe.verdict}))
    else:
        say("\n".join(_probe_lines(probe)))
    return 1 if probe.verdict == "nothing" else 0


def _demo_photo() -> Photo:
    from skimage.data import astronaut

    return as_photo(astronaut())  # type: ignore[no-untyped-call,unused-ignore]


def _other_face(loop: AttemptLoop) -> Subject:
    """The leftmost person of InsightFace's group photo."""
    try:
        from insightface.data import get_image
    except ImportError:
        raise SettingsError(
            "the other face comes with insightface; name a photo of somebody else with --other"
        ) from None
    return loop.subjects(as_photo(get_image("t1")[:, :, ::-1].copy()), "0")[0]


def _probe_lines(probe: Probe) -> list[str]:
    judges = list(probe.to_other)
    lines = [
        f"recipe {probe.recipe}, style {probe.style}, {probe.pictures} pictures of each kind from the same seeds",
        f"{'identity input':28}" + "".join(f"{judge:>10}" for judge in judges),
    ]
    titles = {"on": "on", "off": "off", "swapped": "another person's"}
    rows = [(title, probe.likeness[kind]) for kind, title in titles.items()]
    rows.append(("another person's, to them", probe.to_other))
    lines += [f"{title:28}" + "".join(f"{row[judge]:>10.3f}" for judge in judges) for title, row in rows]
    lines.append(f"switching it changes a pixel by {probe.moved:.2f} of 255 levels on average")
    for name, rises in (("off", probe.over_off), ("another person's", probe.over_swapped)):
        text = ", ".join(f"{judge} {rise.mean:+.3f} (standard error {rise.error:.3f})" for judge, rise in rises.items())
        lines.append(f"likeness to the person, on less {name}: {text}")
    return [*lines, _WORDS[probe.verdict]]


_WORDS = {
    "works": "The identity input works: with it, every judge sees more of the person.",
    "unclear": "Unclear: pictures change, but not every judge sees more of the person than seeds alone explain.",
    "nothing": "The identity input does nothing: no pixel changes. Is its file the one that the recipe needs?",
}
