"""Seed points for the Gaussians: the static depth of all frames, fused into one cloud.

Two ways to seed. ``fused`` (this project's): a surface that many frames see becomes one set of points, about one per
``cell`` pixels of the frame that saw it closest, placed at the weighted mean of all frames that agree. ``per_pixel``
(DAS3R's): one point per confident pixel of every frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from das3r_ns.scene.estimate import SceneEstimate, depth_tolerance
from das3r_ns.scene.geometry import invert_rigid, pixel_centres, transform_points, unproject
from das3r_ns.scene.points_kernels import observe_known, observe_new

if TYPE_CHECKING:
    import torch

MEASURED = 0.1
"""Depth of at least this confidence counts as measured; below it is a smooth guess."""
STATIC = 0.5
"""Pixels of at least this static weight count as static."""
SPARSE = 3.0
"""Guessed depth (sky, blank walls) is seeded at this many times the spacing where other depth is measured, and what
moves too where it is wanted: no other frame can share the points of a mover, so they would outnumber all others."""
COARSE = 3.0
"""Spacing of the cloud that tells how many points there will be, relative to the finest that could be asked for."""
SUBCELLS = 3
"""Resolution at which a frame's cells remember where points already are; odd, so that a cell's centre is a subcell."""


@dataclass(frozen=True)
class SeedPoints:
    """Points the Gaussians start from, in the world frame and unit of the :class:`SceneEstimate`."""

    xyz: Float[np.ndarray, "M 3"]
    """Positions, float32."""
    rgb: UInt8[np.ndarray, "M 3"]
    """Colours."""
    staticness: Float[np.ndarray, "M 1"]
    """Weighted mean of 1 - dynamic probability over the frames that see the point, float32 in [0, 1]."""
    pixel: Int64[np.ndarray, "M 3"] | None = None
    """(position of the frame in the given list, row, column) of each point; only for ``per_pixel``."""


def fused_points(
    estimate: SceneEstimate,
    images: UInt8[np.ndarray, "N H W 3"],
    frames: Sequence[int],
    max_points: int,
    keep_dynamic: bool = False,
    device: torch.device | None = None,
) -> SeedPoints:
    """Fuse the depth of many frames by multi-view consensus.

    Frame after frame, points found so far are projected into it. Those whose depth agrees take the frame's depth,
    colour and static weight into their mean; pixels that no agreeing point covers add new points. A point in front of
    which later frames confidently see further than they see the point itself is dropped: it hangs in the air. The
    spacing is a number of pixels, so near and far surfaces get the same density in the picture, and it grows until the
    whole cloud fits ``max_points``: nothing is dropped at random.

    Args:
        estimate: Cameras, depth and dynamic probability.
        images: Frames at the working resolution.
        frames: The frames to use, e.g. those of the training split.
        max_points: Most points to return.
        keep_dynamic: Also seed, sparsely, from pixels that move (with their low staticness).
        device: Where to work in torch; None = compiled by numba, on the CPU.

    Returns:
        At most ``max_points`` points; ``pixel`` is None.
    """
    guess_spacing = SPARSE if estimate.camera_kind == "general" else 1.0
    views = [_View.of(estimate, images, frame) for frame in frames]
    passes: list[tuple[Any, Any, float]] = [(view, view.stays & view.measured, 1.0) for view in views]
    passes += [(view, view.stays & ~view.measured, guess_spacing) for view in views]
    if keep_dynamic:
        passes += [(view, view.moves, SPARSE) for view in views]

    new_cloud: Callable[[int], Any] = _Cloud
    if device is not None:
        new_cloud, passes = _in_torch(passes, device)

    def fuse(cell: float) -> tuple[Any, int]:
        """The cloud at this spacing, and how many passes the budget has room for."""
        cloud = new_cloud(max_points)
        fitting = itertools.takewhile(lambda each: cloud.add(each[0], each[1], cell * each[2]), passes)
        return cloud, sum(1 for _ in fitting)

    # One frame alone would fill two thirds of the budget; what the others add usually fits into the rest.
    finest = max(1.0, float(np.sqrt(1.5 * estimate.height * estimate.width / max_points)))
    # How many points that makes is told by a cloud of a ninth of them: halving the spacing makes four times as many, or
    # somewhat less.
    coarse, done = fuse(COARSE * finest)
    filled = coarse.count * len(passes) / max(done, 1) / max_points
    cell = max(finest, COARSE * finest * float(np.sqrt(filled)))
    while True:
        cloud, done = fuse(cell)
        # One point of every frame is the least: where that is too much, later frames give none.
        if done == len(passes) or cell >= max(estimate.height, estimate.width):
            return _as_seeds(*cloud.arrays(), drop_contradicted=not keep_dynamic)
        cell *= float(np.clip(np.sqrt(len(passes) / (done + 1)), 1.05, 1.3))


def per_pixel_points(
    estimate: SceneEstimate, images: UInt8[np.ndarray, "N H W 3"], frames: Sequence[int], max_points: int
) -> SeedPoints:
    """One point per pixel with confidence above zero, moving ones too, in (frame, row, column) order, as DAS3R seeds.

    Where no depth was measured at all every pixel counts, and where there are more than ``max_points`` only every
    k-th row and column does.

    Args:
        estimate: Cameras, depth and dynamic probability.
        images: Frames at the working resolution.
        frames: The frames to use, e.g. those of the training split.
        max_points: Most points to return.

    Returns:
        Points with ``pixel`` set.
    """
    chosen = list(frames)
    confident = estimate.confidence[chosen] > 0
    if not confident.any():
        confident = np.ones_like(confident)
    if estimate.fixed is not None:
        confident &= ~estimate.fixed
    step = 1
    while int(confident[:, ::step, ::step].sum()) > max_points:
        step += 1
    lattice = np.zeros_like(confident)
    lattice[:, ::step, ::step] = confident[:, ::step, ::step]
    pixel = np.argwhere(lattice)
    xyz = []
    for position, frame in enumerate(chosen):
        at = np.nonzero(lattice[position])
        in_camera = unproject(_centres(*at), estimate.depth[frame][at], estimate.intrinsics[frame])
        xyz.append(transform_points(estimate.c2w_cv[frame], in_camera))
    source = (np.asarray(chosen)[pixel[:, 0]], pixel[:, 1], pixel[:, 2])
    return SeedPoints(
        xyz=np.concatenate(xyz).astype(np.float32),
        rgb=images[source],
        staticness=(1.0 - estimate.not_static[source])[:, None].astype(np.float32),
        pixel=pixel.astype(np.int64),
    )


def _centres(rows: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Image coordinates (x, y) of pixel centres."""
    return np.stack([columns, rows], axis=-1) + 0.5


