"""A network that tells which of a model's styles a face is drawn in, or that it is a photograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from portrait.errors import WeightsCorruptError, one_line
from portrait.faces.onnx_session import session_options
from portrait.images import resized
from portrait.judge.changes import SkinLimits, mouth_shift
from portrait.records import Points, RgbImage

PHOTO = "photo"
"""The class of everything that is not a style."""


STYLE_JUDGE_FILES = ("config.json", "style.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleLimits:
    """What a picture in one style must meet, for one set of weights.

    `probability` is the smallest that the style judge must give the style. `skin` is how the style renders the skin; None
    for styles that print in their own inks. `expression` is how far a mouth may move, in inter-eye distances; None if not
    measured.
    """

    probability: float
    skin: SkinLimits | None = None
    expression: float | None = None

    @property
    def most(self) -> dict[str, float]:
        """Feature of the person -> the most that it may change, either way."""
        limits = {"skin": None if self.skin is None else self.skin.most, "expression": self.expression}
        return {what: limit for what, limit in limits.items() if limit is not None}

    def changes(self, photo: RgbImage, picture: RgbImage) -> dict[str, float]:
        """Feature of the person -> how much it changed between two aligned crops, in the unit of its limit."""
        changes = {}
        if self.skin is not None:
            changes["skin"] = self.skin.change(photo, picture)
        if self.expression is not None:
            changes["expression"] = mouth_shift(photo, picture)
        return changes


class _Config(BaseModel):
    """The config.json of a style judge."""

    classes: tuple[str, ...]
    """The styles, and `PHOTO`."""
    least: dict[str, float]
    """Style -> the probability that a picture must reach, which all but a stated share of right pictures do."""
    skin: dict[str, SkinLimits] = {}
    expression: dict[str, float] = {}
    """Style -> the most that a mouth moves."""
    scale: int
    """The picture's side at which marks have the size that the network was trained on."""
    side: int
    """Of the square around the face that it sees."""


class StyleJudge:
    """Judges the style of pictures by one set of weights, on whose pictures it was trained.

    Its folder holds `style.onnx` and config.json, see `_Config`. `digests` maps the path of each file inside the
    weights to its SHA-256.

    Raises:
        WeightsCorruptError: the files cannot be loaded, or do not fit each other.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        import onnxruntime

        try:
            config = _Config.model_validate_json((folder / "config.json").read_bytes())
            self.classes = config.classes
            self.limits = {
                style: StyleLimits(
                    probability=least, skin=config.skin.get(style), expression=config.expression.get(style)
                )
                for style, least in config.least.items()
            }
            self._scale, self.side = config.scale, config.side
            self._network = onnxruntime.InferenceSession(
                str(folder / "style.onnx"), session_options(1), providers=["CPUExecutionProvider"]
            )
            outputs = int(self._network.get_outputs()[0].shape[-1])
        except Exception as error:  # onnxruntime's exception classes are private
            raise WeightsCorruptError(f"the style judge {folder} cannot be loaded: {one_line(error, 300)}") from error
        self.digests = dict(digests)
        if outputs != len(self.classes) or not self.limits.keys() <= set(self.classes):
            raise WeightsCorruptError(f"the style judge {folder} distinguishes {outputs} classes, not {self.classes}")

    def probabilities(self, picture: RgbImage, kps: Points) -> dict[str, float]:
        """Style -> probability that the face at `kps` is drawn in it, with `PHOTO` for no style. They add up to 1."""
        window = face_window(picture, kps, self._scale, self.side)
        return dict(zip(self.classes, self.classify(window[None])[0].tolist(), strict=True))

    def classify(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, side, side, 3) uint8 windows -> (N, classes) float32 probabilities."""
        batch = np.ascontiguousarray(windows.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        return np.asarray(self._network.run(None, {self._network.get_inputs()[0].name: batch})[0], np.float32)


def face_window(picture: RgbImage, kps: Points, scale: int, side: int) -> RgbImage:
    """Cut out the square around the face, (side, side, 3) uint8, after resizing the whole picture to a side of `scale` pixels.

    `kps`, (5, 2), are the points of the face in the picture, whose border is repeated outside of it.
    """
    height, width = picture.shape[:2]
    factor = scale / max(height, width)
    if factor != 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        picture = resized(picture, *size)
    x, y = (int(v) for v in np.round(kps.mean(0) * factor) - side // 2)
    rows = np.clip(np.arange(y, y + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, picture.shape[1] - 1)
    return RgbImage(np.ascontiguousarray(picture[rows[:, None], columns]))
