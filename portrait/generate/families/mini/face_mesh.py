"""Find the points of a face's features: `mini`'s own network for MediaPipe's face mesh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portrait.faces.alignment import ARCFACE_TEMPLATE, similarity_transform, warp_smoothly
from portrait.generate.inputs import as_planes
from portrait.generate.onnx_network import load_listed
from portrait.hub.files import mini_folder
from portrait.records import Points, RgbImage

SIDE = 128
"""The network sees an aligned face as SIDE x SIDE pixels."""
MESH_POINTS = 468
TEMPLATE = np.asarray((ARCFACE_TEMPLATE - (56, 68)) * 1.05 + SIDE / 2, np.float32)
"""Where the five points of the face lie in that crop; the whole face fits in."""
EYE_DISTANCE = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])
"""The network's unit of length, pixels of the crop."""
LARGEST_MISFIT = 0.3
"""How far the mesh's eyes and corners of the mouth may be from the detector's, as a share of the eyes' distance."""


def find_mesh(photo: RgbImage, kps: Points) -> NDArray[np.float32] | None:
    """The points of MediaPipe's face mesh in a photo.

    Args:
        photo: (H, W, 3) uint8, RGB.
        kps: (5, 2) float32 pixels: eyes, nose, corners of the mouth.

    Returns:
        (MESH_POINTS, 2) float32 pixels; None if they do not fit the five points.

    Raises:
        WeightsMissingError, WeightsCorruptError: the shipped network is missing or damaged.
    """
    matrix = similarity_transform(kps, TEMPLATE)
    crop = warp_smoothly(photo, matrix, SIDE)
    (points,) = load_listed(mini_folder(), "face_mesh")(face=as_planes(crop))
    turn, shift = matrix[:, :2], matrix[:, 2]
    mesh = np.asarray((EYE_DISTANCE * points + SIDE / 2 - shift) @ np.linalg.inv(turn).T, np.float32)
    return mesh if fits(mesh, kps) else None


def fits(mesh: NDArray[np.float32], kps: NDArray[np.float32]) -> bool:
    """Whether the eyes and the corners of the mouth of a mesh (MESH_POINTS, 2) are where the five points have them."""
    misfit = np.abs(corners(mesh) - kps[[0, 1, 3, 4]]).max()
    return bool(misfit < LARGEST_MISFIT * np.linalg.norm(kps[1] - kps[0]))


def corners(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Middle of the left and of the right eye, left and right corner of the mouth, (4, 2)."""
    return np.stack([(mesh[33] + mesh[133]) / 2, (mesh[362] + mesh[263]) / 2, mesh[61], mesh[291]])
