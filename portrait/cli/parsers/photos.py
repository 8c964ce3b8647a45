"""`portrait faces` and `portrait compare`."""

from __future__ import annotations

from pathlib import Path

from portrait.cli.parsers.common import Commands, add_path, add_switch, add_upright_flag, add_value


def add(commands: Commands) -> None:
    """Add `faces` and `compare` to the command line."""
    faces = commands.add_parser(
        "faces",
        help="list the faces of a photo",
        description="List the faces of photos from left to right: index, box, score, size, what may reduce likeness, and which faces stylize refuses.",
        epilog="example:\n  portrait faces team.jpg --draw faces.png",
    )
    faces.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    add_path(faces, "--draw", "FILE", "write the photo with numbered boxes (one photo only); no file is overwritten")
    add_upright_flag(faces)
    add_switch(faces, "--commercial", "detect with YuNet, licensed for commercial use")
    add_switch(faces, "--json", "one JSON object per photo and line")
    faces.set_defaults(run="faces:show_faces")

    compare = commands.add_parser(
        "compare",
        help="check whether two pictures show the same person",
        description="Compare the faces of two pictures by the face recognizers that judge portraits. Two photos are judged by photo-to-photo "
        "thresholds; for a stylized picture give its --style, since photo thresholds do not apply to it.",
        epilog="examples:\n  portrait compare a.jpg b.jpg\n  portrait compare anna.jpg out/anna-oil-1.png --style oil",
    )
    compare.add_argument("a", type=Path, metavar="A", help="the reference photo")
    compare.add_argument("b", type=Path, metavar="B", help="the candidate")
    compare.add_argument("--style", help="B is stylized: use the calibrated thresholds of this style")
    compare.add_argument("--recipe", default="mini", help="the recipe that made B (default: mini)")
    compare.add_argument("--far", type=float, metavar="X", help="false accept rate, with --style (default: 0.01)")
    add_value(compare, "--face", "TEXT", "largest", "as in stylize (default: largest)")
    add_upright_flag(compare)
    add_switch(compare, "--commercial", "judge by SFace and dlib, licensed for commercial use")
    add_switch(compare, "--verbose", "show cosine similarities in addition to the number of strangers")
    add_switch(compare, "--json", "one JSON object")
    compare.set_defaults(run="faces:compare_pictures")
