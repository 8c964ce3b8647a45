"""`portrait inspect`."""

from __future__ import annotations

import argparse
import json

from portrait.cli.terminal import printable, say
from portrait.files import read_bytes
from portrait.provenance.credentials import Credentials
from portrait.provenance.inspect import SOURCES, Inspection, inspect_picture


def show_inspection(args: argparse.Namespace) -> int:
    """`portrait inspect`."""
    inspection = inspect_picture(args.picture, anchors=read_bytes(args.trust) if args.trust else b"")
    if args.json:
        say(json.dumps(inspection.as_json()))
    else:
        _print(inspection)
    return 1 if inspection.credentials is not None and inspection.credentials.state == "invalid" else 0


def _print(inspection: Inspection) -> None:
    say(f"{inspection.path}: {inspection.format}, {inspection.size[0]} x {inspection.size[1]} pixels")
    for code in inspection.source_types:
        say(f"It says that it is {SOURCES.get(code, code)} ({code}).")
    if not inspection.source_types:
        say("It does not say how it was made; that proves nothing.")
    _print_entries("XMP", inspection.xmp)
    if inspection.parameters:
        say("Parameters:")
        say("\n".join(f"  {line}" for line in inspection.parameters.splitlines()))
    _print_entries("Texts", {name: text[:500] for name, text in inspection.texts.items()})
    if inspection.credentials is not None:
        _print_credentials(inspection.credentials)
    for what in inspection.unread:
        say(printable(f"Not read: {what}"))


def _print_entries(title: str, entries: dict[str, str]) -> None:
    if entries:
        say(f"{title}:")
    for name, value in entries.items():
        say(printable(f"  {name}: {value}"))


_STATES = {
    "trusted": "verified; the signer's certificate was issued by one that you trust",
    "intact": "unchanged since it was signed, but nobody vouches for the signer (see --trust)",
    "invalid": "INVALID",
}


def _print_credentials(credentials: Credentials) -> None:
    say(f"Content Credentials: {_STATES[credentials.state]}")
    if credentials.signer:
        say(printable(f"  signed by: {credentials.signer}"))
    for failure in credentials.failures:
        say(printable(f"  {failure}"))
    for action in credentials.actions:
        say(printable(f"  action: {action.action} {action.digital_source_type}"))
    for ingredient in credentials.stated.ingredients:
        say(printable(f"  made from: {ingredient.title} {ingredient.instance_id}"))
    if making := credentials.making:
        say(printable(f"  made by: recipe {making.recipe.name} sha256:{making.recipe.hash}"))
        say(f"  with: {len(making.weights)} files of weights, each by its SHA-256 (--json lists them)")
