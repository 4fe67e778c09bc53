"""What is fixed to the camera: a bonnet, a dashboard, a logo, a clock, subtitles, a thumb on the lens.

It is neither static nor moving: it stays at its place in the picture while the world goes by. Two things have to come
together before a pixel is called so: its structure lasts over frames between which the world has moved on, and a point
of the world there would have moved across that structure, as the flow around it says. So nothing is found where the
camera stands still, nor about the point that it drives towards, nor along lines that move along themselves (kerbs,
lane markings, a horizon). Where in doubt, a pixel belongs to the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.video.same_place import Look, flow_between

SIDE = 427
"""Longer side, in pixels, at which structure is compared: that of the optical flow. Lengths below are shares of it."""
STEP = 0.0125
"""How far the world has gone from one of the frames that are compared to the next: textures have changed by then."""
WORLD = 0.4
"""Share of the picture's texture that must have gone as far: with less, the camera stands and something passes by."""
STEPS = (5, 48)
"""Fewest and most steps that are looked at. With fewer, chance leaves structure at its place."""
WOULD_MOVE = 0.006
"""How far a point of the world would have to move, across the structure that stays, from one step to the next."""
WINDOW = 7
"""Pixels across a neighbourhood over which structure is compared."""
LASTS = (0.5, 1.5)
"""Share of the squared gradient that is the same in all frames, and how much more it must be, over the number of
frames: chance gives 0, with a spread that falls with that number."""
CONTRAST = 3.0
"""Lasting gradient, in levels a pixel over the three channels, below which it is noise or compression."""
TEXTURE = 4.0
"""Standard deviation, in grey levels, from which a neighbourhood has something for the flow to follow."""
NEAR, FAR = 0.05, 0.15
"""Standard deviations of the weights by which the flow around tells what a point of the world would do; the far one
counts where nothing near is known."""
GAP = 0.02
"""Gaps in what lasts that are closed: between letters, or where a digit changes."""
ALONG = 0.1
"""How far an edge is followed that lasts, but leads the way that the world moves, from where that is proven: a lane
marking may run up to a bonnet."""
PERHAPS = 0.6
"""Share of what is asked of LASTS and CONTRAST with which an edge goes on that is proven elsewhere."""
STILL = 5.0
"""Mean change, in grey levels from step to step, up to which a plain surface is the same one."""
FILLED = (0.25, 0.8, 0.5)
"""A surface that lasting edges enclose is filled where at most such a share of it moves (reflections; flow that is
drawn along), and at least such shares keep their colour, and of its rim are proven."""
SURROUNDED = 0.6
"""Share of the known surroundings that must go by."""
MARGIN = 0.015
"""Width of the edge of the picture in which nothing is proven."""
STAYS = 0.1
"""How far, in steps of the world, what is proven may stray from its place. What is far away, or goes along with the
camera, lasts in its coarse structure too, and strays by 0.13 and more; bonnets, clocks and logos by 0.08 at most."""
LEAST_AREA = 6e-4
"""Share of the picture below which a find is a speck."""
MOST_AREA = 0.5
"""Share above which it is rather a camera that stands while something large passes by."""


@dataclass(frozen=True)
class Step:
    """Two frames between which the world has moved on."""

    first: int
    second: int
    flow: Float[np.ndarray, "h w 2"]
    """From the first to the second, in pixels of the small picture of :class:`~das3r_ns.video.same_place.Look`."""


