"""Marks: the maps that `mini` decodes latents to, and the rasterizer that draws them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder, read_photo
from portrait.generate.families.mini.marks.layout import (
    CHANNELS,
    GLOBALS,
    GUIDE_MAPS,
    GUIDES,
    PHOTO_MAPS,
    SLICES,
    Marks,
    pack,
    without_haze,
)
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.generate.families.mini.structure import MarkUNet, condition_on_source, signal_of

CELLS = 32  # a quarter of 128 px: enough for every layer


def disc(radius: float) -> np.ndarray:
    """An outline map of a centered disc, at 128 px, with the slope of `SHAPE_REACH`."""
    y, x = np.mgrid[0:128, 0:128] + 0.5
    distance = radius - np.hypot(x - 64, y - 64)
    return np.clip(0.5 + distance * 4 / 16, 0, 1).astype(np.float32)


def plane(value: float) -> np.ndarray:
    return np.full((128, 128), value, np.float32)


def colors(*rgb: float) -> np.ndarray:
    return np.stack([plane(v) for v in rgb])


WHITE = colors(1, 1, 1)


def with_layer(**maps: np.ndarray) -> Marks:
    values = {"line_dark": 1.0, "hatch_dark": 1.0, "dot_dark": 1.0, "grain_dark": 1.0, "light_r": 1.0}
    return pack({"paper": WHITE, **maps}, values, CELLS)


def test_nothing_but_paper_is_the_paper() -> None:
    assert np.allclose(draw(with_layer(), 128, 1), 1.0)


def test_an_opaque_glaze_covers_its_disc_and_nothing_else() -> None:
    picture = draw(with_layer(shape=disc(30)[None], glaze=colors(1, 0, 0)), 128, 1)
    assert np.allclose(picture[64, 64], (1, 0, 0), atol=1e-3)
    assert np.allclose(picture[4, 4], 1.0)
    covered = float((picture[..., 1] < 0.5).mean())
    assert covered == pytest.approx(np.pi * 30**2 / 128**2, rel=0.05)


def test_a_wobbling_outline_leaves_no_spots_far_from_it() -> None:
    marks = with_layer(shape=disc(20)[None], glaze=colors(0, 0, 0))
    marks.values[GLOBALS.index("wobble")] = 1.0
    picture = draw(marks, 128, 1)
    distance = np.hypot(*(np.mgrid[0:128, 0:128] - 63.5))
    assert (picture[distance < 25] < 0.5).any()
    assert np.allclose(picture[distance > 30], 1.0)


def test_facets_cover_the_sheet_where_their_map_is_faint() -> None:
    picture = draw(with_layer(facet=disc(30), color=colors(0.2, 0.5, 0.3), detail=plane(0.5)), 128, 1)
    assert float(picture[..., 0].max()) < 0.3


@pytest.mark.parametrize("size", [128, 192, 256])
def test_an_outline_is_as_sharp_at_every_size(size: int) -> None:
    picture = draw(with_layer(shape=disc(30)[None], glaze=colors(0, 0, 0)), size, 1)
    row = picture[size // 2, :, 0]
    between = int(((row > 0.05) & (row < 0.95)).sum())
    assert between <= 2 * max(1, round(2 * size / 128))


LAYERS = {
    "stroke": {"stroke": np.stack([plane(1)] * 3), "color": colors(0.2, 0.5, 0.3), "direction": np.stack([plane(1), plane(0.5)])},
    "hatch": {"hatch": np.stack([plane(0.6), plane(0), plane(0), plane(0)])},
    "groove": {"groove": plane(0.5), "direction": np.stack([plane(1), plane(0.5)])},
    "dot": {"dot": plane(0.4), "dot_color": colors(0, 0, 0)},
    "grain": {"grain": plane(0.5)},
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_another_seed_lays_the_marks_elsewhere_and_as_many(layer: str) -> None:
    marks = with_layer(**LAYERS[layer])
    first, again, other = (draw(marks, 256, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert float(np.abs(first - other).mean()) > 0.01
    assert float(first.mean()) == pytest.approx(float(other.mean()), abs=0.03)


@pytest.mark.parametrize("layer", ["hatch", "groove", "dot", "grain"])
def test_darker_tone_means_more_ink(layer: str) -> None:
    name = layer
    lightness = []
    for tone in (0.2, 0.5, 0.8):
        maps = {**LAYERS[layer], name: np.where(LAYERS[layer][name] > 0, tone, 0).astype(np.float32)}
        lightness.append(float(draw(with_layer(**maps), 256, 1).mean()))
    assert lightness[0] > lightness[1] + 0.03 > lightness[2] + 0.06


def test_leaving_out_a_layer_does_not_move_the_others() -> None:
    both = draw(with_layer(**LAYERS["dot"], line=disc(10)), 128, 3)
    dots = draw(with_layer(**LAYERS["dot"]), 128, 3)
    outside = np.hypot(*(np.mgrid[0:128, 0:128] - 63.5)) > 20
    assert np.array_equal(both[outside], dots[outside])


def test_strokes_follow_the_form() -> None:
    maps = {**LAYERS["stroke"], "stroke": np.stack([plane(0), plane(0.35), plane(0)])}
    marks = with_layer(**maps)
    marks.values[GLOBALS.index("length")] = 0.9
    gray = cv2.GaussianBlur(draw(marks, 256, 1).mean(-1), (0, 0), 1.0)
    across = float(np.abs(np.diff(gray, axis=1)).mean())
    down = float(np.abs(np.diff(gray, axis=0)).mean())
    assert down > 1.3 * across  # the direction map says: along the rows


def test_pack_and_read_give_every_map_back() -> None:
    rng = np.random.default_rng(0)
    small = {
        name: rng.random((s.stop - s.start, CELLS, CELLS), np.float32)
        for name, s in SLICES.items()
        if name not in ("shape", "line")
    }
    fine = {
        "shape": rng.random((4, 2 * CELLS, 2 * CELLS), np.float32),
        "line": rng.random((1, 2 * CELLS, 2 * CELLS), np.float32),
    }
    marks = pack({**small, **fine}, {"wet": 0.25}, CELLS)
    for name, planes in (small | fine).items():
        assert np.allclose(marks.planes(name), planes), name
    assert marks.value("wet") == 0.25


def test_a_layer_that_the_medium_does_not_use_is_not_drawn() -> None:
    marks = with_layer(**LAYERS["dot"])
    assert marks.value("use_dot") == 1
    marks.values[GLOBALS.index("use_dot")] = 0.3
    assert np.allclose(draw(marks, 128, 1), 1.0)


def test_a_name_that_is_no_map_is_refused() -> None:
    with pytest.raises(KeyError, match="stippling"):
        pack({"stippling": plane(1)}, {}, CELLS)


def test_a_photo_read_as_marks_says_nothing_of_a_medium() -> None:
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    maps = read_photo(photo)
    assert maps.shape == (1, CHANNELS, 16, 16)
    for medium in ("stroke", "facet", "hatch", "groove", "grain", "dot", "glaze", "light"):
        assert not maps[:, SLICES[medium]].any()
    assert torch.allclose(maps[:, SLICES["paper"]], torch.nn.functional.avg_pool2d((photo + 1) / 2, 4), atol=1e-6)


def test_guides_fill_the_maps_that_a_photo_leaves_empty() -> None:
    photo, guides = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, len(GUIDES), 32, 32)
    plain, guided = read_photo(photo), read_photo(photo, guides)
    assert plain.shape == guided.shape
    for name in PHOTO_MAPS:
        assert torch.equal(plain[:, SLICES[name]], guided[:, SLICES[name]])
    rest = torch.cat([guided[:, SLICES[name]] for name in GUIDE_MAPS], 1)
    assert torch.equal(torch.nn.functional.pixel_shuffle(rest, 2), guides)


def test_guides_stay_as_strong_while_the_photo_fades_and_go_with_it_at_the_end() -> None:
    torch.manual_seed(0)
    vae = MarkAutoencoder(encoder_channels=(16, 16), decoder_channels=(16, 16, 16), guided=True).eval()
    vae.stage4 = torch.nn.Identity()  # the last skip connection is seen alone
    latents, guides = torch.zeros(1, 32, 4, 4), torch.rand(1, len(GUIDES), 32, 32)
    vae.source = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.nn.init.zeros_(vae.skip8[1].weight)  # else stage8 would mix what it adds
    added = {}
    with torch.inference_mode():
        for level in (1.0, 0.5, 0.25, 0.0):
            vae.source_level = level
            vae.guides = None
            without, _ = vae.decode_marks(latents)
            vae.guides = guides
            added[level] = vae.decode_marks(latents)[0] - without
    assert added[1.0].abs().mean() > 0.05
    for level in (0.5, 0.25):
        assert torch.allclose(added[level], added[1.0], atol=1e-5)
    assert not added[0.0].any()


def test_the_decoder_draws_each_picture_with_its_own_seed() -> None:
    torch.manual_seed(0)
    vae = MarkAutoencoder(encoder_channels=(16, 16), decoder_channels=(16, 16, 16)).eval()
    latents = torch.randn(1, 32, 4, 4).repeat(3, 1, 1, 1)
    vae.seeds = [1, 1, 2]
    with torch.inference_mode():
        first, again, other = vae.decode(latents).sample
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (3, 64, 64)


def test_weights_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="these weights know 3 maps"):
        MarkAutoencoder(map_channels=3)


def test_the_haze_of_a_network_is_no_mark() -> None:
    haze = with_layer(**LAYERS["dot"], line=plane(0.04)).maps.copy()
    haze[SLICES["dot"]] = 0.04
    values = with_layer(**LAYERS["dot"], line=plane(1)).values
    assert np.allclose(draw(Marks(maps=without_haze(haze), values=values), 128, 1), 1.0)
    assert not np.allclose(draw(Marks(maps=haze, values=values), 128, 1), 1.0)
    strong = np.where(haze > 0.2, haze, 0).astype(np.float32)
    assert np.array_equal(without_haze(strong), strong)


def test_a_size_of_its_own_is_drawn_and_not_enlarged() -> None:
    torch.manual_seed(0)
    vae = MarkAutoencoder(encoder_channels=(16, 16), decoder_channels=(16, 16, 16)).eval()
    vae.size = 128
    with torch.inference_mode():
        assert vae.decode(torch.randn(1, 32, 4, 4)).sample.shape == (1, 3, 128, 128)


def tiny_unet() -> MarkUNet:
    torch.manual_seed(0)
    return MarkUNet(
        sample_size=4,
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


def test_more_of_the_photo_is_shown_than_the_level_says_and_nothing_at_zero() -> None:
    levels = torch.linspace(0, 1, 21)
    signals = signal_of(levels)
    assert (signals[0], signals[-1]) == (0, 1)
    assert (signals[1:-1] > levels[1:-1]).all()
    assert (signals.diff() > 0).all()
    assert torch.allclose(signals, torch.tensor([signal_of(float(level)) for level in levels]))


def test_the_photo_is_seen_within_the_block_and_nothing_is_left_behind() -> None:
    pipe = SimpleNamespace(
        unet=tiny_unet(), vae=MarkAutoencoder(encoder_channels=(16, 16), decoder_channels=(16, 16, 16))
    )
    latents = torch.randn(1, 4, 4, 4)
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    noise = torch.randn(1, 4, 4, 4)
    text = torch.randn(1, 3, 8)
    sources = []
    with torch.inference_mode():
        for level in (1.0, 0.5):
            with condition_on_source(pipe, latents, photo, level, [7], 96):
                assert (pipe.vae.seeds, pipe.vae.size) == ((7,), 96)
                assert pipe.vae.source is photo
                assert pipe.vae.source_level == level
                sources.append(pipe.unet(noise, torch.tensor([500]), encoder_hidden_states=text).sample)
    assert not torch.equal(*sources)
    assert pipe.unet.source is pipe.unet.level is pipe.vae.source is pipe.vae.seeds is pipe.vae.size is None
    with pytest.raises(ValueError, match="condition_on_source"):
        pipe.unet(noise, torch.tensor([500]), encoder_hidden_states=text)
