"""Long videos: overlapping windows are aligned on their own and joined by similarities on the frames they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.alignment.result import AlignmentResult
from das3r_ns.frontend.similarity import Sim3, blended_camera, register_points
from das3r_ns.frontend.windows import POOR_FIT, badly_joined, fade_in
from das3r_ns.scene import geometry as geo

JOIN_SAMPLES = 400
"""Points of each shared frame that windows are registered by."""


def join_windows(
    results: Sequence[AlignmentResult],
    frames: Sequence[Sequence[int]],
    shared_focal: bool = True,
    refine: Callable[[AlignmentResult], AlignmentResult] | None = None,
    placed: bool = False,
) -> AlignmentResult:
    """One result for all frames.

    Each window is brought into the world of those before it by the robust similarity of the points of the frames they
    share (so that depth sets the scale, and a camera that stood still will do), and fades into them there.

    Args:
        results: Of each window.
        frames: The frame numbers of each; every window after the first shares one with those before it at least.
        shared_focal: Whether all frames get one focal, the mean of all windows'.
        refine: Called with the joined result, for a global refinement; gives the one to return.
        placed: Whether all windows are in one world already, as they are where the poses were known.

    Raises:
        Das3rError: A window shares no frame with those before it, or a frame is in no window.
    """
    if not results or len(results) != len(frames):
        raise ValueError(f"{len(results)} results for {len(frames)} windows")
    for k, (result, numbers) in enumerate(zip(results, frames, strict=True)):
        if result.num_frames != len(numbers) or len(set(numbers)) != len(numbers):
            raise ValueError(f"window {k} has {result.num_frames} frames and the numbers {list(numbers)}")
    count = 1 + max(max(numbers) for numbers in frames)
    joined = _empty(count, results[0])
    known = np.zeros(count, dtype=bool)
    for k, (result, numbers) in enumerate(zip(results, frames, strict=True)):
        numbers = np.asarray(numbers)
        if k > 0:
            shared = np.flatnonzero(known[numbers])
            if len(shared) == 0:
                raise Das3rError(
                    f"Window {k + 1} ({numbers[0]} to {numbers[-1]}) shares no frame with those before it."
                )
            fit, misfit = Sim3.identity(), 0.0
            if not placed:
                fit, misfit = register(result, shared, joined, numbers[shared])
            if misfit > POOR_FIT:
                joined.messages.append(badly_joined(numbers[0], numbers[-1], misfit))
            result = replace(result, c2w_cv=fit.apply_to_cameras(result.c2w_cv), depth=result.depth * float(fit.scale))
        share = fade_in(numbers, known)
        for local, frame in enumerate(numbers):
            _blend(joined, frame, result, local, float(share[local]))
        known[numbers] = True
        joined.messages += [f"Frames {numbers[0]} to {numbers[-1]}: {text}" for text in result.messages]
    if not known.all():
        raise Das3rError(f"Frames {np.flatnonzero(~known).tolist()} are in no window.")
    if shared_focal:
        joined.focals[:] = np.exp(np.log(joined.focals).mean())
    joined = _from_first_camera(joined)
    return joined if refine is None else refine(joined)


def register(
    source: AlignmentResult, source_frames: np.ndarray, target: AlignmentResult, target_frames: np.ndarray
) -> tuple[Sim3, float]:
    """Similarity from the world of one result to that of another, by the frames they share.

    Args:
        source: What is to be moved.
        source_frames: Its numbers of the shared frames.
        target: Where to.
        target_frames: Its numbers of the same frames.

    Returns:
        The similarity, and the median distance that remains as a share of the points' extent.
    """
    points, goals, weights = [], [], []
    for a, b in zip(source_frames, target_frames, strict=True):
        here, trust_here = _points(source, int(a))
        there, trust_there = _points(target, int(b))
        points.append(here)
        goals.append(there)
        weights.append(np.sqrt(trust_here * trust_there))
    return register_points(*(np.concatenate(parts) for parts in (points, goals, weights)))


def _points(result: AlignmentResult, frame: int) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, " K"]]:
    """World points of some pixels of a frame, and how far each is to be believed (near ones more: they err less)."""
    height, width = result.depth.shape[1:]
    step = max(1, int(np.sqrt(height * width / JOIN_SAMPLES)))
    at = (slice(step // 2, None, step), slice(step // 2, None, step))
    depth = result.depth[frame][at].astype(np.float64)
    pixels = geo.pixel_centres(height, width)[at]
    points = geo.transform_points(result.c2w_cv[frame], geo.unproject(pixels, depth, result.intrinsics[frame]))
    trust = np.log(np.maximum(result.confidence[frame][at], 1.001)) * (0.1 + (result.clean_confidence[frame][at] > 0))
    if result.dynamic_mean is not None:
        trust = trust * (1.05 - result.dynamic_mean[frame][at])
    return points.reshape(-1, 3), (trust / depth).ravel() * float(np.median(depth))


def _empty(count: int, like: AlignmentResult) -> AlignmentResult:
    shape = (count, *like.depth.shape[1:])
    depth, confidence, clean, mean, highest = (np.zeros(shape, np.float32) for _ in range(5))
    c2w, focals = np.tile(np.eye(4), (count, 1, 1)), np.ones(count)
    if like.dynamic_mean is None:
        return AlignmentResult(c2w, focals, depth, confidence, clean)
    return AlignmentResult(c2w, focals, depth, confidence, clean, mean, highest)


def _blend(joined: AlignmentResult, frame: int, new: AlignmentResult, local: int, share: float) -> None:
    """Take a share of the new estimate of a frame: 0 leaves it as it is, 1 replaces it."""

    def mix(old: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return fresh if share >= 1.0 else (1 - share) * old + share * fresh

    joined.c2w_cv[frame] = blended_camera(joined.c2w_cv[frame], new.c2w_cv[local], share)
    joined.focals[frame] = float(mix(joined.focals[frame], new.focals[local]))
    joined.depth[frame] = mix(joined.depth[frame], new.depth[local])
    joined.confidence[frame] = np.maximum(joined.confidence[frame], new.confidence[local])
    joined.clean_confidence[frame] = mix(joined.clean_confidence[frame], new.clean_confidence[local])
    if joined.dynamic_mean is not None and new.dynamic_mean is not None:
        joined.dynamic_mean[frame] = mix(joined.dynamic_mean[frame], new.dynamic_mean[local])
    if joined.dynamic_max is not None and new.dynamic_max is not None:
        joined.dynamic_max[frame] = np.maximum(joined.dynamic_max[frame], new.dynamic_max[local])


def _from_first_camera(result: AlignmentResult) -> AlignmentResult:
    """Camera 0 as the world frame, which blending in later windows may have moved."""
    return replace(result, c2w_cv=geo.invert_rigid(result.c2w_cv[0]) @ result.c2w_cv)
