"""What the bundle adjustment sees of the optical flow: points on a grid, where edges take them, and their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.pair_flows import PairFlows

TYPICAL_FOCAL = 0.9
"""Focal over the longer side of the picture: telephones film at 0.7 to 0.9, camcorders at 0.9 and longer."""

CORRELATED = 50.0
"""How many flow residuals say as much as one independent measurement would: neighbours in space and time err alike."""


@dataclass
class Samples:
    """Observations of one video on a grid of K = rows x columns points a frame, in pixels of the flow resolution."""

    rows: int
    columns: int
    width: int
    height: int
    points: Float[np.ndarray, "N K 2"]
    """Image coordinates of each frame's points, row by row."""
    sources: Int[np.ndarray, " E"]
    """Frame i of each edge, in ascending order."""
    sinks: Int[np.ndarray, " E"]
    """Frame j of each edge."""
    targets: Float[np.ndarray, "E K 2"]
    """Image coordinates in frame j that the flow gives each point of frame i."""
    weights: Float[np.ndarray, "E K"]
    """How far each flow is to be believed, 0 to 1, before any model is known."""
    known_focal: float | None = None
    """Focal in pixels where it is known; it then stays."""
    zooms: bool = False
    """Whether every frame may have a focal of its own."""
    focuses: bool = False
    """Whether these focals differ as little as those of a lens that focuses anew."""
    bends: bool = False
    """Whether the lens may bend what is straight."""
    rolls: bool = False
    """Whether the rows of a frame may have been read one after the other."""
    times: Float[np.ndarray, " N"] | None = None
    """When each frame was taken, in frame times of the video; None = one after the other."""
    correlated: float = CORRELATED
    """How many residuals say as much of the focal as one independent measurement would."""

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return self.points.shape[0]

    @property
    def centre(self) -> Float[np.ndarray, " 2"]:
        """Principal point: the centre of the picture."""
        return np.array([self.width / 2, self.height / 2])

    @property
    def unit(self) -> float:
        """Pixels of this resolution per pixel of the resolution that thresholds are meant for, 427 on the long side."""
        return max(self.width, self.height) / 427

    @property
    def error_unit(self) -> float:
        """:attr:`unit` for what flow may err by, 0.4 to 1: that neither shrinks nor grows with the picture for ever."""
        return float(np.clip(self.unit, 0.4, 1.0))

    @property
    def focal_prior(self) -> float:
        """Focal in pixels: the known one, or what is to be expected of a video about which nothing is known."""
        return self.known_focal or TYPICAL_FOCAL * max(self.width, self.height)

    @property
    def target_cells(self) -> Int[np.ndarray, "E K"]:
        """Number of the grid cell of frame j in which each flow ends; the nearest one where it leaves the picture."""
        column, row = (self.targets / (self.width, self.height) * (self.columns, self.rows)).astype(int).T
        return (np.clip(row, 0, self.rows - 1) * self.columns + np.clip(column, 0, self.columns - 1)).T

    def rays(self, pixels: Float[np.ndarray, "*n 2"], focal: float) -> Float[np.ndarray, "*n 3"]:
        """Directions (x, y, 1), in camera axes, of image coordinates under a focal in pixels."""
        return np.concatenate([(pixels - self.centre) / focal, np.ones((*pixels.shape[:-1], 1))], axis=-1)

    def edges_of(self, frame: int) -> slice:
        """The edges that leave ``frame``."""
        first, last = np.searchsorted(self.sources, [frame, frame + 1])
        return slice(int(first), int(last))

    def subset(self, frames: Int[np.ndarray, " M"]) -> Samples:
        """The samples of some frames (ascending) and of the edges between them, frames counted anew from 0."""
        number = np.full(self.num_frames, -1)
        number[frames] = np.arange(len(frames))
        keep = (number[self.sources] >= 0) & (number[self.sinks] >= 0)
        return replace(
            self,
            points=self.points[frames],
            times=None if self.times is None else self.times[frames],
            sources=number[self.sources[keep]],
            sinks=number[self.sinks[keep]],
            targets=self.targets[keep],
            weights=self.weights[keep],
        )

    def straightened(self, optics: Optics) -> Samples:
        """The samples as the one pinhole shows them."""
        points = optics.straightened(self.points, np.arange(self.num_frames), self.centre)
        targets = optics.straightened(self.targets, self.sinks, self.centre)
        return replace(self, points=points, targets=targets)

    def towards_border(self) -> Float[np.ndarray, "E K"]:
        """The weights with more trust in the border of the picture, where movers are rarer than in its middle."""
        offset = np.abs(self.points - self.centre) / self.centre
        return self.weights * (0.25 + offset.max(axis=-1) ** 2).astype(np.float32)[self.sources]


