"""The error tree. Each message says what happened, the value seen and what to do."""

from __future__ import annotations


class PortraitError(Exception):
    """An error that the user can do something about. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(PortraitError):
    """The input cannot be used."""

    exit_code = 2


class SettingsError(InputError):
    """A setting, recipe, style or record is invalid."""


class NoPeopleError(SettingsError):
    """A plan's folder of people is not there, or has no photos."""


class LicenseError(SettingsError):
    """The license of a part of the recipe does not allow the use that was requested."""


class ImageReadError(InputError):
    """A file is not a picture, or cannot be read completely."""


class ShapeError(InputError):
    """An array does not have the documented shape or dtype."""


class FaceError(PortraitError):
    """No face of the photo can be chosen or used."""


class NoFaceError(FaceError):
    """No face above the detection threshold."""


class ManyFacesError(FaceError):
    """There are several faces of similar size, and no setting says which to use."""


class WeightsError(PortraitError):
    """Model files cannot be used."""


class WeightsMissingError(WeightsError):
    """A model file is not on this machine."""


class WeightsCorruptError(WeightsError):
    """A model file is not the one whose SHA-256 is pinned."""


class BrokenModelError(WeightsError):
    """A model's output is not a picture: it contains NaN, or has the same value or color everywhere."""


class MemoryLimitError(PortraitError):
    """The device ran out of memory, even after a retry that needs less."""


class EvaluationError(PortraitError):
    """A measurement cannot be made."""


class TooFewPairsError(EvaluationError):
    """The sample is too small for the rate that was requested."""


class CampaignError(PortraitError):
    """A campaign cannot continue as requested."""


class PlanChangedError(CampaignError):
    """The plan differs from the one that this run was started with."""

    exit_code = 2


def one_line(error: BaseException, limit: int = 120) -> str:
    """Another library's error message on one line of at most `limit` characters; the class name if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
