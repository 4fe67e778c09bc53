"""The fusion of points in torch, for a GPU: what ``points_kernels`` does point by point, for all points at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from das3r_ns.scene.geometry import MIN_DEPTH
from das3r_ns.scene.points_kernels import LEAST_WEIGHT


@dataclass(frozen=True)
class TorchView:
    """One frame on the device, as the fusion reads it; see :func:`~das3r_ns.scene.points_kernels.observe_known`."""

    project: Float[Tensor, "3 4"]
    lift: Float[Tensor, "3 4"]
    depth: Float[Tensor, " P"]
    """This and the other maps row by row."""
    confidence: Float[Tensor, " P"]
    tolerance: Float[Tensor, " P"]
    static: Float[Tensor, " P"]
    image: UInt8[Tensor, "P 3"]
    size: tuple[int, int]
    """Height and width."""

    @classmethod
    def of(
        cls,
        device: torch.device,
        project: Float[np.ndarray, "3 4"],
        lift: Float[np.ndarray, "3 4"],
        depth: Float[np.ndarray, "H W"],
        confidence: Float[np.ndarray, "H W"],
        tolerance: Float[np.ndarray, "H W"],
        static: Float[np.ndarray, "H W"],
        image: UInt8[np.ndarray, "H W 3"],
    ) -> TorchView:
        """The frame brought to the device."""
        flat = (part.reshape(-1) for part in (depth, confidence, tolerance, static))
        size = (depth.shape[0], depth.shape[1])
        parts = (project, lift, *flat, image.reshape(-1, 3))
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts), size=size)


class TorchCloud:
    """Growing set of points, as in ``points``: each a running weighted mean of what agreeing frames say."""

    def __init__(self, max_points: int, device: torch.device, subcells: int) -> None:
        self.max_points, self.subcells = max_points, subcells
        self.count = 0
        # Columns: weight | weighted x y z | weighted r g b | weighted static weight.
        self._sums = torch.zeros(max_points, 8, dtype=torch.float64, device=device)
        self._xyz = torch.zeros(max_points, 3, device=device)
        self._for, self._against = torch.zeros(max_points, device=device), torch.zeros(max_points, device=device)

    @torch.no_grad()
    def add(self, view: TorchView, selected: Bool[Tensor, "H W"], cell: float) -> bool:
        """Take one frame's selected pixels in, at a spacing of ``cell`` pixels; False if the budget is too small."""
        occupied = self._observe_known(view, selected, cell)
        pixel = _free_cells(selected, occupied, cell, self.subcells)
        m = self.count + len(pixel)
        if m > self.max_points:
            return False
        u, v = pixel % view.size[1] + 0.5, pixel.div(view.size[1], rounding_mode="floor") + 0.5
        new = slice(self.count, m)
        self._observe(new, view, pixel, u, v, torch.ones_like(pixel, dtype=torch.bool))
        self.count = m
        return True

    def arrays(self) -> tuple[Float[np.ndarray, "M 8"], Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
        """Sums, and the confidence that speaks for and against each point."""
        parts = (self._sums, self._for, self._against)
        sums, votes_for, votes_against = (part[: self.count].cpu().numpy() for part in parts)
        return sums, votes_for, votes_against

    def _observe_known(self, view: TorchView, selected: Bool[Tensor, "H W"], cell: float) -> UInt8[Tensor, "r c"]:
        """Let one frame speak about the points so far; which subcells those that agree lie in."""
        height, width = view.size
        x, y, depth = self._xyz[: self.count].unbind(dim=1)
        u, v, z = (row[0] * x + row[1] * y + row[2] * depth + row[3] for row in view.project)
        front = z > MIN_DEPTH
        safe = torch.where(front, z, 1.0)
        u, v = u / safe, v / safe
        inside = front & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        u, v = torch.where(inside, u, 0.0), torch.where(inside, v, 0.0)
        pixel = v.long() * width + u.long()
        inside &= selected.flatten()[pixel]
        there, allowed = view.depth[pixel], view.tolerance[pixel]
        hidden = inside & (z < (1.0 - 2.0 * allowed) * there)
        self._against[: self.count] += torch.where(hidden, view.confidence[pixel], 0.0)
        agree = inside & ((z - there).abs() < allowed * there)
        self._observe(slice(0, self.count), view, pixel, u, v, agree)
        rows, columns = (max(1, int(side / cell)) * self.subcells for side in (height, width))
        sub = [(part * (self.subcells / cell)).long().clamp(max=most - 1) for part, most in ((v, rows), (u, columns))]
        # What does not agree is put beyond the last.
        place = torch.where(agree, sub[0] * columns + sub[1], rows * columns)
        occupied = torch.zeros(rows * columns + 1, dtype=torch.uint8, device=u.device)
        occupied.scatter_(0, place, torch.ones_like(place, dtype=torch.uint8))
        return occupied[:-1].view(rows, columns)

    def _observe(
        self,
        points: slice,
        view: TorchView,
        pixel: Int64[Tensor, " n"],
        u: Float[Tensor, " n"],
        v: Float[Tensor, " n"],
        agree: Bool[Tensor, " n"],
    ) -> None:
        """A frame's depth, colour and static weight into the means of the points that agree."""
        depth, confidence = view.depth[pixel].double(), view.confidence[pixel]
        # A depth error grows with the square of the depth, the ground a pixel covers too: nearer frames know better.
        weight = torch.where(agree, (confidence.double() + LEAST_WEIGHT) / depth**2, 0.0)
        sums = self._sums[points]
        sums[:, 0] += weight
        for axis in range(3):
            ray = view.lift[axis, 0] * u + view.lift[axis, 1] * v + view.lift[axis, 2]
            sums[:, 1 + axis] += weight * (ray * depth + view.lift[axis, 3])
        sums[:, 4:7] += weight[:, None] * view.image[pixel]
        sums[:, 7] += weight * view.static[pixel]
        mean = (sums[:, 1:4] / sums[:, :1]).float()
        self._xyz[points] = torch.where(agree[:, None], mean, self._xyz[points])
        self._for[points] += torch.where(agree, confidence, 0.0)


def _free_cells(
    selected: Bool[Tensor, "H W"], occupied: UInt8[Tensor, "r c"], cell: float, subcells: int
) -> Int64[Tensor, " k"]:
    """Numbers of selected pixels at the centres of cells that have no point within about 0.8 cells."""
    height, width = selected.shape
    near = functional.max_pool2d(occupied[None, None].float(), 2 * subcells - 1, 1, subcells - 1)[0, 0]
    free = near[subcells // 2 :: subcells, subcells // 2 :: subcells] == 0
    rows, columns = (
        ((torch.arange(count, device=selected.device) + 0.5) * cell).floor().long().clamp(max=side - 1)
        for count, side in zip(free.shape, (height, width), strict=True)
    )
    pixel = rows[:, None] * width + columns
    return pixel[free & selected.flatten()[pixel]]
