"""The chain of licenses of a recipe, and whether it allows commercial use."""

from __future__ import annotations

from dataclasses import dataclass

from portrait.errors import LicenseError, PortraitError
from portrait.hub.files import DLIB_RESNET, WeightFile
from portrait.hub.judges import face_files, face_parts, fetched_judges, second_detector_part, tools_for
from portrait.hub.manifest import Part, find_part
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe
from portrait.records.portrait import LicenseLink

COMMERCIAL_CHOICE = "klein4b"
"""Always proposed for commercial use: the newest base model of which every part is clearly allowed."""
FREE_TOOLS = "YuNet then finds the face, SFace and dlib judge"
"""What else changes with `--commercial`."""
TRAINING_NOTES = {
    "yunet": "trained on WIDER FACE, whose photos are for non-commercial use",
    "sface": "the publisher does not say which photos it was trained on",
    "auraface": "its publisher calls the photos it was trained on commercially and publicly available, and does not name them",
    DLIB_RESNET.name: "trained on FaceScrub, VGG and photos from the web, whose terms are not settled",
}
"""Model -> what is known about its training photos, although its publisher allows commercial use of the model."""


@dataclass(frozen=True, slots=True)
class NotOffered:
    """A popular model for which there is no recipe: its license, and why that is the reason."""

    name: str
    license: str
    reason: str


NOT_OFFERED = (
    NotOffered(
        "FLUX.1-dev",
        "FLUX.1 [dev] Non-Commercial License",
        "the base model is for non-commercial use, and so is every public IP-Adapter for it",
    ),
    NotOffered(
        "FLUX.1-Kontext-dev",
        "FLUX.1 [dev] Non-Commercial License",
        "it edits a photo by instruction, under the same license as FLUX.1-dev",
    ),
    NotOffered(
        "PuLID (for FLUX)",
        "Apache-2.0 on the hub, which covers its own weights alone",
        "it needs FLUX.1-dev and InsightFace's antelopev2, both non-commercial, and diffusers cannot load it",
    ),
    NotOffered(
        "InfiniteYou",
        "CC BY-NC 4.0",
        "its own weights are for non-commercial use, it needs FLUX.1-dev, and diffusers cannot load it",
    ),
    NotOffered(
        "FLUX.2-dev, FLUX.2-klein-9B",
        "FLUX Non-Commercial License",
        "of FLUX.2 only klein 4B is under Apache-2.0: that is the recipe klein4b",
    ),
    NotOffered(
        "Qwen-Image-2.1",
        "Qwen Research License",
        "the base model is for non-commercial use",
    ),
)
"""Shown by `portrait weights licenses`, according to public sources; the model cards themselves are decisive."""


def face_tools(recipe: Recipe, *, commercial: bool) -> str:
    """The tools that find and judge faces: `insightface` (with dlib), or `opencv`: YuNet, SFace and dlib.

    InsightFace's models are for research only. Recipes without a conditioning recognizer can do without them.
    """
    return tools_for(commercial=commercial and not recipe.recognizer)


def license_chain(recipe: Recipe, *, commercial: bool = False) -> list[LicenseLink]:
    """The license of every model involved in the picture."""
    tools = face_tools(recipe, commercial=commercial)
    further = [find_part(name) for name in fetched_judges(tools)]
    models: list[WeightFile | Part] = [*face_parts(tools), *face_files(tools), *further]
    second = second_detector_part()
    if second is not None and second not in models:
        models.append(second)
    links = [LicenseLink(part=model.name, license=model.license, commercial=model.commercial) for model in models]
    return [*recipe.licenses, *links]


def noncommercial_links(recipe: Recipe) -> list[LicenseLink]:
    """The links of the chain, with the most permissive face tools, whose license does not clearly allow commercial use."""
    return [link for link in license_chain(recipe, commercial=True) if link.commercial != "yes"]


def require_commercial(recipe: Recipe) -> None:
    """Refuse a recipe that is not entirely licensed for commercial use.

    Raises:
        LicenseError: a part is non-commercial, conditional or unknown; the message names each, and the recipes that are
            allowed.
    """
    links = noncommercial_links(recipe)
    if not links:
        return
    parts = "; ".join(f"{link.part} ({link.commercial}: {link.license})" for link in links)
    names = " or, with the same base model, ".join(commercial_recipes(recipe))
    proposal = f"use {names} instead; {FREE_TOOLS}" if names else "no available recipe is allowed"
    raise LicenseError(f"recipe {recipe.name} is not licensed for commercial use because of {parts}; {proposal}")


def commercial_recipes(recipe: Recipe) -> list[str]:
    """The recipes to propose for commercial use: `COMMERCIAL_CHOICE`, and the one most similar to this one."""
    nearest = nearest_commercial_recipe(recipe)
    choice = [] if noncommercial_links(load_recipe(COMMERCIAL_CHOICE)) else [COMMERCIAL_CHOICE]
    return [*choice, *([nearest] if nearest and nearest not in choice else [])]


def nearest_commercial_recipe(recipe: Recipe) -> str | None:
    """The most similar recipe, first by base model, then by speed, whose whole chain allows commercial use.

    If none has the same base model it is `COMMERCIAL_CHOICE`.
    """
    allowed = []
    for name in recipe_names():
        try:
            other = load_recipe(name)
        except PortraitError:
            continue  # an invalid recipe of the user's own is not proposed
        if not noncommercial_links(other):
            allowed.append(other)

    def distance(other: Recipe) -> tuple[bool, bool, bool, str]:
        is_other_base = other.name.partition("-")[0] != recipe.name.partition("-")[0]
        is_other_speed = (other.min_steps > 1) != (recipe.min_steps > 1)
        return is_other_base, is_other_base and other.name != COMMERCIAL_CHOICE, is_other_speed, other.name

    return min(allowed, key=distance).name if allowed else None
