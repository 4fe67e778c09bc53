"""What other frames show of a place, as :mod:`das3r_ns.frontend.geometric.motion.look_behind_kernels` and
``memory_kernels`` have it, over whole pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.visible import IN_FRONT, MIN_Z


@dataclass(frozen=True)
class _Seen:
    """Points of one frame in others."""

    inside: Bool[Tensor, "M h w"]
    """Whether the other frame has the point between the centres of its outermost pixels."""
    expected: Float[Tensor, "M h w"]
    """Inverse depth of the point there."""
    place: Int[Tensor, "M n"]
    """Number of the pixel that it falls on."""
    u: Float[Tensor, "M h w"]
    """Image coordinates there."""
    v: Float[Tensor, "M h w"]

    def read(self, maps: Tensor) -> Tensor:
        """What maps of the other frames have at the points."""
        return maps.flatten(1).gather(1, self.place).view_as(self.inside)

    def colours(self, pictures: Float[Tensor, "M H W C"]) -> Float[Tensor, "M h w C"]:
        """What their pictures have there, between pixels."""
        height, width = pictures.shape[1:3]
        grid = torch.stack([(self.u - 0.5) * (2 / (width - 1)) - 1, (self.v - 0.5) * (2 / (height - 1)) - 1], dim=-1)
        grid = torch.where(self.inside[..., None], grid, 0.0)
        found = functional.grid_sample(pictures.permute(0, 3, 1, 2), grid, align_corners=True, padding_mode="border")
        return found.permute(0, 2, 3, 1)


def _project(
    inverse_depth: Float[Tensor, "*M h w"], rays: Float[Tensor, "M 3 3"], offsets: Float[Tensor, "M 3"], step: int = 1
) -> tuple[Float[Tensor, "M h w"], Float[Tensor, "M h w"], Float[Tensor, "M h w"]]:
    """Depth there over depth here, and image coordinates, of every ``step``-th pixel of a picture."""
    rows, columns = inverse_depth.shape[-2:]
    x = torch.arange(columns, device=inverse_depth.device) * step + 0.5
    y = (torch.arange(rows, device=inverse_depth.device) * step + 0.5)[:, None]
    u, v, z = (
        rays[:, axis, 0, None, None] * x
        + rays[:, axis, 1, None, None] * y
        + rays[:, axis, 2, None, None]
        + offsets[:, axis, None, None] * inverse_depth
        for axis in range(3)
    )
    scale = 1.0 / z.clamp(min=MIN_Z)
    return z, u * scale, v * scale


def _see(
    inverse_depth: Float[Tensor, "h w"],
    size: tuple[int, int],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    step: int = 1,
) -> _Seen:
    """Points of a frame in others of (height, width)."""
    height, width = size
    z, u, v = _project(inverse_depth, rays, offsets, step)
    inside = (z >= MIN_Z) & (u >= 0.5) & (v >= 0.5) & (u <= width - 0.5) & (v <= height - 0.5)
    row, column = (torch.where(inside, part, 0.0).long() for part in (v, u))
    place = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
    return _Seen(inside, inverse_depth / z.clamp(min=MIN_Z), place.flatten(1), u, v)


def inverse_depth_from_others(
    inverse_depth: Float[Tensor, "M H W"],
    trust: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    share: float,
    tolerance: float,
    far: float,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """See :func:`das3r_ns.frontend.geometric.motion.look_behind_kernels.inverse_depth_from_others`."""
    seen, weight = _drawn(inverse_depth, trust, rays, offsets)
    total = weight.sum(dim=0)
    nearest, out, support = torch.zeros_like(total), torch.zeros_like(total), torch.zeros_like(total)
    for depth in seen:
        near = (seen > 0) & ((seen - depth).abs() <= tolerance * depth.clamp(min=far))
        agreeing = torch.where(near, weight, 0.0)
        agree = agreeing.sum(dim=0)
        take = (depth > nearest) & (agree > 0) & (agree >= share * total)
        nearest, support = torch.where(take, depth, nearest), torch.where(take, agree, support)
        out = torch.where(take, (agreeing * seen).sum(dim=0) / agree.clamp(min=1e-12), out)
    return out, support


def _drawn(
    inverse_depth: Float[Tensor, "M H W"],
    trust: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
) -> tuple[Float[Tensor, "M H W"], Float[Tensor, "M H W"]]:
    """The points of each frame in one other, nearest first, over the four pixels around each; and their trust."""
    height, width = inverse_depth.shape[1:]
    z, u, v = _project(inverse_depth, rays, offsets)
    valid = (trust > 0) & (z >= MIN_Z)
    there = torch.where(valid, inverse_depth / z.clamp(min=MIN_Z), 0.0)
    first_row, first_column = (torch.where(valid, part - 0.5, 0.0).floor().long() for part in (v, u))
    itself = torch.arange(height * width, device=z.device).view(height, width)
    corners = []
    for row in (first_row, first_row + 1):
        for column in (first_column, first_column + 1):
            inside = valid & (row >= 0) & (column >= 0) & (row < height) & (column < width)
            # What falls outside changes nothing wherever it is drawn, and one place for all would be a queue.
            place = torch.where(inside, row * width + column, itself).flatten(1)
            corners.append((place, torch.where(inside, there, 0.0).flatten(1)))
    seen, weight = torch.zeros_like(corners[0][1]), torch.zeros_like(corners[0][1])
    for place, value in corners:
        seen.scatter_reduce_(1, place, value, "amax")
    for place, value in corners:
        wins = (value > 0) & (value == seen.gather(1, place))
        weight.scatter_reduce_(1, place, torch.where(wins, trust.flatten(1), 0.0), "amax")
    return seen.view_as(z), weight.view_as(z)


def colours_behind(
    picture: Float[Tensor, "H W C"],
    inverse_depth: Float[Tensor, "H W"],
    pictures: Float[Tensor, "M H W C"],
    static: Bool[Tensor, "M H W"],
    surfaces: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    slack: float,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """See :func:`das3r_ns.frontend.geometric.motion.look_behind_kernels.colours_behind`."""
    points = _see(inverse_depth, (pictures.shape[1], pictures.shape[2]), rays, offsets)
    sees = points.inside & points.read(static) & (points.read(surfaces) <= IN_FRONT * points.expected + slack)
    colours, count = points.colours(pictures), sees.sum(dim=0)
    middle = _median(colours, sees[..., None], count[..., None])
    error, spread = (
        _median((colours - other).abs().sum(dim=-1), sees, count) for other in (picture, middle)
    )  # fmt: skip
    return error, spread, count.float()


def _median(values: Float[Tensor, "M *n"], counted: Bool[Tensor, "M *k"], count: Int[Tensor, "*k"]) -> Tensor:
    """Median over the first axis of those that count, 0 where none does."""
    ordered = torch.where(counted, values, torch.inf).sort(dim=0).values
    lower, upper = (
        ordered.gather(0, index.clamp(0, len(values) - 1).expand(ordered.shape[1:])[None])[0]
        for index in ((count - 1) // 2, count // 2)
    )
    return torch.where(count > 0, 0.5 * (lower + upper), 0.0)


def seen_there_and_gone(
    picture: Float[Tensor, "H W C"],
    inverse_depth: Float[Tensor, "H W"],
    pictures: Float[Tensor, "M H W C"],
    static: Bool[Tensor, "M H W"],
    surfaces: Float[Tensor, "M H W"],
    nearest: Float[Tensor, "M H W"],
    trust: Float[Tensor, "M H W"],
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    tolerance: float,
    far: float,
    noise: float,
    step: int,
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """See :func:`das3r_ns.frontend.geometric.motion.memory_kernels.seen_there_and_gone`."""
    points = _see(inverse_depth[::step, ::step], (pictures.shape[1], pictures.shape[2]), rays, offsets, step)
    slack = tolerance * points.expected.clamp(min=far)
    sees = points.inside & points.read(static) & (points.read(surfaces) <= points.expected + slack)
    difference = (points.colours(pictures) - picture[::step, ::step]).abs().sum(dim=-1)
    other = difference**2 / (difference**2 + noise**2)
    past = points.read(nearest) < points.expected - slack
    weight = torch.where(sees, points.read(trust), 0.0)
    there, gone = torch.where(past, 0.0, weight * (1.0 - other)), torch.where(past, weight * other, 0.0)
    return there.sum(dim=0), gone.sum(dim=0)
