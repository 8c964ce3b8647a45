"""Draw marks: facets, brush strokes, glazes, grain, hatching, cuts, dots, lines and lights, from the sheet upward.

The maps say what lies where; the seed decides where each single mark falls. Everything is measured in units of 1/512 of the
side, so the same marks can be drawn crisply at 512, 768 or 1024 px.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.generate.families.mini.marks.fields import Field, follow, grain_noise, smooth_noise, streak_tile
from portrait.generate.families.mini.marks.layout import FULL_SIZE, NEGLIGIBLE, Marks

Canvas = NDArray[np.floating[Any]]  # (S, S, 3) RGB in [0, 1]

SHAPE_REACH = 8.0
"""A glaze's outline map is 0.5 on the outline, and reaches 0 or 1 this many units outside or inside."""


class Sheet:
    """The canvas being drawn on: its size, random fields, and the maps at the picture's size."""

    def __init__(self, marks: Marks, size: int, seed: int) -> None:
        self.marks = marks
        self.size = size
        self.unit = size / FULL_SIZE
        self.seed = seed
        self.grain = grain_noise(size, self.rng("grain"))
        self.canvas: Canvas = self.map("paper").copy()
        self.height: Field = np.zeros((size, size), np.float32)
        ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
        self.xs = xs
        self.ys = ys

    def rng(self, layer: str) -> np.random.Generator:
        """One generator per layer, so that leaving out a layer does not change the others."""
        return np.random.default_rng([self.seed, *layer.encode()])

    def used(self, layer: str) -> bool:
        return self.marks.value(f"use_{layer}") > 0.5 and float(self.marks.planes(layer).max()) > NEGLIGIBLE

    def map(self, name: str) -> Field:
        """A map, enlarged smoothly to (S, S) or (S, S, channels)."""
        planes = self.marks.planes(name)
        enlarged = [self.enlarge(plane) for plane in planes]
        return enlarged[0] if len(enlarged) == 1 else np.stack(enlarged, -1)

    def enlarge(self, plane: Field) -> Field:
        return np.clip(cv2.resize(plane, (self.size, self.size), interpolation=cv2.INTER_CUBIC), 0, 1)

    def tangent(self) -> tuple[Field, Field]:
        """The form's direction as a unit vector; smooth noise where there is none."""
        direction = self.map("direction")
        noise = smooth_noise(self.size, self.rng("tangent"), 5, 2)
        c = 2 * direction[..., 0] - 1 + 0.12 * np.cos(2 * noise)
        s = 2 * direction[..., 1] - 1 + 0.12 * np.sin(2 * noise)
        angle = 0.5 * np.arctan2(s, c)
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def cover(self, coverage: Field, color: Canvas) -> None:
        """Paint a color over the canvas, opaque where coverage is 1."""
        c = coverage[..., None]
        self.canvas = self.canvas * (1 - c) + c * color


def draw(marks: Marks, size: int, seed: int) -> Canvas:
    """Draw the picture, (size, size, 3) float32 RGB in [0, 1]."""
    sheet = Sheet(marks, size, seed)
    for layer in DRAWERS:
        if sheet.used(layer):
            DRAWERS[layer](sheet)
    draw_splashes(sheet)
    finish(sheet)
    return np.clip(sheet.canvas, 0, 1)


def step(value: Field, width: float) -> Field:
    """0 below -width/2, 1 above width/2, smooth between."""
    t: Field = np.clip(value / width + 0.5, 0, 1)
    smooth: Field = t * t * (3 - 2 * t)
    return smooth


