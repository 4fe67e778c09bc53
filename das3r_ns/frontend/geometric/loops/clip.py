"""Loops of a clip that is solved at once: found where its path may come back, and closed by a pose graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.loops.pose_graph import LOOPS, NEIGHBOURS, Graph, close_loops
from das3r_ns.frontend.geometric.loops.returns import may_meet, nearest
from das3r_ns.frontend.geometric.loops.search import Loop, View, find_loops
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.scene import geometry as geo
from das3r_ns.video.clip import SMALL, shrink
from das3r_ns.video.same_place import Look

APART = 64
"""Frames between two that may close a loop, at least: nearer ones are tied by points anyway."""

MOST = 80
"""Frames that are looked at, at most, evenly spread."""


@dataclass(frozen=True)
class Returned:
    """Places that the camera comes back to."""

    loops: list[Loop]
    """Pairs of frames, by their numbers in the clip, that see the same place, and that agree with each other."""
    left_out: int
    """Further pairs, which contradict these."""
    nearest: tuple[int, int]
    """Two frames where the path comes back, or may do so."""
    closed: BundleResult
    """The cameras with these loops closed as far as a few features tell, and the depth in step with them."""
    gap: float
    """Distance by which the path missed these places, in shares of the way between: the median of all loops; 0 without
    any."""


def look_back(
    result: BundleResult,
    greys: Sequence[UInt8[np.ndarray, "H W"]],
    static_weight: Float[np.ndarray, "N h w"] | None = None,
) -> Returned | None:
    """Look for frames far apart in time that see the same place, and move the cameras so that they do.

    Args:
        result: Cameras and depth of a clip.
        greys: Its frames, at any size.
        static_weight: Probability that each pixel is static, at any size; None = not known.

    Returns:
        None where the path does not come back to anywhere, by far: then no picture is looked at.
    """
    count = len(result.c2w_cv)
    if count <= APART + 1:
        return None
    numbers = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int))
    apart = round(APART * (len(numbers) - 1) / (count - 1))
    size = (result.width, result.height)
    points = result.points[numbers].reshape(len(numbers), -1, 2)
    depth = 1 / result.inverse_depth[numbers].reshape(len(numbers), -1)
    may = may_meet(result.c2w_cv[numbers], result.frame_intrinsics[numbers], size, points, depth, apart)
    back = nearest(result.c2w_cv[numbers], may)
    if back is None:
        return None

    @cache
    def view(k: int) -> View:
        frame = int(numbers[k])
        depth = 1 / cv2.resize(result.inverse_depth[frame], size, interpolation=cv2.INTER_LINEAR)
        measured = result.information[frame]
        trust = cv2.resize(measured / (measured + np.median(measured) + 1e-12), size, interpolation=cv2.INTER_LINEAR)
        if static_weight is not None:
            stays = cv2.resize(np.asarray(static_weight[frame], np.float32), size, interpolation=cv2.INTER_AREA)
            trust = np.where(stays > 0.5, trust * stays, 0.0)
        return View(result.frame_intrinsics[frame], depth, trust)

    looks = [Look(int(n), shrink(greys[n], SMALL)) for n in numbers]
    found = [
        replace(loop, first=int(numbers[loop.first]), second=int(numbers[loop.second]))
        for loop in find_loops(looks, view, apart, may=may)
    ]
    between = int(numbers[back[0]]), int(numbers[back[1]])
    if not found:
        return Returned([], 0, between, result, 0.0)
    places, agreed = close_chain(Sim3.from_rigid(result.c2w_cv), found, NEIGHBOURS)
    return Returned(agreed, len(found) - len(agreed), between, _moved(result, places), gap_of(result.c2w_cv, agreed))


def close_chain(places: Sim3, loops: list[Loop], error: Float[np.ndarray, "#M 7"]) -> tuple[Sim3, list[Loop]]:
    """Frames one after the other with their loops closed, and the loops that they agree with.

    Args:
        places: Cameras to world, of K frames.
        loops: Pairs of them that see the same place.
        error: Standard errors from each frame to the next, see ``pose_graph``.
    """
    count = len(places.scale)
    start, to = np.arange(count - 1), np.arange(1, count)
    chain = places[start].inverse() @ places[to]
    first, second = np.array([(loop.first, loop.second) for loop in loops]).T
    motion = Sim3(
        np.concatenate([chain.scale, [loop.motion.scale for loop in loops]]),
        np.concatenate([chain.rotation, [loop.motion.rotation for loop in loops]]),
        np.concatenate([chain.translation, [loop.motion.translation for loop in loops]]),
    )
    errors = np.concatenate([np.broadcast_to(error, (count - 1, 7)), np.tile(LOOPS, (len(loops), 1))])
    is_loop = np.arange(len(errors)) >= count - 1
    graph = Graph(np.concatenate([start, first]), np.concatenate([to, second]), motion, errors, is_loop)
    closed, agrees = close_loops(places, graph)
    return closed, [loop for loop, agree in zip(loops, agrees[is_loop], strict=True) if agree]


def gap_of(c2w_cv: Float[np.ndarray, "N 4 4"], loops: list[Loop]) -> float:
    """How far the second frame of a loop is from where the first one sees it, in shares of the way between: the median.

    Args:
        c2w_cv: Cameras to world.
        loops: By the numbers of these; 0 without any.
    """
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(c2w_cv[:, :3, 3], axis=0), axis=1))])
    gaps = []
    for loop in loops:
        expected = geo.transform_points(c2w_cv[loop.first], loop.motion.translation[None])[0]
        missed = np.linalg.norm(expected - c2w_cv[loop.second, :3, 3])
        gaps.append(missed / max(way[loop.second] - way[loop.first], 1e-12))
    return float(np.median(gaps)) if gaps else 0.0


def _moved(result: BundleResult, places: Sim3) -> BundleResult:
    """The solution with its frames at these places, in units where the median inverse depth is 1."""
    inverse_depth = result.inverse_depth / places.scale[:, None, None]
    unit = float(np.median(inverse_depth))
    c2w = places.apply_to_cameras(np.tile(np.eye(4), (len(inverse_depth), 1, 1)))
    c2w = geo.invert_rigid(c2w[0]) @ c2w
    c2w[:, :3, 3] *= unit
    return replace(
        result,
        c2w_cv=c2w,
        inverse_depth=inverse_depth / unit,
        information=result.information * (places.scale[:, None, None] * unit) ** 2,
    )
