"""What the training of `mini` makes of few portraits, and the decoder that it starts from."""

from __future__ import annotations

from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.marks.layout import GUIDES
from portrait.hub.files import mini_folder
from tests.fakes import a_face
from tests.scripts import stage_of_training


@pytest.fixture(scope="module")
def dataset() -> ModuleType:
    return stage_of_training("dataset")


def test_a_bent_head_has_other_proportions_and_the_room_stays(dataset: ModuleType) -> None:
    face = a_face(512)
    rows, columns = np.mgrid[0:512, 0:512].astype(np.float32)
    x, y = dataset.bending((512, 512), face, np.random.default_rng(3))
    assert x.dtype == y.dtype == np.float32
    moved = np.hypot(x - columns, y - rows)
    assert moved[200:312, 200:312].max() > 1
    assert moved.max() < 0.1 * 512
    assert moved[:4].max() < 0.03 * 512
    steps = (np.diff(x, axis=1), np.diff(y, axis=0))
    assert all(step.min() > 0.6 and step.max() < 1.4 for step in steps)  # nothing folds over


def test_heads_are_bent_in_many_ways(dataset: ModuleType) -> None:
    face = a_face(128)
    ways = [dataset.bending((128, 128), face, np.random.default_rng(seed))[0] for seed in range(12)]
    assert len({way[64, 90].round(2).item() for way in ways}) == 12


def test_a_variant_is_painted_in_the_same_styles_whenever_it_is_painted(dataset: ModuleType) -> None:
    few, again, every = (dataset.commissions(7, plain) for plain in (False, False, True))
    assert few == again
    assert len({style for style, _, _ in few}) == 3
    assert [style for style, _, _ in every] == list(dataset.PAINTERS)
    assert all(palette in dataset.PALETTES[style] for style, palette, _ in every)
    assert all(0 <= coarse <= 1 for _, _, coarse in every)
    assert dataset.commissions(8, plain=False) != few


def test_a_picture_in_a_scene_comes_back(dataset: ModuleType) -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), (0, 0), 3)
    jpeg, png = dataset.encoded(picture, ".jpg"), dataset.encoded(picture, ".png")
    assert jpeg.ndim == png.ndim == 1
    assert np.array_equal(np.round(255 * dataset.decoded(png, cv2.IMREAD_COLOR)), picture)
    assert np.abs(255 * dataset.decoded(jpeg, cv2.IMREAD_COLOR) - picture).mean() < 2
    with pytest.raises(OSError, match="holds no image"):
        dataset.decoded(png[:20], cv2.IMREAD_COLOR)


@pytest.mark.weights
def test_the_shipped_decoder_with_more_blocks_draws_what_it_drew_until_it_is_shown_guides() -> None:
    shipped = MarkAutoencoder.from_pretrained(mini_folder() / "vae").float().eval()
    grown = stage_of_training("autoencoder").grown(mini_folder() / "vae").eval()
    assert grown.config.guided
    assert sum(grown.config.decoder_blocks) >= sum(shipped.config.decoder_blocks)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 32, 8, 8, generator=generator)
    for vae in (shipped, grown):
        vae.source = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
        vae.source_level = 0.5
    with torch.inference_mode():
        expected, same = shipped.decode_marks(latents), grown.decode_marks(latents)
        for a, b in zip(expected, same, strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        grown.guides = torch.ones(1, len(GUIDES), 64, 64)
        assert not torch.allclose(grown.decode_marks(latents)[0], expected[0], atol=1e-2)
