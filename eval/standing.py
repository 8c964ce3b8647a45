"""The standing protocol: run `mini` on fixed people and styles, and compare with the accepted result.

    python eval/standing.py --data FACES             # the 36 held-out people in every style, against accepted/full.json
    python eval/standing.py                          # small, as in CI: 7 people of sample pictures in 2 styles
    python eval/standing.py --accept                 # make this run the accepted result, after looking at its page

The exit code is 3 if anything drifted, if likeness or style over all styles is not shown to be stable, or if anything is
missing. With 7 people and another processor than that of the accepted result, a single style may be inconclusive. The run is
in work/standing-...; existing pictures are reused while weights, thresholds and photos are the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from held_out_people import held_out
from PIL import Image

from portrait.campaign.engines import LocalEngine
from portrait.campaign.plan import Plan, plan_from
from portrait.campaign.run import run_campaign
from portrait.files import write_bytes, write_json
from portrait.recipes.load import load_recipe
from portrait.records.report import Comparison, Verdict
from portrait.report.words import summary_lines
from portrait.report.write import write_report

HERE = Path(__file__).parent
GROUP = ((112, 329), (321, 208), (518, 341), (796, 411), (959, 133), (1179, 337))
"""Centers of the six faces in insightface's sample `t1`, in pixels."""
SETTINGS = {"far": 0.01, "max_attempts": 4, "balance": 0.5, "seed": 1, "face": "largest", "threads": 2}


def full(data: Path) -> Plan:
    """The held-out people in every style, named by folder and number, so that groups can be shown."""
    rows = [f"{p.parent.name}-{p.stem},{p.resolve()},{p.parent.name}" for p in held_out(data)]
    table = write_bytes(HERE.parent / "work" / "standing-full.csv", "\n".join(["subject,photo,sex", *rows]).encode())
    return plan_from({"name": "standing, full", "subjects": str(table), "settings": SETTINGS}, HERE)


def small(folder: Path) -> Plan:
    """The astronaut of scikit-image and the six people of insightface's sample, in the recipe's first two styles."""
    from insightface.data import get_image
    from skimage.data import astronaut

    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    group = get_image("t1")[:, :, ::-1]
    Image.fromarray(astronaut()).save(photos / "astronaut.bmp")  # bmp: the same bytes by every version of every library
    for n, (x, y) in enumerate(GROUP):
        Image.fromarray(group[max(0, y - 130) : y + 150, max(0, x - 130) : x + 130].copy()).save(
            photos / f"guest-{n}.bmp"
        )
    names = [str(path.resolve()) for path in sorted(photos.glob("*.bmp"))]
    styles = list(load_recipe("mini").styles)[:2]
    return plan_from({"name": "standing, small", "subjects": names, "styles": styles, "settings": SETTINGS}, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with female/*.jpg and male/*.jpg (the CC0 portraits)")
    parser.add_argument("--accept", action="store_true", help="write the accepted result instead of comparing with it")
    parser.add_argument("--run", type=Path, help="folder of the run (default: work/standing-small or -full)")
    args = parser.parse_args()
    name = "full" if args.data else "small"
    folder = args.run or HERE.parent / "work" / f"standing-{name}"
    plan = full(args.data) if args.data else small(folder)
    run_campaign(plan, folder, lambda threads: LocalEngine(), accept_changes=True)
    accepted = HERE / "accepted" / f"{name}.json"
    page, numbers = folder / "report" / "index.html", folder / "report" / "report.json"
    report = write_report(folder, None if args.accept else accepted, html=page, json_file=numbers)
    print(*summary_lines(report), f"page: {page}", sep="\n")
    if args.accept:
        print("accepted:", write_json(accepted, report.dump()))
    accepted_again = report.comparison and report.verdict and as_accepted(report.comparison, report.verdict)
    return 0 if args.accept or accepted_again else 3


def as_accepted(comparison: Comparison, verdict: Verdict) -> bool:
    """Whether nothing drifted or is missing, and every measure over all styles except the accept rate is stable."""
    pooled = {row.verdict for row in comparison.rows if row.style is None and row.measure != "accepted"}
    complete = not any(value for _, value in comparison.not_paired.items())
    return complete and pooled == {"stable"} and verdict.verdict != "drifted"


if __name__ == "__main__":
    sys.exit(main())