def find_fixed(images: UInt8[np.ndarray, "N H W 3"]) -> Bool[np.ndarray, "H W"] | None:
    """Which pixels show what is fixed to the camera.

    The mean over frames of the gradient keeps its magnitude where structure stays, and vanishes where the world goes by
    (as in Weiss, ICCV 2001, where the median of gradients finds what stays). The flow around, averaged without what
    stays, says how a point of the world would have moved.

    Args:
        images: RGB frames in time order.

    Returns:
        True = fixed, at the size of the frames; None where nothing is, or where the camera hardly moves.
    """
    height, width = images.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    looks = [Look(number, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for number, image in enumerate(small)]
    steps = world_steps(looks)
    if len(steps) < STEPS[0]:
        return None
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, STEPS[1]).round().astype(int))]
    fixed = _fixed(small, looks, steps)
    if not fixed.any() or fixed.mean() > MOST_AREA:
        return None
    return cv2.resize(fixed.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5


def world_steps(looks: list[Look]) -> list[Step]:
    """Steps, end to end, on each of which most of what has texture has moved by STEP.

    Args:
        looks: The frames in time order.
    """
    steps: list[Step] = []
    start = looks[0]
    for look in looks[1:]:
        flow, _ = flow_between(start, look)
        textured = _texture(start.for_flow)
        far = np.linalg.norm(flow, axis=-1) >= STEP * max(textured.shape)
        if (far & textured).sum() > WORLD * max(textured.sum(), 1):
            steps.append(Step(start.number, look.number, flow))
            start = look
    return steps


def _texture(grey: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    picture = grey.astype(np.float32)
    mean = cv2.blur(picture, (WINDOW, WINDOW))
    return cv2.blur(picture * picture, (WINDOW, WINDOW)) - mean * mean > TEXTURE**2


def _fixed(images: list[UInt8[np.ndarray, "H W 3"]], looks: list[Look], steps: list[Step]) -> Bool[np.ndarray, "H W"]:
    frames = [images[i] for i in sorted({number for step in steps for number in (step.first, step.second)})]
    (x, y), lasting, perhaps, sharp = _lasting(frames)
    side = max(lasting.shape)
    passing = _passing_by(looks, steps, lasting)
    # How far, squared, the world would move across the lasting gradient g: g' <v v'> g / g' g.
    xx, xy, yy = passing.motion
    across = xx * (x * x).sum(-1) + 2 * xy * (x * y).sum(-1) + yy * (y * y).sum(-1)
    across = _pool(across) / np.maximum(_pool((x * x + y * y).sum(-1)), 1e-6)
    proven = lasting & (across >= (WOULD_MOVE * side) ** 2)
    edges = _connected(perhaps, proven)
    barrier = _morphed(cv2.MORPH_CLOSE, perhaps, _disk(2 * GAP * side))
    inside = _enclosed(barrier, edges, _still(images, steps), passing.went > 0.5)
    found = _morphed(cv2.MORPH_CLOSE, edges | inside, _disk(GAP * side))
    kept = np.zeros_like(found)
    for part in _sound(found, proven, passing):
        if _strays(frames, x, y, part & proven) <= STAYS * STEP * side:
            kept |= part
    # Windows reach beyond what they find: a line a pixel wide would be eight.
    return _morphed(cv2.MORPH_CLOSE, kept & ((edges & sharp) | inside), _disk(GAP * side))


_Lasting = tuple[
    tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W 3"]],
    Bool[np.ndarray, "H W"],
    Bool[np.ndarray, "H W"],
    Bool[np.ndarray, "H W"],
]


def _lasting(frames: list[UInt8[np.ndarray, "H W 3"]]) -> _Lasting:
    """The mean gradient (x, y) of frames, in levels a pixel; where it is common to all of them, where perhaps, and
    where that without looking around."""
    count, shape = len(frames), frames[0].shape
    x, y, squared = (np.zeros(shape, np.float32) for _ in range(3))
    for frame in frames:
        for mean, way in ((x, (1, 0)), (y, (0, 1))):
            slope = cv2.Sobel(frame, cv2.CV_32F, *way, scale=1 / 8)
            mean += slope / count
            squared += slope * slope / count
    here = (x * x + y * y).sum(-1)
    share, fine, finest = (_share(here, squared.sum(-1), count, window) for window in (WINDOW, 3, 1))
    contrast = np.sqrt(cv2.blur(here, (3, 3))) / CONTRAST
    perhaps = np.minimum(np.minimum(share, contrast), fine) >= PERHAPS
    return (x, y), np.minimum(share, contrast) >= 1, perhaps, perhaps & (finest >= PERHAPS)


def _share(
    common: Float[np.ndarray, "H W"], squared: Float[np.ndarray, "H W"], count: int, window: int
) -> Float[np.ndarray, "H W"]:
    """Share of the squared gradient, averaged over a window, that is common to all frames, against what LASTS asks."""
    ratio = cv2.blur(common, (window, window)) / np.maximum(cv2.blur(squared, (window, window)), 1e-6)
    # Of gradients that have nothing in common, 1 / count of the square is left in the mean.
    return (count * ratio - 1) / (count - 1) / (LASTS[0] + LASTS[1] / count)


def _connected(perhaps: Bool[np.ndarray, "H W"], proven: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """What perhaps lasts and leads to what is proven: level parts of an outline where the world goes sideways."""
    reached, step = proven, _disk(3)
    for _ in range(round(ALONG * max(perhaps.shape) / 3)):
        reached = perhaps & _morphed(cv2.MORPH_DILATE, reached, step)
    return reached


@dataclass(frozen=True)
class _Passing:
    """How the world goes by, from step to step, at the size at which structure is compared."""

    motion: tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]
    """Mean over the steps of v v' (xx, xy, yy) of how a point of the world would move, squared pixels."""
    went: Float[np.ndarray, "H W"]
    """Share of the steps in which something with texture went as far as WOULD_MOVE."""
    seen: Float[np.ndarray, "H W"]
    """Share of the steps in which there was texture, and not what lasts."""


def _passing_by(looks: list[Look], steps: list[Step], lasting: Bool[np.ndarray, "H W"]) -> _Passing:
    height, width = steps[0].flow.shape[:2]
    ratio = max(lasting.shape) / max(height, width)
    small = cv2.resize(lasting.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.1
    # Flow is drawn towards what stays, over the width of its patches.
    world = ~_morphed(cv2.MORPH_DILATE, small, np.ones((5, 5), np.uint8))
    near, far = NEAR * max(height, width), FAR * max(height, width)
    sums = np.zeros((5, height, width), np.float32)
    for step in steps:
        flow = step.flow * ratio
        textured = _texture(looks[step.first].for_flow)
        weight = (textured & world).astype(np.float32)
        known = np.dstack([flow * weight[..., None], weight])
        around = cv2.GaussianBlur(known, (0, 0), near) + 0.01 * cv2.GaussianBlur(known, (0, 0), far)
        x, y = np.moveaxis(around[..., :2] / np.maximum(around[..., 2:], 1e-9), -1, 0)
        went = textured & (np.linalg.norm(flow, axis=-1) >= WOULD_MOVE * max(lasting.shape))
        sums += np.stack([x * x, x * y, y * y, went, weight]) / len(steps)
    xx, xy, yy, went, seen = (cv2.resize(part, lasting.shape[::-1], interpolation=cv2.INTER_LINEAR) for part in sums)
    return _Passing((xx, xy, yy), went, seen)


def _still(images: list[UInt8[np.ndarray, "H W 3"]], steps: list[Step]) -> Bool[np.ndarray, "H W"]:
    """Where the picture hardly changes from step to step."""
    total = np.zeros(images[0].shape, np.float32)
    for step in steps:
        total += cv2.absdiff(images[step.first], images[step.second])
    return _pool(total.mean(axis=-1)) <= STILL * len(steps)


def _enclosed(
    barrier: Bool[np.ndarray, "H W"],
    edges: Bool[np.ndarray, "H W"],
    still: Bool[np.ndarray, "H W"],
    moves: Bool[np.ndarray, "H W"],
) -> Bool[np.ndarray, "H W"]:
    """Surfaces that what perhaps lasts cuts off from the rest of the picture, mostly fixed edges, where little goes by.

    Not the largest of them: around a logo in a clear sky everything is still, too.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~barrier).astype(np.uint8), connectivity=4)
    area, count = stats[:, cv2.CC_STAT_AREA], len(stats)
    reach = np.ones((5, 5), np.uint8)
    rim = np.where(barrier, cv2.dilate(labels.astype(np.uint16), reach), 0)
    near = _morphed(cv2.MORPH_DILATE, edges, _disk(GAP * max(edges.shape)))
    moving, same = (np.bincount(labels.ravel(), part.ravel(), count) / np.maximum(area, 1) for part in (moves, still))
    fixed_rim = np.bincount(rim[near], minlength=count) / np.maximum(np.bincount(rim.ravel(), minlength=count), 1)
    fill = (moving <= FILLED[0]) & (same >= FILLED[1]) & (fixed_rim >= FILLED[2])
    fill[0] = False
    fill[1:] &= area[1:] < area[1:].max(initial=0)
    return fill[labels]


def _sound(
    found: Bool[np.ndarray, "H W"], proven: Bool[np.ndarray, "H W"], passing: _Passing
) -> Iterator[Bool[np.ndarray, "H W"]]:
    """The finds that are proven and that the world goes by, without specks, each for itself."""
    count, labels = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)
    near, around = (_disk(GAP * max(found.shape) * factor) for factor in (0.5, 2.0))
    # Filters of cameras and scalers leave their traces along the very edge of the picture.
    margin = max(round(MARGIN * max(found.shape)), 1)
    inner = np.zeros_like(found)
    inner[margin:-margin, margin:-margin] = proven[margin:-margin, margin:-margin]
    for label in range(1, count):
        part = labels == label
        if (part & inner).sum() < max(LEAST_AREA * found.size, 0.1 * part.sum() ** 0.5):
            continue
        ring = _morphed(cv2.MORPH_DILATE, part, around) & ~_morphed(cv2.MORPH_DILATE, part, near) & ~found
        seen = passing.seen[ring].sum()
        if seen < 0.05 * ring.sum() or passing.went[ring].sum() >= SURROUNDED * seen:
            yield part


def _strays(
    frames: list[UInt8[np.ndarray, "H W 3"]],
    x: Float[np.ndarray, "H W 3"],
    y: Float[np.ndarray, "H W 3"],
    part: Bool[np.ndarray, "H W"],
) -> float:
    """How far a part of the picture moves across its own edges, in pixels, root mean square over the frames.

    By least squares between every frame and the mean of all (Lucas and Kanade, IJCAI 1981).

    Args:
        frames: RGB.
        x: Mean of their gradients, sideways.
        y: And down.
        part: Where.
    """
    gradient = np.stack([x[part].ravel(), y[part].ravel()])
    hessian = gradient @ gradient.T
    hessian += 0.01 * np.trace(hessian) * np.eye(2)  # along a line nothing is known
    values = np.stack([frame[part].ravel() for frame in frames]).astype(np.float32)
    slope = gradient @ (values - values.mean(axis=0)).T
    return float(np.sqrt((slope * np.linalg.solve(hessian, slope)).sum() / len(frames) / np.trace(hessian)))


def _pool(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    return cv2.blur(values, (WINDOW, WINDOW))


def _morphed(how: int, mask: Bool[np.ndarray, "H W"], kernel: UInt8[np.ndarray, "k k"]) -> Bool[np.ndarray, "H W"]:
    return cv2.morphologyEx(mask.astype(np.uint8), how, kernel) > 0


def _disk(radius: float) -> UInt8[np.ndarray, "k k"]:
    across = 2 * max(round(radius), 1) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