def draw_glazes(sheet: Sheet) -> None:
    """Areas with an outline: washes of watercolor, which darken what they lie on, or cels, cut paper and printed inks.

    Of opaque glazes the first is the figure: the others lie on it and end where it ends.
    """
    shapes = [k for k, plane in enumerate(sheet.marks.planes("shape")) if plane.max() > NEGLIGIBLE]
    if not shapes:
        return
    rng = sheet.rng("glazes")
    colors = _glaze_colors(sheet)
    if sheet.marks.value("multiply") > 0.5:
        for k in shapes:
            density = _density(sheet, _outline_distance(sheet, k, rng, smooth_noise(sheet.size, rng, 14, 3)), rng)
            sheet.canvas = sheet.canvas * np.power(np.clip(colors[k], 0.02, 1), density[..., None])
        return
    wobble = smooth_noise(sheet.size, rng, 14, 3)
    figure = colors[0]
    for k in shapes[1:]:
        coverage = np.clip(_density(sheet, _outline_distance(sheet, k, rng, wobble), rng), 0, 1)[..., None]
        figure = figure * (1 - coverage) + coverage * colors[k]
    sheet.cover(np.clip(_density(sheet, _outline_distance(sheet, 0, rng, wobble), rng), 0, 1), figure)


def _outline_distance(sheet: Sheet, k: int, rng: np.random.Generator, noise: Field) -> Field:
    """Pixels from the outline of a glaze, above 0 inside: it wanders by the noise, and a print may be out of register."""
    marks = sheet.marks
    unit = sheet.unit
    plane = cv2.resize(marks.planes("shape")[k], (sheet.size, sheet.size), interpolation=cv2.INTER_CUBIC)
    distance: Field = (plane - 0.5) * 2 * SHAPE_REACH * unit
    wobble = 10 * marks.value("wobble") * unit
    if wobble > 0.2:
        near = np.clip(2 - 2 * np.abs(distance) / (SHAPE_REACH * unit), 0, 1)  # far from an outline nothing wobbles
        distance += wobble * near * noise
    shift = 5 * marks.value("shift") * unit
    if shift > 0.2:
        angle = rng.uniform(0, 2 * np.pi)
        matrix = np.array([[1, 0, shift * np.cos(angle)], [0, 1, shift * np.sin(angle)]], np.float32)
        distance = np.asarray(
            cv2.warpAffine(distance, matrix, (sheet.size, sheet.size), borderMode=cv2.BORDER_REPLICATE), np.float32
        )
    return distance


def _density(sheet: Sheet, distance: Field, rng: np.random.Generator) -> Field:
    """How much of a glaze lies where: more along a wet edge, uneven where it granulates."""
    marks = sheet.marks
    unit = sheet.unit
    density = step(distance, (0.9 + 14 * marks.value("soft")) * unit)
    wet = marks.value("wet")
    if wet > 0:
        rim = np.exp(-np.square((distance - 1.6 * unit) / (2.2 * unit))) * (distance > -0.5)
        density = density + 0.9 * wet * rim
    if marks.value("pigment") > 0:
        pooled = 0.5 * smooth_noise(sheet.size, rng, 6, 4) + 0.35 * sheet.grain
        density = density * np.clip(1 + 0.6 * marks.value("pigment") * pooled, 0.2, 2.0)
    return density


CELS = 12
"""Flat colors that the glazes of a picture have at most, where it is drawn in cels."""


def _glaze_colors(sheet: Sheet) -> list[Canvas]:
    """The color of each glaze, (S, S, 3); in cels flat up to crisp borders, which all glazes share."""
    colors = sheet.marks.planes("glaze").reshape(-1, 3, *sheet.marks.planes("glaze").shape[1:])
    if sheet.marks.value("cel") < 0.5:
        return [np.stack([sheet.enlarge(c) for c in color], -1) for color in colors]
    cells = _cels(np.ascontiguousarray(colors[0].transpose(1, 2, 0)))
    shares = np.stack(
        [sheet.enlarge(cv2.GaussianBlur((cells == c).astype(np.float32), (0, 0), 0.8)) for c in range(CELS)]
    )
    shares = np.exp(14 * (shares - shares.max(0)))
    shares /= shares.sum(0)
    counts = np.maximum(np.bincount(cells.ravel(), minlength=CELS), 1)
    flat = []
    for color in colors:
        means = [np.bincount(cells.ravel(), channel.ravel(), CELS) / counts for channel in color]
        flat.append(np.tensordot(shares, np.stack(means, -1).astype(np.float32), ([0], [0])))
    return flat


