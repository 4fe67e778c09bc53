"""Joined windows of a long video refined together: loops closed, and keyframes adjusted on points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation, Slerp

from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.keyframes import Adjusted, Keyframes, adjust_keyframes
from das3r_ns.frontend.geometric.long.loops import Loop, View, find_loops
from das3r_ns.frontend.geometric.long.pose_graph import LOOPS, NEIGHBOURS, SEAM, Graph, close_loops
from das3r_ns.frontend.geometric.points.adjustment import ROUNDS
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.progress import Progress
from das3r_ns.video.clip import SMALL, shrink
from das3r_ns.video.same_place import Look

EVERY, FEWEST, MOST = 6, 160, 400
"""One frame in so many is adjusted with others from all of the video, evenly spread; and how many at least and most."""

APART = 64
"""Frames of the video between two that may close a loop, at least: nearer ones are tied by points in a window."""

ZOOMS = 0.05
"""Relative change of the focal between frames from which one focal does not do."""


def refine_together(
    joined: Joined,
    images: UInt8[np.ndarray, "N H W 3"],
    full_size: Iterator[UInt8[np.ndarray, "H W 3"]],
    focal_known: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Close loops and adjust keyframes; the other frames follow those beside them. ``joined`` is changed in place.

    Taken only where matches held back from it bear it out.

    Args:
        joined: All windows, of a camera that moves.
        images: RGB frames at the working resolution.
        full_size: The same at the size of the video.
        focal_known: Whether the focal stays as it is.
        progress: Where to report.

    Returns:
        For the record.
    """
    count = len(images)
    focals = joined.intrinsics[:, 0, 0]
    if focals.max() > (1 + ZOOMS) * focals.min():
        progress.say("The focals of the windows differ: their cameras are not adjusted together.")
        return {"taken": False}
    wanted = min(count, int(np.clip(count // EVERY, FEWEST, MOST)))
    numbers = np.unique(np.linspace(0, count - 1, wanted).round().astype(int))
    unit = float(np.median(joined.depth[numbers]))
    joined.move(Sim3(np.full(count, 1 / unit), np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))))
    with progress.stage("Same places", len(numbers)) as advance:
        looks = [Look(int(n), cv2.cvtColor(shrink(images[n], SMALL), cv2.COLOR_RGB2GRAY)) for n in numbers]
        apart = round(APART * len(numbers) / count)
        loops = find_loops(looks, lambda k: _view(joined, int(numbers[k])), apart, advance)
        closed, agreed = _closed(joined, numbers, loops)
    before = _keyframes(joined, numbers, joined.c2w_cv[numbers], np.ones(len(numbers)))
    start = _keyframes(joined, numbers, closed.apply_to_cameras(np.tile(np.eye(4), (len(numbers), 1, 1))), closed.scale)
    taking_part = set(numbers.tolist())
    pictures = (picture for number, picture in enumerate(full_size) if number in taking_part)
    with progress.stage("Keyframes", len(numbers) + ROUNDS + 1) as advance:
        pairs = [(loop.first, loop.second) for loop in agreed]
        adjusted = adjust_keyframes(start, before, pictures, pairs, focal_known, advance)
    if adjusted.taken:
        _take(joined, numbers, closed.scale * adjusted.growth, adjusted.c2w_cv)
        if not focal_known:
            joined.intrinsics[:, [0, 1], [0, 1]] = adjusted.focal
    progress.say(_message(adjusted, loops, agreed, len(numbers)))
    return {
        "keyframes": len(numbers),
        "loops": [[int(numbers[loop.first]), int(numbers[loop.second])] for loop in agreed],
        "loops_left_out": len(loops) - len(agreed),
        "taken": adjusted.taken,
        "before": {"share": round(adjusted.before.share, 4), "median": round(adjusted.before.median, 4)},
        "after": {"share": round(adjusted.after.share, 4), "median": round(adjusted.after.median, 4)},
    }


def _message(adjusted: Adjusted, loops: list[Loop], agreed: list[Loop], keyframes: int) -> str:
    found = f"{len(agreed)} pairs of frames far apart see the same place" if agreed else "no place is seen again"
    if len(agreed) < len(loops):
        found += f" ({len(loops) - len(agreed)} more contradict the rest and are left out)"
    before, after = adjusted.before.median, adjusted.after.median
    if not adjusted.taken:
        return (
            f"Windows: {found}, but {keyframes} frames adjusted together explain matches held back no better "
            f"({before:.2f} pixels before, {after:.2f} after); the cameras stay as the windows have them."
        )
    return (
        f"Windows: {found}; {keyframes} frames are adjusted together, matches held back are {before:.2f} pixels off "
        f"before and {after:.2f} after."
    )


def _view(joined: Joined, frame: int) -> View:
    trust = joined.confidence[frame].astype(np.float32) * (1 - joined.dynamic[frame].astype(np.float32))
    return View(joined.intrinsics[frame], joined.depth[frame], np.where(joined.dynamic[frame] < 0.5, trust, 0.0))


def _closed(joined: Joined, numbers: Int[np.ndarray, " K"], loops: list[Loop]) -> tuple[Sim3, list[Loop]]:
    """Places of the keyframes with their loops closed, and the loops that they agree with."""
    places = Sim3.from_rigid(joined.c2w_cv[numbers])
    if not loops:
        return places, []
    start, to = np.arange(len(numbers) - 1), np.arange(1, len(numbers))
    seams = [range(one.start, other.stop) for one, other in zip(joined.windows[1:], joined.windows[:-1], strict=True)]
    seam = np.array([any(numbers[k] in frames for frames in seams) for k in to])
    chain = places[start].inverse() @ places[to]
    first, second = np.array([(loop.first, loop.second) for loop in loops]).T
    motion = Sim3(
        np.concatenate([chain.scale, [loop.motion.scale for loop in loops]]),
        np.concatenate([chain.rotation, [loop.motion.rotation for loop in loops]]),
        np.concatenate([chain.translation, [loop.motion.translation for loop in loops]]),
    )
    error = np.concatenate([np.where(seam[:, None], SEAM, NEIGHBOURS), np.tile(LOOPS, (len(loops), 1))])
    is_loop = np.arange(len(error)) >= len(start)
    graph = Graph(np.concatenate([start, first]), np.concatenate([to, second]), motion, error, is_loop)
    closed, agrees = close_loops(places, graph)
    return closed, [loop for loop, agree in zip(loops, agrees[is_loop], strict=True) if agree]


def _keyframes(
    joined: Joined,
    numbers: Int[np.ndarray, " K"],
    c2w_cv: Float[np.ndarray, "K 4 4"],
    growth: Float[np.ndarray, " K"],
) -> Keyframes:
    return Keyframes(
        c2w_cv,
        float(np.exp(np.log(joined.intrinsics[numbers, 0, 0]).mean())),
        joined.depth[numbers] * growth[:, None, None].astype(np.float32),
        1 - joined.dynamic[numbers].astype(np.float32),
    )


def _take(
    joined: Joined,
    numbers: Int[np.ndarray, " K"],
    growth: Float[np.ndarray, " K"],
    c2w_cv: Float[np.ndarray, "K 4 4"],
) -> None:
    """Move the keyframes to their new places, and all others as those beside them are moved.

    Args:
        joined: Changed in place.
        numbers: The keyframes; the first and the last frame are among them.
        growth: Factor of the depth of each.
        c2w_cv: Their new cameras.
    """
    old, frames = joined.c2w_cv, np.arange(len(joined.c2w_cv))
    turns = Rotation.from_matrix(c2w_cv[:, :3, :3] @ old[numbers, :3, :3].swapaxes(1, 2))
    scale = np.exp(np.interp(frames, numbers, np.log(growth)))
    rotation = Slerp(numbers, turns)(frames).as_matrix()
    after = np.minimum(np.searchsorted(numbers, frames, side="right"), len(numbers) - 1)
    centres = np.zeros((len(frames), 3))
    share = (frames - numbers[after - 1]) / (numbers[after] - numbers[after - 1])
    for k, part in ((after - 1, 1 - share), (after, share)):
        moved = np.einsum("nij,nj->ni", turns.as_matrix()[k], old[:, :3, 3] - old[numbers[k], :3, 3])
        centres += part[:, None] * (c2w_cv[k, :3, 3] + growth[k, None] * moved)
    shift = centres - scale[:, None] * np.einsum("nij,nj->ni", rotation, old[:, :3, 3])
    joined.move(Sim3(scale, rotation, shift))
