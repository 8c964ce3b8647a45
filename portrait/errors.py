"""The error tree. Each message says what happened, the value seen and what to do."""

from __future__ import annotations


class PortraitError(Exception):
    """Anything that a user of portrait can act on. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(PortraitError):
    """What was given cannot be used."""

    exit_code = 2


class SettingsError(InputError):
    """A setting, recipe, style or record does not fit."""


class LicenseError(SettingsError):
    """A part of the recipe may not be used for what the caller wants."""


class ImageReadError(InputError):
    """A file is not a picture that can be read in full."""


class ShapeError(InputError):
    """An array does not have the shape or type that the contract names."""


class FaceError(PortraitError):
    """The photo's faces do not allow a choice."""


class NoFaceError(FaceError):
    """No face above the detection threshold."""


class ManyFacesError(FaceError):
    """Several faces of similar size and no policy that chooses."""


class WeightsError(PortraitError):
    """Model files cannot be used."""


class WeightsMissingError(WeightsError):
    """A model file is not on this machine."""


class WeightsCorruptError(WeightsError):
    """A model file is not the one whose SHA-256 is pinned."""


class BrokenModelError(WeightsError):
    """A model computes no picture: values that are not numbers, or one value everywhere."""


class MemoryLimitError(PortraitError):
    """The device's memory is too small, also after one retry with less."""


class EvaluationError(PortraitError):
    """A measurement cannot be made."""


class TooFewPairsError(EvaluationError):
    """The sample is too small to show the rate that was asked for."""


class CampaignError(PortraitError):
    """A campaign cannot go on as asked."""


class PlanChangedError(CampaignError):
    """The plan is not the one that this run was started with."""

    exit_code = 2


def one_line(error: BaseException, limit: int = 120) -> str:
    """What another library says went wrong, on one line of at most `limit` characters; its class if it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
