"""Depth of every pixel, with its confidence, once the cameras are known."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric import dense_depth_kernels as kernels
from das3r_ns.frontend.geometric.bundle.flow_samples import texture_weight
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.pair_kernels import tolerances
from das3r_ns.frontend.geometric.smoothing_kernels import smooth_along_image
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

if TYPE_CHECKING:
    import torch

FLOW_NOISE = 0.15
"""Pixels by which flow errs on well-textured ground."""

CORRELATED = 3.0
"""How many flows of one pixel say as much as one independent one would: strides share their texture and its errors."""

RELATIVE_ERROR_HALF = 0.05
"""Expected relative error of a depth at which its confidence has fallen to one half."""

AGREEMENT = 0.05
"""Relative difference up to which the depths of two frames agree."""

FAR = 0.25
"""Share of the median inverse depth below which errors count relative to this instead: that a point is far away can be
certain although its distance is not."""

COMPARED_FRAMES = (1, 2, 4, 8)
"""Distances, both ways, of the frames whose depths are compared."""

FILL_ROUNDS = 4
"""Rounds of the smoothing that fills what is not known."""


@dataclass(frozen=True)
class Filling:
    """How what is not known takes its depth from around."""

    believed: float
    """Confidence from which a depth stays as it was measured; one of less is blended with what is around."""
    strengths: tuple[float, ...]
    """Strengths of the smoothing, one pass after the other, each of which starts from what the last one has filled."""
    like: float
    """Difference in colour (L*a*b*, as OpenCV scales it) at which two pixels are neighbours by a third only."""


SMOOTH = Filling(believed=0.3, strengths=(2000.0,), like=6.0)
"""For depth from optical flow, which follows a mover: what lies around reaches all across it."""

CLOSE = Filling(believed=0.1, strengths=(2000.0, 20.0), like=3.0)
"""For depth from stereo, which is right or has no confidence. Near things are measured best, so blending pulls towards
them, and points that hang in the air before everything else are the price; a gap takes its depth from its next
neighbours, wherever there are some."""


@dataclass(frozen=True)
class DenseDepth:
    """Depth of one frame as it was measured there alone."""

    inverse_depth: Float[np.ndarray, "H W"]
    """One over camera z, positive, float32."""
    confidence: Float[np.ndarray, "H W"]
    """0 (a guess) to 1, float32."""


@dataclass(frozen=True)
class Sight:
    """How frames see each other, all through one pinhole whose principal point is the centre of the picture."""

    motion: Callable[[int, list[int]], Float[np.ndarray, "M 4 4"]]
    """Motion from a frame to others; cameras that differ are folded in (see ``bundle.known_poses.lenses``)."""
    focal: float
    """In pixels of the depth."""
    far: float
    """Inverse depth below which errors count relative to this instead (see FAR)."""

    def relative(self, i: int, others: list[int]) -> tuple[Float[np.ndarray, "M 3 3"], Float[np.ndarray, "M 3"]]:
        """Linear parts and translations of the motions from frame i to others, for the kernels."""
        pose = self.motion(i, others)
        return np.ascontiguousarray(pose[:, :3, :3]), np.ascontiguousarray(pose[:, :3, 3])


def dense_depth(
    flows: PairFlows,
    bundle: BundleResult,
    images: UInt8[np.ndarray, "N h w 3"],
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    on_frame: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> tuple[Float[np.ndarray, "N h w"], Float[np.ndarray, "N h w"]]:
    """Depth of every pixel from all the flows of its frame, checked against the other frames.

    With the cameras held, each inverse depth is a one-dimensional robust least-squares problem. Its confidence comes
    from the parallax and texture there are, from whether the flows agree, and from whether the depths of other frames
    agree. Movers and what is not known are filled from around, along the edges of the picture.

    Args:
        flows: The flow that was adjusted.
        bundle: Cameras and coarse depth.
        images: RGB frames at the resolution of the depth wanted.
        static_weight: Probability that each pixel is static, at the resolution of the flow; None = not known.
        on_frame: Called twice for each frame, for progress bars.
        device: Where to work in torch; None = compiled by numba, on the CPU.

    Returns:
        depth: Camera z, positive and finite.
        confidence: 0 (a guess) to 1. Zero everywhere where the camera does not move.
    """
    size = (images.shape[2], images.shape[1])
    if bundle.camera_kind != "general":
        return _sphere(bundle, len(images), size)
    sight = Sight(bundle.relative, bundle.focal, FAR * float(np.median(bundle.inverse_depth)))

    def measure(i: int) -> DenseDepth:
        static = None if static_weight is None else static_weight[i]
        how = _measure if device is None else partial(_measure_on, device)
        out = how(flows, bundle, sight, i, static)
        on_frame()
        return out

    if device is not None:  # it is one, whose work lines up anyway
        measured = [measure(i) for i in range(flows.num_frames)]
    else:
        with ThreadPoolExecutor(max_workers=workers(locked=0.07)) as pool:
            measured = list(pool.map(measure, range(flows.num_frames)))
    return agree_and_fill(measured, sight, images, SMOOTH, on_frame, device)


def agree_and_fill(
    measured: list[DenseDepth],
    sight: Sight,
    images: UInt8[np.ndarray, "N h w 3"],
    filling: Filling,
    on_frame: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> tuple[Float[np.ndarray, "N h w"], Float[np.ndarray, "N h w"]]:
    """Check the depths of all frames against each other, and fill what is not known along the edges of the picture.

    Args:
        measured: Depth of every frame.
        sight: How the frames see each other.
        images: RGB frames at the resolution of the depth wanted.
        filling: How to fill.
        on_frame: Called once for each frame.
        device: As in :func:`dense_depth`.

    Returns:
        depth: Camera z, positive and finite.
        confidence: 0 (a guess) to 1.
    """
    if device is not None:
        return _agree_and_fill_on(device, measured, sight, images, filling, on_frame)

    def finish(i: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        out = _fill(_cross_check(measured, sight, i), images[i], filling)
        on_frame()
        return out

    with ThreadPoolExecutor(max_workers=workers(locked=0.07)) as pool:
        finished = list(pool.map(finish, range(len(measured))))
    return np.stack([depth for depth, _ in finished]), np.stack([confidence for _, confidence in finished])


def _agree_and_fill_on(
    device: torch.device,
    measured: list[DenseDepth],
    sight: Sight,
    images: UInt8[np.ndarray, "N h w 3"],
    filling: Filling,
    on_frame: Callable[[], None],
) -> tuple[Float[np.ndarray, "N h w"], Float[np.ndarray, "N h w"]]:
    """The same on a device of torch."""
    from das3r_ns.frontend.geometric.torch_kernels import filling as torch_filling

    others = [_compared(i, len(measured)) for i in range(len(measured))]
    with ThreadPoolExecutor(max_workers=workers(locked=0.07)) as pool:
        lab = np.stack(list(pool.map(_lab, images)))
    return torch_filling.agree_and_fill(
        np.stack([frame.inverse_depth for frame in measured]),
        np.stack([frame.confidence for frame in measured]),
        [torch_filling.Seen(them, *sight.relative(i, them)) for i, them in enumerate(others)],
        lab,
        {"focal": sight.focal, "tolerance": AGREEMENT, "far": sight.far},
        {**vars(filling), "rounds": FILL_ROUNDS},
        device,
        on_frame,
    )


def _sphere(
    bundle: BundleResult, count: int, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "N h w"], Float[np.ndarray, "N h w"]]:
    """Every point at distance 1 from the camera: the one depth that frames of a turning camera agree on."""
    intrinsics = geo.resize_intrinsics(bundle.frame_intrinsics, (bundle.width, bundle.height), size)
    pixels, ones = geo.pixel_centres(size[1], size[0]), np.ones(size[::-1])
    depth = np.empty((count, *ones.shape), dtype=np.float32)
    for i, k in enumerate(intrinsics):
        depth[i] = 1.0 / np.linalg.norm(geo.unproject(pixels, ones, k), axis=-1)
    return depth, np.zeros_like(depth)


def _measure(
    flows: PairFlows,
    bundle: BundleResult,
    sight: Sight,
    i: int,
    static_weight: Float[np.ndarray, "H W"] | None,
) -> DenseDepth:
    """Inverse depth of one frame from its flows, and how well they determine it."""
    others = [b for a, b in flows.pairs if a == i and (b, a) in flows.fields]
    fields = np.stack([flows.flow(i, j) for j in others])
    missed = [tolerances(field, flows.backward_error(i, j), 0.02) for field, j in zip(fields, others, strict=True)]
    tolerance, square = (np.stack(part) for part in zip(*missed, strict=True))
    weights = np.exp(-square, out=square)
    weights[weights < 1e-3] = 0.0
    rotations, translations = sight.relative(i, others)
    start = _starts(bundle, i, (flows.width, flows.height))
    median = float(np.median(bundle.inverse_depth))
    inverse_depth, information, loss = kernels.inverse_depth_from_flows(
        start, fields, weights, tolerance, rotations, translations, bundle.focal, (1e-3 * median, 50.0 * median)
    )
    # The kernel counts residuals in units of the tolerance; what they really err by depends on the texture.
    texture = texture_weight(flows.texture[i])
    mean_square = (weights * tolerance**2).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-6)
    sharp = information * mean_square * texture / (FLOW_NOISE**2 * CORRELATED)
    scale = np.maximum(inverse_depth, FAR * median)
    relative_square = 1.0 / np.maximum(sharp * scale**2, 1e-9)
    confidence = 1.0 / (1.0 + relative_square / RELATIVE_ERROR_HALF**2)
    confidence *= np.clip(1.0 - 1.5 * loss, 0.0, 1.0)
    if static_weight is not None:
        confidence *= np.clip(2.0 * static_weight - 1.0, 0.0, 1.0)
    return DenseDepth(inverse_depth, confidence.astype(np.float32))


def _starts(bundle: BundleResult, i: int, size: tuple[int, int]) -> Float[np.ndarray, "2 H W"]:
    """Two inverse depths to start from: the grid smoothly, and its nearest point, which keeps the step at an edge."""
    grid = bundle.inverse_depth[i].astype(np.float32)
    return np.stack([cv2.resize(grid, size, interpolation=how) for how in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)])


def _measure_on(
    device: torch.device,
    flows: PairFlows,
    bundle: BundleResult,
    sight: Sight,
    i: int,
    static_weight: Float[np.ndarray, "H W"] | None,
) -> DenseDepth:
    """:func:`_measure` by torch."""
    from das3r_ns.frontend.geometric.torch_kernels.flow_depth import measured

    others = [b for a, b in flows.pairs if a == i and (b, a) in flows.fields]
    there, back = (np.stack([flows.fields[pair] for pair in pairs]) for pairs in _both_ways(i, others))
    median = float(np.median(bundle.inverse_depth))
    worth = texture_weight(flows.texture[i]) / (FLOW_NOISE**2 * CORRELATED)
    if static_weight is not None:
        static_weight = np.clip(2.0 * static_weight - 1.0, 0.0, 1.0)
    rays, offsets = sight.relative(i, others)
    found = measured(
        there, back, _starts(bundle, i, (flows.width, flows.height)), rays, offsets, bundle.focal,
        (1e-3 * median, 50.0 * median), worth, FAR * median, RELATIVE_ERROR_HALF, static_weight, device=device,
    )  # fmt: skip
    return DenseDepth(*found)


def _both_ways(i: int, others: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return [(i, j) for j in others], [(j, i) for j in others]


def _compared(i: int, count: int) -> list[int]:
    """The frames whose depth is compared with that of frame i."""
    return [i + s for step in COMPARED_FRAMES for s in (-step, step) if 0 <= i + s < count]


def _cross_check(measured: list[DenseDepth], sight: Sight, i: int) -> DenseDepth:
    """Average the inverse depth of one frame with those of others that agree, and doubt it where they do not."""
    own = measured[i]
    others = _compared(i, len(measured))
    rotations, translations = sight.relative(i, others)
    depths = np.stack([measured[j].inverse_depth for j in others])
    trust = np.stack([measured[j].confidence for j in others])
    summed, agree, contradict = kernels.compare_frames(
        own.inverse_depth, depths, trust, rotations, translations, sight.focal, AGREEMENT, sight.far
    )
    weight = own.confidence + agree
    fused = (own.confidence * own.inverse_depth + summed) / np.maximum(weight, 1e-6)
    inverse_depth = np.where(weight > 1e-3, fused, own.inverse_depth)
    # One confident frame that agrees makes up for little; one that contradicts counts fully.
    support = agree / (agree + contradict + 0.3)
    return DenseDepth(inverse_depth.astype(np.float32), (own.confidence * support).astype(np.float32))


def _fill(
    frame: DenseDepth, image: UInt8[np.ndarray, "h w 3"], filling: Filling
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Depth and confidence at the resolution of the image; what is not known comes from around, along its edges."""
    size = (image.shape[1], image.shape[0])
    confidence, inverse_depth = frame.confidence, frame.inverse_depth
    if inverse_depth.shape != image.shape[:2]:
        confidence = cv2.resize(confidence * _even(inverse_depth), size, interpolation=cv2.INTER_LINEAR)
        inverse_depth = cv2.resize(inverse_depth, size, interpolation=cv2.INTER_LINEAR)
    weight = confidence**2
    floor = 1e-4 * float(np.mean(weight)) + 1e-12
    across, down = _likeness(_lab(image).astype(np.float32), filling.like)
    around = inverse_depth
    for strength in filling.strengths:
        sums = np.stack([weight * inverse_depth + floor * around, weight + floor]).astype(np.float32)
        summed, total = smooth_along_image(sums, across, down, strength, FILL_ROUNDS)
        around = summed / np.maximum(total, 1e-20)
    own = np.clip(confidence / filling.believed, 0.0, 1.0)
    blended = own * inverse_depth + (1.0 - own) * around
    low, high = np.percentile(inverse_depth, [0.1, 99.9])
    blended = np.clip(blended, max(low, 1e-6), max(high, 1e-6))
    return (1.0 / blended).astype(np.float32), np.clip(confidence, 0.0, 1.0).astype(np.float32)


def _lab(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, slightly blurred, in L*a*b*."""
    return cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2LAB)


def _even(inverse_depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """0 on a step of the depth, 1 away from it: interpolation there would hang points in the air."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    spread = cv2.dilate(inverse_depth, kernel) - cv2.erode(inverse_depth, kernel)
    return np.clip(2.0 - spread / (0.05 * inverse_depth), 0.0, 1.0)


def _likeness(
    lab: Float[np.ndarray, "h w 3"], like: float
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """How alike each pixel is to the one on its right and to the one below, 0 to 1."""
    across = np.zeros(lab.shape[:2], dtype=np.float32)
    down = np.zeros(lab.shape[:2], dtype=np.float32)
    across[:, :-1] = np.exp(-np.linalg.norm(np.diff(lab, axis=1), axis=-1) / like)
    down[:-1] = np.exp(-np.linalg.norm(np.diff(lab, axis=0), axis=-1) / like)
    return across, down