@dataclass(frozen=True)
class _View:
    """One frame, as the fusion reads it."""

    depth: Float[np.ndarray, "H W"]
    confidence: Float[np.ndarray, "H W"]
    static: Float[np.ndarray, "H W"]
    image: UInt8[np.ndarray, "H W 3"]
    stays: Bool[np.ndarray, "H W"]
    moves: Bool[np.ndarray, "H W"]
    measured: Bool[np.ndarray, "H W"]
    intrinsics: Float[np.ndarray, "3 3"]
    c2w: Float[np.ndarray, "4 4"]

    @classmethod
    def of(cls, estimate: SceneEstimate, images: UInt8[np.ndarray, "N H W 3"], frame: int) -> _View:
        static = 1.0 - estimate.not_static[frame]
        return cls(
            depth=estimate.depth[frame],
            confidence=estimate.confidence[frame],
            static=static,
            image=images[frame],
            stays=static >= STATIC,
            moves=(static < STATIC) & (True if estimate.fixed is None else ~estimate.fixed),
            measured=estimate.confidence[frame] >= MEASURED,
            intrinsics=estimate.intrinsics[frame],
            c2w=estimate.c2w_cv[frame],
        )

    @cached_property
    def project(self) -> Float[np.ndarray, "3 4"]:
        """World to homogeneous pixels, float32."""
        return (self.intrinsics @ invert_rigid(self.c2w)[:3]).astype(np.float32)

    @cached_property
    def lift(self) -> Float[np.ndarray, "3 4"]:
        """Pixels to world: a ray for every unit of depth, and the camera's place."""
        (fx, _, cx), (_, fy, cy) = self.intrinsics[:2]
        rays = self.c2w[:3, :3] @ np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])
        return np.concatenate([rays, self.c2w[:3, 3:]], axis=1)

    @cached_property
    def tolerance(self) -> Float[np.ndarray, "H W"]:
        """Relative depth difference up to which two measurements are of one surface."""
        return depth_tolerance(self.confidence)


