"""A long video through the front end without weights: window by window, then joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.together import refine_together
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.frontend.windows import AGAIN, WINDOW, overlapping_windows
from das3r_ns.progress import Progress
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.lens import Lens

FullSize = Callable[[], Iterator[UInt8[np.ndarray, "H W 3"]]]
"""Gives the frames at the size of the video, one after the other."""


class Solve(Protocol):
    """The front end of as many frames as are solved at once."""

    def __call__(
        self,
        images: UInt8[np.ndarray, "N H W 3"],
        names: list[str],
        config: FrontEndConfig,
        progress: Progress,
        known: Known,
        full_size: FullSize | None,
    ) -> SceneEstimate: ...


class Bends(Exception):
    """A window whose lens bends: all begins anew with pinhole pictures."""

    def __init__(self, lens: Lens) -> None:
        super().__init__()
        self.lens = lens


def estimate_in_windows(
    solve: Solve,
    images: UInt8[np.ndarray, "N H W 3"],
    names: list[str],
    config: FrontEndConfig,
    progress: Progress,
    known: Known,
    full_size: FullSize | None = None,
) -> SceneEstimate:
    """Solve windows one after the other, each as a clip of its own, join them by the frames they share, and refine all.

    What one of them takes besides its result is free again before the next begins.

    Args:
        solve: What solves one.
        images: RGB frames at the working resolution.
        names: Name of each.
        config: Settings of the front end.
        progress: Where to report.
        known: What the user knows of the video.
        full_size: The same frames at the size of the video; None = ``images`` have it.

    Raises:
        Bends: The first window with parallax shows a lens that bends.
    """
    count, height, width = images.shape[:3]
    windows = overlapping_windows(count, WINDOW, AGAIN)
    joined = Joined.empty(count, height, width)
    for number, frames in enumerate(windows):
        progress.say(f"Window {number + 1} of {len(windows)}: frames {frames.start} to {frames.stop - 1}.")
        scene = _solve_window(solve, frames, images, names, config, progress, known, full_size)
        if scene.lens is not None:
            raise Bends(scene.lens)
        if scene.camera_kind == "general":
            known = replace(known, undistorted=True)  # one lens has taken all of them
        place = None if known.c2w_cv is None else Sim3.from_rigid(known.c2w_cv[frames.start])
        message = joined.add(frames, scene, place)
        if message is not None:
            progress.say(message)
        del scene
    together = None
    if config.points and known.c2w_cv is None and joined.camera_kind == "general":
        frames_at_full_size = iter(images) if full_size is None else full_size()
        together = refine_together(joined, images, frames_at_full_size, known.intrinsics is not None, progress)
    scene = joined.scene(names)
    if together is not None:
        scene.provenance["together"] = together
    if known.c2w_cv is None:
        return scene
    assert known.intrinsics is not None
    return replace(scene, c2w_cv=known.c2w_cv, intrinsics=known.intrinsics)


def _solve_window(
    solve: Solve,
    frames: range,
    images: UInt8[np.ndarray, "N H W 3"],
    names: list[str],
    config: FrontEndConfig,
    progress: Progress,
    known: Known,
    full_size: FullSize | None,
) -> SceneEstimate:
    part = slice(frames.start, frames.stop)

    def full_size_part() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        assert full_size is not None
        return islice(full_size(), frames.start, frames.stop)

    return solve(
        images[part],
        names[part],
        config,
        progress,
        known.section(frames),
        None if full_size is None else full_size_part,
    )
