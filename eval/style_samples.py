"""Make the sample pictures of the studio's style gallery: one portrait per style of a recipe, by its own model.

    python eval/style_samples.py                                  # mini, into the package; to run after new weights
    python eval/style_samples.py --recipe sd15-plus-face --own    # another recipe, into your configuration folder

The photo is scikit-image's, in the public domain, of astronaut Eileen Collins, unless --photo names another. Samples of
styles that the recipe no longer has are deleted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.data import astronaut

from portrait import PortraitStylizer
from portrait.files import write_json
from portrait.images import resized, write_picture
from portrait.paths import config_dir
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage

PACKAGE = Path(__file__).parents[1] / "portrait" / "studio" / "samples"
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--own", action="store_true", help="write to the configuration folder, not into the package")
    args = parser.parse_args()
    photo = args.photo or astronaut()
    stylizer = PortraitStylizer.from_recipe(args.recipe)
    folder = (config_dir() / "samples" if args.own else PACKAGE) / stylizer.loop.recipe.name
    styles = stylizer.loop.recipe.styles
    for style in styles:
        result = stylizer.stylize(photo, style, balance=args.balance, frame="head")
        pixels = RgbImage(np.asarray(result.image, np.uint8))
        small = resized(pixels, SIDE, SIDE)
        path = write_picture(folder / f"{style}.webp", small, xmp=xmp_mark(), quality=80)
        print(f"{path}: {result.record.status} {', '.join(result.reasons)} ({path.stat().st_size} bytes)", flush=True)
    write_json(folder / "weights.json", stylizer.loop.generator.digests)
    for old in folder.glob("*.webp"):
        if old.stem not in styles:
            old.unlink()


if __name__ == "__main__":
    main()