class _Cloud:
    """Growing set of points, each a running weighted mean of what agreeing frames say."""

    def __init__(self, max_points: int) -> None:
        self.max_points = max_points
        self.count = 0
        # Columns: weight | weighted x y z | weighted r g b | weighted static weight.
        self._sums = np.zeros((max_points, 8), np.float64)
        self._xyz = np.zeros((max_points, 3), np.float32)
        self._for = np.zeros(max_points, np.float32)
        self._against = np.zeros(max_points, np.float32)

    def add(self, view: _View, selected: Bool[np.ndarray, "H W"], cell: float) -> bool:
        """Take one frame's selected pixels in, at a spacing of ``cell`` pixels; False if the budget is too small."""
        n = self.count
        taken = observe_known(
            view.project, view.lift, view.depth, view.confidence, view.tolerance, view.static, view.image, selected,
            self._sums[:n], self._xyz[:n], self._for[:n], self._against[:n],
        )  # fmt: skip
        rows, columns = _free_cells(selected, taken, cell)
        m = n + len(rows)
        if m > self.max_points:
            return False
        self.count = m
        observe_new(
            rows, columns, view.lift, view.depth, view.confidence, view.static, view.image,
            self._sums[n:m], self._xyz[n:m], self._for[n:m],
        )  # fmt: skip
        return True

    def arrays(self) -> tuple[Float[np.ndarray, "M 8"], Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
        """Sums, and the confidence that speaks for and against each point."""
        return self._sums[: self.count], self._for[: self.count], self._against[: self.count]


def _as_seeds(
    sums: Float[np.ndarray, "M 8"],
    votes_for: Float[np.ndarray, " M"],
    votes_against: Float[np.ndarray, " M"],
    drop_contradicted: bool,
) -> SeedPoints:
    """A cloud, without points that more confidence speaks against than for."""
    mean = sums[votes_for >= votes_against] if drop_contradicted else sums
    mean = mean[:, 1:] / mean[:, :1]
    return SeedPoints(
        xyz=mean[:, :3].astype(np.float32),
        rgb=np.rint(mean[:, 3:6]).astype(np.uint8),
        staticness=np.clip(mean[:, 6:], 0.0, 1.0).astype(np.float32),
    )


def _in_torch(
    passes: list[tuple[_View, Bool[np.ndarray, "H W"], float]], device: torch.device
) -> tuple[Callable[[int], Any], list[tuple[Any, Any, float]]]:
    """What makes an empty cloud there, and the passes with their frames brought there once."""
    import torch

    from das3r_ns.scene.points_torch import TorchCloud, TorchView

    resident = {
        id(view): TorchView.of(
            device, view.project, view.lift, view.depth, view.confidence, view.tolerance, view.static, view.image
        )
        for view in {id(view): view for view, _, _ in passes}.values()
    }
    moved = [(resident[id(view)], torch.from_numpy(selected).to(device), spacing) for view, selected, spacing in passes]
    return partial(TorchCloud, device=device, subcells=SUBCELLS), moved


def _free_cells(
    selected: Bool[np.ndarray, "H W"], taken: Float[np.ndarray, "m 2"], cell: float
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Rows and columns of selected pixels at the centres of cells that have no point within about 0.8 cells.

    Args:
        selected: Pixels that may seed.
        taken: Image coordinates of the points that are there already.
        cell: Edge of a cell in pixels.
    """
    height, width = selected.shape
    rows, columns = max(1, int(height / cell)), max(1, int(width / cell))
    occupied = np.zeros((rows * SUBCELLS, columns * SUBCELLS), np.uint8)
    sub = (taken * (SUBCELLS / cell)).astype(np.int64)
    occupied[np.minimum(sub[:, 1], rows * SUBCELLS - 1), np.minimum(sub[:, 0], columns * SUBCELLS - 1)] = 1
    occupied = cv2.dilate(occupied, np.ones((2 * SUBCELLS - 1, 2 * SUBCELLS - 1), np.uint8))
    free = occupied[SUBCELLS // 2 :: SUBCELLS, SUBCELLS // 2 :: SUBCELLS] == 0
    middle = np.floor(pixel_centres(rows, columns) * cell).astype(np.int64).reshape(-1, 2)
    at_x, at_y = np.minimum(middle[:, 0], width - 1), np.minimum(middle[:, 1], height - 1)
    take = free.reshape(-1) & selected[at_y, at_x]
    return at_y[take], at_x[take]
