"""Inverse depth from many flows, and agreement between frames, as
:mod:`das3r_ns.frontend.geometric.dense_depth_kernels` has them, over whole pictures."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.frontend.geometric.dense_depth_kernels import MIN_Z, SAME_START


def inverse_depth_from_flows(
    start: Float[Tensor, "S H W"],
    flows: Float[Tensor, "M H W 2"],
    weights: Float[Tensor, "M H W"],
    scales: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    focal: float,
    bounds: tuple[float, float],
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """See :func:`das3r_ns.frontend.geometric.dense_depth_kernels.inverse_depth_from_flows`."""
    problem = _FlowDepth(flows, weights, scales, rays, offsets, focal, bounds)
    total = weights.sum(dim=0)
    best, best_cost = start[0], torch.full_like(total, torch.inf)
    for index, one in enumerate(start):
        depth = one.clamp(*bounds)
        found = problem.refined(depth, 4.0, 3)[0]
        cost = problem.cost(found)
        if index > 0:  # on smooth ground the starts differ by less than the first step mends
            cost = torch.where((depth - start[0]).abs() < SAME_START * depth, torch.inf, cost)
        better = cost < best_cost
        best, best_cost = torch.where(better, found, best), torch.where(better, cost, best_cost)
    inverse_depth, information = problem.refined(best, 1.0, 4)
    known = total > 1e-6
    return (
        torch.where(known, inverse_depth, start[0]),
        torch.where(known, information, 0.0),
        torch.where(known, best_cost / total.clamp(min=1e-6), 1.0),
    )


class _FlowDepth:
    """One least-squares problem for every pixel: the inverse depth that explains its flows."""

    def __init__(
        self,
        flows: Float[Tensor, "M H W 2"],
        weights: Float[Tensor, "M H W"],
        scales: Float[Tensor, "M H W"],
        rays: Float[Tensor, "M 3 3"],
        offsets: Float[Tensor, "M 3"],
        focal: float,
        bounds: tuple[float, float],
    ) -> None:
        height, width = flows.shape[1:3]
        x, y = _directions(height, width, focal, flows.device)
        self.base = [_along(rays[:, axis], x, y) for axis in range(3)]
        self.offset = [offsets[:, axis, None, None] for axis in range(3)]
        # Where each flow leads, from the middle of the picture.
        self.target = (flows[..., 0] + focal * x, flows[..., 1] + focal * y)
        self.weights, self.scales, self.focal, self.bounds = weights, scales, focal, bounds

    def _residuals(self, depth: Float[Tensor, "H W"]) -> tuple[Tensor, ...]:
        """Whether the point has a projection; residuals in pixels, and by how much each grows with the depth."""
        bx, by, bz = (base + offset * depth for base, offset in zip(self.base, self.offset, strict=True))
        front = bz >= MIN_Z
        inverse = 1.0 / bz.clamp(min=MIN_Z)
        px, py = bx * inverse, by * inverse
        ru, rv = self.focal * px - self.target[0], self.focal * py - self.target[1]
        inverse = inverse * self.focal
        ju, jv = inverse * (self.offset[0] - px * self.offset[2]), inverse * (self.offset[1] - py * self.offset[2])
        return front, ru, rv, ju, jv

    def cost(self, depth: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
        """Sum of the Geman-McClure losses."""
        front, ru, rv, _, _ = self._residuals(depth)
        square = ru**2 + rv**2
        return (self.weights * torch.where(front, square / (self.scales**2 + square), 1.0)).sum(dim=0)

    def refined(
        self, depth: Float[Tensor, "H W"], widen: float, steps: int
    ) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Gauss-Newton steps; the inverse depth with its information in 1 / px^2."""
        low, high = self.bounds
        information = torch.zeros_like(depth)
        square_scale = (widen * self.scales) ** 2
        for _ in range(steps):
            front, ru, rv, ju, jv = self._residuals(depth)
            ratio = 1.0 + (ru**2 + rv**2) / square_scale
            weight = torch.where(front, self.weights / (square_scale * ratio**2), 0.0)
            information = (weight * (ju**2 + jv**2)).sum(dim=0)
            gradient = (weight * (ju * ru + jv * rv)).sum(dim=0)
            moved = depth - gradient / torch.where(information > 0, information, 1.0)
            moved = torch.minimum(torch.maximum(moved, (0.5 * depth).clamp(min=low)), (2.0 * depth).clamp(max=high))
            depth = torch.where(information > 0, moved, depth)
        return depth, information


def compare_frames(
    inverse_depth: Float[Tensor, "H W"],
    others: Float[Tensor, "M H W"],
    trust: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    focal: float,
    tolerance: float,
    far: float,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """See :func:`das3r_ns.frontend.geometric.dense_depth_kernels.compare_frames`."""
    height, width = inverse_depth.shape
    x, y = _directions(height, width, focal, inverse_depth.device)
    base = _along(rays[:, 2], x, y)
    toward = offsets[:, 2, None, None]
    z = base + toward * inverse_depth
    scale = focal / z.clamp(min=MIN_Z)
    u = scale * (_along(rays[:, 0], x, y) + offsets[:, 0, None, None] * inverse_depth) + width / 2
    v = scale * (_along(rays[:, 1], x, y) + offsets[:, 1, None, None] * inverse_depth) + height / 2
    inside = (z >= MIN_Z) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    place = (torch.where(inside, v, 0.0).long() * width + torch.where(inside, u, 0.0).long()).flatten(1)
    weight = torch.where(inside, trust.flatten(1).gather(1, place).view_as(z), 0.0)
    other = others.flatten(1).gather(1, place).view_as(z)
    expected = inverse_depth / z.clamp(min=MIN_Z)
    near = (other - expected).abs() < tolerance * expected.clamp(min=far)
    # The d of this frame that the other one means solves 1 / other = (base + t_z d) / d.
    denominator = 1.0 / other - toward
    agreed = torch.where(near & (denominator > 1e-9), weight, 0.0)
    summed = (agreed * base / denominator.clamp(min=1e-9)).sum(dim=0)
    contradict = torch.where(~near & (other < expected), weight, 0.0).sum(dim=0)
    return summed, agreed.sum(dim=0), contradict


def _directions(height: int, width: int, focal: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Camera coordinates of the pixels at depth 1: x of every column, y of every row."""
    x = (torch.arange(width, device=device) + (0.5 - width / 2)) / focal
    y = (torch.arange(height, device=device) + (0.5 - height / 2)) / focal
    return x, y[:, None]


def _along(row: Float[Tensor, "M 3"], x: Float[Tensor, " W"], y: Float[Tensor, "H 1"]) -> Float[Tensor, "M H W"]:
    """One coordinate of rays in other frames."""
    return row[:, 0, None, None] * x + row[:, 1, None, None] * y + row[:, 2, None, None]
