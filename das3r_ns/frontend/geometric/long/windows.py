"""A long video through the front end without weights: window by window, then joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.film import Film
from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.together import refine_together
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.frontend.windows import AGAIN, WINDOW, overlapping_windows
from das3r_ns.memory import release_memory
from das3r_ns.progress import Progress
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.lens import Lens

Solve = Callable[[Film, FrontEndConfig, Progress], SceneEstimate]
"""The front end of as many frames as are solved at once."""


class Bends(Exception):
    """A window whose lens bends: all begins anew with pinhole pictures."""

    def __init__(self, lens: Lens) -> None:
        super().__init__()
        self.lens = lens


def estimate_in_windows(solve: Solve, film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """Solve windows one after the other, each as a clip of its own, join them by the frames they share, and refine all.

    What one of them takes besides its result is free again before the next begins.

    Args:
        solve: What solves one.
        film: All frames.
        config: Settings of the front end.
        progress: Where to report.

    Raises:
        Bends: The first window with parallax shows a lens that bends.
    """
    known, (width, height), count = film.known, film.size, len(film.images)
    windows = overlapping_windows(count, WINDOW, AGAIN)
    joined = Joined.empty(count, height, width)
    for number, frames in enumerate(windows):
        progress.say(f"Window {number + 1} of {len(windows)}: frames {frames.start} to {frames.stop - 1}.")
        scene = solve(film.section(frames), config, progress)
        if scene.lens is not None:
            raise Bends(scene.lens)
        if scene.camera_kind == "general":
            film = replace(film, known=replace(film.known, undistorted=True))  # one lens has taken all of them
        place = None if known.c2w_cv is None else Sim3.from_rigid(known.c2w_cv[frames.start])
        message = joined.add(frames, scene, place)
        if message is not None:
            progress.say(message)
        del scene
        release_memory()
    together = None
    if config.points and known.c2w_cv is None and joined.camera_kind == "general":
        together = refine_together(joined, film.images, film.large(), known.intrinsics is not None, progress)
    scene = joined.scene(film.names)
    if together is not None:
        scene.provenance["together"] = together
    if known.c2w_cv is None:
        return scene
    assert known.intrinsics is not None
    return replace(scene, c2w_cv=known.c2w_cv, intrinsics=known.intrinsics)