def grid_shape(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Rows and columns of a grid with ``long_side`` cells along the longer side of the picture.

    Cells are about square, and of a pixel at least.
    """
    cell = max(max(width, height) / long_side, 1.0)
    return max(2, round(height / cell)), max(2, round(width / cell))


def best_points(
    texture: Float[np.ndarray, "H W"], rows: int, columns: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Row and column of the best-textured pixel in the inner part of each cell of a grid."""
    height, width = texture.shape
    score = texture.astype(np.float32)
    top = np.linspace(0, height, rows + 1).astype(int)
    left = np.linspace(0, width, columns + 1).astype(int)
    y, x = np.empty((rows, columns), dtype=np.int64), np.empty((rows, columns), dtype=np.int64)
    for r in range(rows):
        for c in range(columns):
            cell = score[top[r] : top[r + 1], left[c] : left[c + 1]]
            best = int(cell.argmax())
            y[r, c] = top[r] + best // cell.shape[1]
            x[r, c] = left[c] + best % cell.shape[1]
    return y.ravel(), x.ravel()


def sample_flows(
    flows: PairFlows,
    grid: int,
    static_weight: Float[np.ndarray, "N H W"] | None,
    known_focal: float | None = None,
) -> Samples:
    """Sample every directed pair that has its mirror on a grid of points.

    Args:
        flows: Flow of directed pairs.
        grid: Number of cells along the longer side of the picture.
        static_weight: Probability that each pixel shows something static; None = all do.
        known_focal: Focal in pixels of the flow, None = to be found.

    Returns:
        The samples. A flow is believed as far as it agrees with the flow back, and as the picture has texture there.
    """
    width, height = flows.width, flows.height
    rows, columns = grid_shape(width, height, grid)
    pairs = [pair for pair in flows.pairs if pair[::-1] in flows.fields]
    frames = range(flows.num_frames)
    pixel = [best_points(flows.texture[i], rows, columns) for i in frames]
    points = np.stack([np.stack([x + 0.5, y + 0.5], axis=-1) for y, x in pixel])
    targets = np.empty((len(pairs), rows * columns, 2), dtype=np.float32)
    weights = np.empty((len(pairs), rows * columns), dtype=np.float32)
    believed = [texture_weight(flows.texture[i][pixel[i]]) for i in frames]
    for e, (i, j) in enumerate(pairs):
        forward = flows.fields[i, j][pixel[i]].astype(np.float32)
        targets[e] = points[i] + forward
        tx, ty = targets[e, :, 0] - 0.5, targets[e, :, 1] - 0.5
        column = tx[:, None], ty[:, None]  # OpenCV 4 takes a list for a column, OpenCV 5 for a row
        back = cv2.remap(flows.flow(j, i), *column, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        error = np.linalg.norm(forward + back, axis=-1)
        # DIS errs by a share of the displacement; a fixed bound would throw away every long stride.
        tolerance = 0.5 + 0.02 * np.linalg.norm(forward, axis=-1)
        weight = np.exp(-((error / tolerance) ** 2)) * believed[i]
        weight[(tx < 0) | (ty < 0) | (tx > width - 1) | (ty > height - 1)] = 0.0
        if static_weight is not None:
            weight *= static_weight[i][pixel[i]]
            there = cv2.remap(static_weight[j].astype(np.float32), *column, cv2.INTER_LINEAR)[:, 0]
            weight *= there
        weights[e] = weight
    order = np.array(pairs)
    points = points.astype(np.float32)
    return Samples(
        rows, columns, width, height, points, order[:, 0], order[:, 1], targets, weights, known_focal=known_focal
    )


def texture_weight(texture: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """How far a flow is to be believed, 0.02 to 1, by the texture (see ``PairFlows.texture``) under it."""
    squared = np.asarray(texture, dtype=np.float32) ** 2
    return 0.02 + 0.98 * squared / (squared + 2.0**2)
