"""Joined windows of a long video refined together: loops closed, and keyframes adjusted on points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation, Slerp

from das3r_ns.frontend.geometric.long.joined import SAMPLES, Joined
from das3r_ns.frontend.geometric.long.keyframes import Adjusted, Keyframes, adjust_keyframes
from das3r_ns.frontend.geometric.loops.clip import APART, close_chain, gap_of
from das3r_ns.frontend.geometric.loops.pose_graph import NEIGHBOURS, SEAM
from das3r_ns.frontend.geometric.loops.returns import may_meet, nearest
from das3r_ns.frontend.geometric.loops.search import Loop, View, find_loops
from das3r_ns.frontend.geometric.points.adjustment import ROUNDS
from das3r_ns.frontend.geometric.points.ends import Ends
from das3r_ns.frontend.pairs import Pair
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.video.clip import SMALL, shrink
from das3r_ns.video.same_place import Look

EVERY, FEWEST, MOST = 6, 160, 400
"""One frame in so many is adjusted with others from all of the video, evenly spread; and how many at least and most."""

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
    pairs = tuple((loop.first, loop.second) for loop in agreed)
    gap = gap_of(joined.c2w_cv[numbers], agreed)
    ends = Ends(_nearest(joined, numbers, apart, loops), pairs, len(loops) - len(agreed), gap)
    before = _keyframes(joined, numbers, joined.c2w_cv[numbers], np.ones(len(numbers)))
    start = _keyframes(joined, numbers, closed.apply_to_cameras(np.tile(np.eye(4), (len(numbers), 1, 1))), closed.scale)
    taking_part = set(numbers.tolist())
    pictures = (picture for number, picture in enumerate(full_size) if number in taking_part)
    with progress.stage("Keyframes", len(numbers) + ROUNDS + 1) as advance:
        adjusted = adjust_keyframes(start, before, pictures, ends, focal_known, advance)
    if adjusted.taken:
        _take(joined, numbers, closed.scale * adjusted.growth, adjusted.c2w_cv)
        if not focal_known:
            joined.intrinsics[:, [0, 1], [0, 1]] = adjusted.focal
    progress.say(_message(adjusted, loops, agreed, len(numbers)))
    return {
        "keyframes": len(numbers),
        "ends": adjusted.ends.of(numbers).provenance(),
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
    seams = [range(one.start, other.stop) for one, other in zip(joined.windows[1:], joined.windows[:-1], strict=True)]
    seam = np.array([any(k in frames for frames in seams) for k in numbers[1:]])
    return close_chain(places, loops, np.where(seam[:, None], SEAM, NEIGHBOURS))


def _nearest(joined: Joined, numbers: Int[np.ndarray, " K"], apart: int, loops: list[Loop]) -> Pair | None:
    """Two keyframes where the path comes back, or may do so; None where it does not."""
    intrinsics, (height, width) = joined.intrinsics[numbers], joined.depth.shape[1:]
    step = max(1, int(np.sqrt(height * width / SAMPLES)))
    at = (slice(step // 2, None, step), slice(step // 2, None, step))
    points = np.tile(geo.pixel_centres(height, width)[at].reshape(1, -1, 2), (len(numbers), 1, 1))
    depth = np.stack([joined.depth[n][at].ravel() for n in numbers])
    may = may_meet(joined.c2w_cv[numbers], intrinsics, (width, height), points, depth, apart)
    if loops:
        may[[loop.first for loop in loops], [loop.second for loop in loops]] = True
    return nearest(joined.c2w_cv[numbers], may)


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
