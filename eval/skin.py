"""Is the order of skin tones preserved? Lightness of the face in photo and picture, per style.

    python eval/held_out.py --data FACES     # first: writes eval/held_out.json, with the lightness of every face
    python eval/skin.py                      # the table, as Markdown

Spearman's rank correlation over people between the lightness of the face in the photo and in the delivered portrait, with an
interval that resamples people; and by how much, in units of CIE L (0 to 100), the faces of each skin tone in
`held_out_groups.csv` became lighter or darker. The order is only required of styles that keep local color; a woodcut or a
screen print has its own inks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from groups import TONES, labels
from scipy.stats import rankdata

HERE = Path(__file__).parent
LOCAL_COLOR = ("watercolor", "oil", "comic", "lowpoly", "pastel", "cinematic")
"""Styles in which faces keep their color."""
ROUNDS = 1000


def order(photo: np.ndarray, picture: np.ndarray) -> tuple[float, float, float]:
    """The rank correlation of N >= 3 people's lightness, (N,) each, and its 95 % interval."""
    draws = np.random.default_rng(0).integers(len(photo), size=(ROUNDS, len(photo)))
    value = _rank_correlation(photo[None], picture[None])[0]
    low, high = np.nanquantile(_rank_correlation(photo[draws], picture[draws]), [0.025, 0.975])
    return float(value), float(low), float(high)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each pair of (R, N) rows; NaN for rows with a single value."""
    x, y = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1)))


def table(rows: list[dict[str, Any]], read: dict[str, dict[str, str]]) -> str:
    """The Markdown table.

    Args:
        rows: One per person and style, as `eval/held_out.py` writes them.
        read: Person -> labels.
    """
    lines = ["| style | keeps local color | rank correlation | " + " | ".join(f"{t} skin" for t in TONES) + " |"]
    lines.append("|---" * (3 + len(TONES)) + "|")
    for style in dict.fromkeys(row["style"] for row in rows):
        mine = [row for row in rows if row["style"] == style]
        photo, picture = np.array([row["lightness"] for row in mine]).T
        tone = np.array([read[row["person"]]["skin"] for row in mine])
        value, low, high = order(photo, picture)
        cells = [style, "yes" if style in LOCAL_COLOR else "no", f"{value:.2f} ({low:.2f} to {high:.2f})"]
        cells += [f"{(picture - photo)[tone == t].mean():+.1f}" if (tone == t).any() else "-" for t in TONES]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "held_out.json", help="what eval/held_out.py wrote")
    args = parser.parse_args()
    rows = json.loads(args.results.read_text("utf-8"))["rows"]
    if "lightness" not in rows[0]:
        raise SystemExit(f"{args.results} has no lightness of faces; run eval/held_out.py once more")
    print(table(rows, labels()))


if __name__ == "__main__":
    main()
