"""Plots of what each knob of `mini` does: likeness and style against its value, one knob moved at a time.

    python eval/knobs.py      # reads portrait/recipes/mini.curves.json, writes weights/mini/knobs.png

The numbers are those of `portrait calibrate`: means over the people that it lists, with all other knobs at the middle of
the dial. Likeness is that by ArcFace, which conditions the pictures, and by dlib, which does not.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from portrait.files import write_bytes

ROOT = Path(__file__).parents[1]
KNOBS = {
    "controlnet_conditioning_scale": "structure held\n(controlnet_conditioning_scale)",
    "strength": "strength",
    "guidance_scale": "guidance_scale",
    "ip_adapter_scale": "ip_adapter_scale",
}
OUTPUTS = {"arcface": "likeness, ArcFace", "dlib": "likeness, dlib", "style_on_face": "style on the face"}


def draw(curves: dict) -> Figure:
    """A grid of plots: a row per output, a column per knob, a line per style."""
    figure = Figure(figsize=(11, 7.2), dpi=110, layout="constrained")
    grid = figure.subplots(len(OUTPUTS), len(KNOBS), sharex="col", sharey="row")
    colors = [colormaps["tab20"](n) for n in range(20)]
    for n, (style, entry) in enumerate(curves["styles"].items()):
        for column, knob in enumerate(KNOBS):
            measured = entry["knobs"].get(knob)
            for row, output in enumerate(OUTPUTS):
                axes = grid[row][column]
                if measured:
                    values = [mean[entry["outputs"].index(output)] for mean in measured["mean"]]
                    axes.plot(measured["at"], values, color=colors[n], marker="o", markersize=3, label=style)
                axes.grid(alpha=0.3)
                if column == 0:
                    axes.set_ylabel(OUTPUTS[output])
                if row == len(OUTPUTS) - 1:
                    axes.set_xlabel(KNOBS[knob])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=-(-len(labels) // 2), frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=ROOT / "portrait" / "recipes" / "mini.curves.json")
    parser.add_argument("--output", type=Path, default=ROOT / "weights" / "mini" / "knobs.png")
    args = parser.parse_args()
    buffer = io.BytesIO()
    draw(json.loads(args.curves.read_text("utf-8"))).savefig(buffer, format="png")
    print(write_bytes(args.output, buffer.getvalue()))


if __name__ == "__main__":
    main()