def _cels(color: Canvas) -> NDArray[np.int32]:
    """Which of `CELS` flat areas each cell of a map belongs to: its colors in few clusters (k-means, from a fixed start)."""
    pixels = color.reshape(-1, 3).astype(np.float32)
    order = np.argsort(pixels @ np.array([0.3, 0.59, 0.11], np.float32))
    centers = [pixels[order[(2 * k + 1) * len(order) // CELS]] for k in range(CELS // 2)]
    distance = np.min([np.square(pixels - c).sum(1) for c in centers], 0)
    for _ in range(CELS - len(centers)):  # the colors least like those: lips are small, and no shade of skin
        centers.append(pixels[int(distance.argmax())])
        distance = np.minimum(distance, np.square(pixels - centers[-1]).sum(1))
    start = np.argmin([np.square(pixels - c).sum(1) for c in centers], 0).astype(np.int32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 12, 1e-3)
    _, labels, _ = cv2.kmeans(pixels, CELS, start, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.asarray(labels.reshape(color.shape[:2]), np.int32)


def draw_facets(sheet: Sheet) -> None:
    """Flat triangles over the whole sheet, denser where the detail map is high (Delaunay, seeded points)."""
    unit = sheet.unit
    rng = sheet.rng("facets")
    detail = sheet.marks.planes("detail")[0]
    cells = detail.shape[0]
    scale = 0.6 + 1.2 * sheet.marks.value("facet_size")
    points: list[tuple[float, float]] = []
    color = np.ascontiguousarray(sheet.marks.planes("color").transpose(1, 2, 0))
    edges = _edge_strength(color)
    for spacing, low in ((46, -1.0), (24, 0.2), (14, 0.45), (9, 0.68), (5.5, 0.86)):
        gap = spacing * scale
        count = int(np.ceil(FULL_SIZE / gap)) + 1
        grid = (np.mgrid[0:count, 0:count].reshape(2, -1).T + rng.uniform(0.1, 0.9, (count * count, 2))) * gap
        for y, x in grid:
            row = min(int(y * cells / FULL_SIZE), cells - 1)
            column = min(int(x * cells / FULL_SIZE), cells - 1)
            if y < FULL_SIZE and x < FULL_SIZE and detail[row, column] > low:
                points.append(_on_edge(x, y, edges, 0.5 * gap))
    side = np.linspace(0, FULL_SIZE - 1.5, 9)
    points += [(v, 0.0) for v in side] + [(v, FULL_SIZE - 1.5) for v in side]
    points += [(0.0, v) for v in side] + [(FULL_SIZE - 1.5, v) for v in side]
    mesh = cv2.Subdiv2D((0, 0, FULL_SIZE, FULL_SIZE))
    for x, y in points:
        mesh.insert((float(x), float(y)))
    triangles = np.asarray(mesh.getTriangleList()).reshape(-1, 3, 2)
    triangles = triangles[~((triangles < -1) | (triangles > FULL_SIZE)).any((1, 2))]
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], np.float32)
    samples = (weights @ triangles / weights.sum(1, keepdims=True)) * (cells / FULL_SIZE)
    columns, rows = np.moveaxis(samples.astype(int).clip(0, cells - 1), -1, 0)
    jitter = (1 + 0.045 * rng.standard_normal(len(triangles))).astype(np.float32)
    shades = color[rows, columns].mean(1) * jitter[:, None]
    corners = np.round(triangles * unit * 16).astype(np.int32)
    for triangle, shade in zip(corners, shades.tolist(), strict=True):
        cv2.fillConvexPoly(sheet.canvas, triangle, shade, cv2.LINE_AA, 4)


EDGE = 0.06
"""Steps of color between neighboring cells that are an edge."""


def _edge_strength(color: Canvas) -> Field:
    """How steep the colors are at each cell of a map, (h, w)."""
    smooth = cv2.GaussianBlur(color.astype(np.float32), (0, 0), 0.8)
    across = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    down = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    return np.asarray(np.sqrt(np.square(across) + np.square(down)).max(-1), np.float32)


def _on_edge(x: float, y: float, edges: Field, reach: float) -> tuple[float, float]:
    """The steepest place within `reach` units of a vertex: facets end where colors do, at a silhouette, a lid, a lip."""
    cell = FULL_SIZE / edges.shape[0]
    row, column, cells = int(y / cell), int(x / cell), max(1, round(reach / cell))
    top, left = max(row - cells, 0), max(column - cells, 0)
    near = edges[top : row + cells + 1, left : column + cells + 1]
    best = np.unravel_index(int(near.argmax()), near.shape)
    if near[best] < EDGE:
        return x, y
    return min((left + best[1] + 0.5) * cell, FULL_SIZE - 1.6), min((top + best[0] + 0.5) * cell, FULL_SIZE - 1.6)


def draw_strokes(sheet: Sheet) -> None:
    """Three passes of brush strokes, from large to small, each stroke along the form and in one color.

    Strokes start on a jittered grid. A pixel belongs to the topmost stroke that reaches it; as strokes are bounded, only
    those of neighboring cells need to be checked (as in the cellular texture of Worley 1996).
    """
    marks = sheet.marks
    dx, dy = sheet.tangent()
    color = sheet.map("color")
    coverage = sheet.map("stroke")
    detail = sheet.map("detail")
    for k, spacing in enumerate((19.0, 9.0, 4.4)):
        if marks.planes("stroke")[k].max() <= NEGLIGIBLE:
            continue
        rng = sheet.rng(f"strokes{k}")
        _stroke_pass(sheet, rng, spacing * (0.7 + 0.9 * marks.value("width")), coverage[..., k], dx, dy, color, detail)


MARGIN = 3
"""Cells beyond each border whose strokes reach into the picture."""


@dataclass(frozen=True, eq=False)
class _Strokes:
    """One stroke for each cell of a jittered grid, `count` cells across and `gap` pixels wide.

    Arrays have one entry per cell, row by row: (count * count, ...). Lengths are in pixels.
    """

    count: int
    gap: float
    x: Field
    y: Field
    cosine: Field  # of the angle
    sine: Field
    half_length: Field
    half_width: Field
    bend: Field
    priority: Field  # the highest lies on top; 0 is no stroke
    fine: Field
    shade: Canvas
    start: NDArray[np.int64]


def _scattered_strokes(
    sheet: Sheet,
    rng: np.random.Generator,
    gap: float,
    coverage: Field,
    dx: Field,
    dy: Field,
    color: Canvas,
    detail: Field,
) -> _Strokes:
    marks = sheet.marks
    size = sheet.size
    count = int(np.ceil(size / gap)) + 2 * MARGIN
    ax = (np.arange(count)[None] - MARGIN + rng.uniform(0, 1, (count, count))) * gap
    ay = (np.arange(count)[:, None] - MARGIN + rng.uniform(0, 1, (count, count))) * gap
    column = np.clip(ax, 0, size - 1).astype(int)
    row = np.clip(ay, 0, size - 1).astype(int)
    fine = detail[row, column]
    angle = np.arctan2(dy[row, column], dx[row, column]) + rng.normal(0, 0.18, (count, count)) * (1.1 - 0.7 * fine)
    half_width = 0.62 * gap * rng.uniform(0.75, 1.15, (count, count)) * (1.1 - 0.35 * fine)
    half_length = half_width * (1.4 + 3.2 * marks.value("length")) * rng.uniform(0.7, 1.3, (count, count))
    half_length = np.minimum(half_length, 2.3 * gap)
    bend = rng.normal(0, 0.05, (count, count)) / gap
    priority = rng.uniform(0.01, 1, (count, count))
    laid = rng.uniform(0, 1, (count, count)) < coverage[row, column]
    shade = color[row, column]
    jitter = rng.normal(0, 1, (count, count, 1)) * 0.035 + rng.normal(0, 1, (count, count, 3)) * 0.012
    shade = np.clip(shade * (1 + jitter * (1.2 - 1.0 * fine[..., None])), 0, 1).astype(np.float32)
    start = rng.integers(0, 256, (count, count, 2))

    def flat(plane: NDArray[np.floating[Any]]) -> Field:
        return plane.astype(np.float32).ravel()

    return _Strokes(
        count=count,
        gap=gap,
        x=flat(ax),
        y=flat(ay),
        cosine=flat(np.cos(angle)),
        sine=flat(np.sin(angle)),
        half_length=flat(half_length),
        half_width=flat(half_width),
        bend=flat(bend),
        priority=flat(np.where(laid, priority, 0)),
        fine=flat(fine),
        shade=shade.reshape(-1, 3),
        start=start.reshape(-1, 2),
    )


_ROWS = 32
"""Rows of pixels that are processed together: few enough to stay in the CPU's cache."""


def _topmost(sheet: Sheet, strokes: _Strokes) -> tuple[NDArray[Any], Field, Field, Field]:
    """For each pixel: the visible stroke (-1 is none), the position along and across it from -1 to 1, its priority."""
    size = sheet.size
    best = np.zeros((size, size), np.float32)
    owner = np.full((size, size), -1, np.int32)
    along = np.zeros((size, size), np.float32)
    across = np.zeros((size, size), np.float32)
    for top in range(0, size, _ROWS):
        rows = slice(top, top + _ROWS)
        whole = (best[rows], owner[rows], along[rows], across[rows])
        _topmost_of_rows(
            sheet.xs[rows].ravel(), sheet.ys[rows].ravel(), strokes, [field.reshape(-1) for field in whole]
        )
    return owner, along, across, best


def _topmost_of_rows(xs: Field, ys: Field, strokes: _Strokes, seen: list[NDArray[Any]]) -> None:
    """Compute `_topmost` for some pixels, written into `seen`: priority, stroke, along, across."""
    best, owner, along, across = seen
    cell_x = np.floor(xs / strokes.gap).astype(np.int32) + MARGIN
    cell_y = np.floor(ys / strokes.gap).astype(np.int32) + MARGIN
    home = cell_y * strokes.count + cell_x
    for oy in range(-2, 3):
        for ox in range(-2, 3):
            index = home + (oy * strokes.count + ox)
            above = np.flatnonzero(strokes.priority[index] > best)  # only these strokes are visible
            index = index[above]
            px = xs[above] - strokes.x[index]
            py = ys[above] - strokes.y[index]
            c = strokes.cosine[index]
            s = strokes.sine[index]
            u = px * c + py * s
            v = py * c - px * s + strokes.bend[index] * u * u
            u /= strokes.half_length[index]
            v /= strokes.half_width[index]
            inside = (np.abs(v) < 1 - 0.35 * u * u) & (np.abs(u) < 1)
            pixels, index = above[inside], index[inside]
            best[pixels] = strokes.priority[index]
            owner[pixels] = index
            along[pixels] = u[inside]
            across[pixels] = v[inside]


def _stroke_pass(
    sheet: Sheet,
    rng: np.random.Generator,
    spacing: float,
    coverage: Field,
    dx: Field,
    dy: Field,
    color: Canvas,
    detail: Field,
) -> None:
    marks = sheet.marks
    strokes = _scattered_strokes(sheet, rng, spacing * sheet.unit, coverage, dx, dy, color, detail)
    owner, along, across, priority = _topmost(sheet, strokes)
    painted = owner >= 0
    owner = np.where(painted, owner, 0)
    offset = strokes.start[owner]
    length = strokes.half_length[owner] / sheet.unit
    width = strokes.half_width[owner] / sheet.unit
    rows = (across * width * 0.9 + offset[..., 0]).astype(np.int32) % 256
    columns = (along * length + offset[..., 1]).astype(np.int32) % 256
    streak = streak_tile(np.random.default_rng(7))[rows, columns]
    bristle = marks.value("bristle")
    dry = marks.value("dry")
    ends = 1 - np.abs(along) + 0.16 * streak
    sides = 1 - 0.35 * along * along - np.abs(across) + 0.12 * streak
    opacity = np.clip(ends * length / 2.2, 0, 1) * np.clip(sides * width / 1.2 + 0.3, 0, 1)
    if dry > NEGLIGIBLE:
        opacity *= step(0.85 - 0.9 * dry + 0.30 * sheet.grain + 0.22 * streak, 0.9)
    opacity *= painted
    calm = 1 - 0.6 * strokes.fine[owner]
    tint = strokes.shade[owner] * (1 + 0.16 * bristle * calm * streak)[..., None]
    sheet.cover(opacity, tint)
    ridge = 0.55 + calm * (0.3 * streak * bristle + 0.3 * np.abs(across) ** 3)
    sheet.height = sheet.height * (1 - opacity) + opacity * (ridge + 0.25 * calm * priority)


def draw_grain(sheet: Sheet) -> None:
    """A dry medium, charcoal or chalk: dark where the sum of tone and sheet grain exceeds a limit."""
    marks = sheet.marks
    tone = sheet.map("grain")
    strokes = np.zeros_like(tone)
    if marks.value("grain_stroke") > NEGLIGIBLE:
        broad = marks.value("width")
        fine = grain_noise(sheet.size, sheet.rng("grain strokes"), int(400 - 260 * broad))
        dx, dy = np.full_like(tone, 0.62), np.full_like(tone, -0.78)
        strokes = follow(fine, dx, dy, int(10 + 10 * broad), sheet.unit)
    mixed = 0.34 * sheet.grain + 0.42 * marks.value("grain_stroke") * strokes
    coverage = step(tone * 1.25 - 0.66 + 0.34 * mixed, 1.15)
    coverage = np.clip(coverage + 0.30 * tone * tone, 0, 1) * step(tone - 0.06, 0.08) * marks.value("grain_dark")
    sheet.cover(coverage, marks.rgb("ink"))


HATCH_ANGLES = (0.9, 0.35, -0.75, 1.62)


def draw_hatching(sheet: Sheet) -> None:
    """Pen lines in up to four directions; the tone sets their width, and they break as if drawn by hand."""
    marks = sheet.marks
    unit = sheet.unit
    period = (3.6 + 7 * marks.value("hatch_period")) * unit
    rng = sheet.rng("hatching")
    for k, (angle, darkness) in enumerate(zip(HATCH_ANGLES, marks.planes("hatch"), strict=True)):
        if darkness.max() <= NEGLIGIBLE:
            continue
        tone = sheet.enlarge(darkness)
        warp = 0.5 * period * smooth_noise(sheet.size, rng, 7, 2)
        across = -sheet.xs * np.sin(angle) + sheet.ys * np.cos(angle) + warp
        along = sheet.xs * np.cos(angle) + sheet.ys * np.sin(angle)
        line = np.floor(across / period).astype(np.int32)
        phase = np.abs(across / period - line - 0.5) * period
        length = 46 * unit
        break_at = np.random.default_rng([sheet.seed, k]).uniform(0, 1, 4096).astype(np.float32)
        position = along / length + break_at[line % 4096]
        piece = np.floor(position).astype(np.int32)
        pressure = break_at[(line * 31 + piece * 17) % 4096]
        taper = np.clip(np.minimum(position - piece, piece + 1 - position) * length / (7 * unit), 0, 1)
        width = period * (0.16 + 0.62 * tone) * (0.75 + 0.4 * pressure) * taper
        visible = step(tone - 0.10 - 0.16 * pressure, 0.10)
        coverage = np.clip((width / 2 - phase) + 0.5, 0, 1) * visible
        sheet.cover(coverage * (0.35 + 0.65 * marks.value("hatch_dark")), marks.rgb("ink"))


def draw_grooves(sheet: Sheet) -> None:
    """The cuts of a block print: evenly spaced threads along the form, thick where the tone is dark, finer where detail counts."""
    marks = sheet.marks
    tone = sheet.map("groove")
    fine = step(sheet.map("detail") - 0.27, 0.12)
    tangent = sheet.tangent()
    period = (5.0 + 8 * marks.value("groove_period")) * sheet.unit
    rng = sheet.rng("grooves")
    threads = (1 - fine) * _threads(rng, tangent, period) + fine * _threads(rng, tangent, 0.48 * period)
    coverage = step(0.62 * threads + (tone - 0.5) * 3.0, 2.0 / period * sheet.unit)
    coverage *= step(tone - 0.04, 0.06)
    sheet.cover(coverage, marks.rgb("ink"))


def _threads(rng: np.random.Generator, tangent: tuple[Field, Field], period: float) -> Field:
    """Noise drawn out along the form into threads, one about every `period` pixels; mean 0, deviation 1."""
    size = tangent[0].shape[0]
    cells = int(2 * size / period)
    seedling = rng.standard_normal((cells, cells), dtype=np.float32)
    threads: Field = cv2.resize(seedling, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    for _ in range(2):  # each pass joins threads end to end, and brings the gaps between them closer to one width
        threads = follow(threads, *tangent, 10, 0.3 * period)
        threads = cv2.GaussianBlur(threads, (0, 0), 0.14 * period) - cv2.GaussianBlur(threads, (0, 0), 0.45 * period)
        threads = threads / (np.sqrt(cv2.GaussianBlur(np.square(threads), (0, 0), 0.8 * period)) + 1e-3)
    return threads


def draw_dots(sheet: Sheet) -> None:
    """Dots on a rotated grid; each is round, and its size follows the tone at its center."""
    marks = sheet.marks
    size = sheet.size
    pitch = (3.0 + 9 * marks.value("dot_pitch")) * sheet.unit
    jitter = 0.45 * marks.value("dot_jitter")
    rng = sheet.rng("dots")
    angle = 0.46
    c, s = np.cos(angle), np.sin(angle)
    start_u, start_v = rng.uniform(0, 2, 2).astype(np.float32)
    u = (sheet.xs * c + sheet.ys * s) / pitch + start_u
    v = (sheet.ys * c - sheet.xs * s) / (pitch * 0.866) + start_v
    table = rng.uniform(-jitter, jitter, (2, 512, 512)).astype(np.float32)
    row0 = np.floor(v).astype(np.int32)
    share = sheet.marks.planes("dot")[0]
    cells = share.shape[0]
    coverage = np.zeros((size, size), np.float32)
    for oy in (-1, 0, 1):
        row = row0 + oy
        column0 = np.floor(u - 0.5 * (row & 1)).astype(np.int32)
        for ox in (-1, 0, 1):
            column = column0 + ox
            cu = column + 0.5 + 0.5 * (row & 1) + table[0, row % 512, column % 512]
            cv = row + 0.5 + table[1, row % 512, column % 512]
            along = (cu - start_u) * pitch
            down = (cv - start_v) * pitch * 0.866
            x = along * c - down * s
            y = along * s + down * c
            at_x = (x * cells / size - 0.5).astype(np.float32)
            at_y = (y * cells / size - 0.5).astype(np.float32)
            tone = cv2.remap(share, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            radius = pitch * 0.60 * np.sqrt(np.clip(tone, 0, 1))
            distance = np.hypot(sheet.xs - x, sheet.ys - y)
            coverage = np.maximum(coverage, np.clip(radius - distance + 0.5, 0, 1) * (tone > 0.03))
    sheet.cover(coverage * (0.2 + 0.8 * marks.value("dot_dark")), sheet.map("dot_color"))


def draw_lines(sheet: Sheet) -> None:
    """Ink lines of varying width: a threshold of the line map, with a hand's tremor and the sheet's grain."""
    marks = sheet.marks
    line = cv2.resize(marks.planes("line")[0], (sheet.size, sheet.size), interpolation=cv2.INTER_CUBIC)
    rng = sheet.rng("lines")
    tremor = 0.8 * sheet.unit
    x = sheet.xs + tremor * smooth_noise(sheet.size, rng, 40, 2)
    y = sheet.ys + tremor * smooth_noise(sheet.size, rng, 40, 2)
    line = cv2.remap(line, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rough = marks.value("line_rough")
    limit = 0.34 + 0.16 * rough * sheet.grain
    coverage = step(line - limit, 0.12 + 0.35 * rough)
    sheet.cover(coverage * marks.value("line_dark"), marks.rgb("ink"))


def draw_lights(sheet: Sheet) -> None:
    """White chalk or gouache, broken by the grain if the medium is dry."""
    marks = sheet.marks
    light = sheet.map("light")
    rough = marks.value("line_rough")
    coverage = step(light - 0.5 + 0.22 * rough * sheet.grain, 0.16 + 0.5 * rough)
    sheet.cover(coverage * 0.92, marks.rgb("light"))


def draw_splashes(sheet: Sheet) -> None:
    """A few thin drops on the white of the sheet beside the figure, in its colors."""
    if sheet.marks.value("splash") <= NEGLIGIBLE:
        return
    rng = sheet.rng("splashes")
    color = sheet.marks.planes("glaze")[:3].reshape(3, -1)
    detail = sheet.map("detail")
    cells = sheet.marks.planes("detail").shape[-1]
    layer = np.zeros((sheet.size, sheet.size), np.float32)
    tint = np.ones_like(sheet.canvas)
    for _ in range(int(30 * sheet.marks.value("splash"))):
        x, y = rng.uniform(0, FULL_SIZE, 2)
        radius = float(rng.gamma(1.6, 0.9) + 0.6)
        pick = color[:, int(rng.integers(cells * cells))]
        strength = float(rng.uniform(0.2, 0.5))
        place = int(y * sheet.unit), int(x * sheet.unit)
        if sheet.canvas[place].min() < 0.82 or detail[place] > 0.06:
            continue
        drop = np.zeros_like(layer)
        center = (int(x * sheet.unit * 16), int(y * sheet.unit * 16))
        cv2.circle(drop, center, int(radius * sheet.unit * 16), strength, -1, cv2.LINE_AA, 4)
        tint = np.where(drop[..., None] > 0, pick, tint)
        layer = np.maximum(layer, drop)
    sheet.canvas = sheet.canvas * (1 - layer[..., None] * (1 - tint))


def finish(sheet: Sheet) -> None:
    """Light thick paint, and add the visible grain of the sheet."""
    marks = sheet.marks
    relief = marks.value("relief")
    if relief > NEGLIGIBLE and sheet.height.any():
        surface = cv2.GaussianBlur(sheet.height, (0, 0), 0.8 * sheet.unit)
        slope = cv2.Sobel(surface, cv2.CV_32F, 1, 0, scale=0.25) + cv2.Sobel(surface, cv2.CV_32F, 0, 1, scale=0.25)
        sheet.canvas = sheet.canvas * (1 + 0.3 * relief * np.tanh(-2.2 * slope))[..., None]
    tooth = marks.value("tooth")
    if tooth > 0:
        sheet.canvas = sheet.canvas * (1 - 0.05 * tooth * (0.5 + 0.5 * np.tanh(sheet.grain)))[..., None]


DRAWERS: dict[str, Callable[[Sheet], None]] = {
    "facet": draw_facets,
    "stroke": draw_strokes,
    "shape": draw_glazes,
    "grain": draw_grain,
    "hatch": draw_hatching,
    "groove": draw_grooves,
    "dot": draw_dots,
    "line": draw_lines,
    "light": draw_lights,
}
"""The function that draws each layer of `LAYERS`, from the sheet upward: glazes lie on facets and on paint."""
