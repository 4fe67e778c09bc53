"""The plane sweep and semi-global matching of :mod:`das3r_ns.frontend.geometric.stereo_kernels`, many frames at once.

Every depth of every pixel is looked up together, and the paths of semi-global matching go over the picture line by
line: all pixels of a line, all depths, all frames and both ways in one operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.sweep import EDGE, JUMP_PENALTY, LIMIT, STEP_PENALTY, WINDOW, Sweep
from das3r_ns.frontend.geometric.torch_kernels.choice import room

MIN_Z = 1e-3
"""As in the numba kernels: a point nearer to the plane of a camera than this share of its depth has no projection."""

FAR_OUT = 1e5
"""Takes the place of one over the depth of points without a projection: any picture ends before."""

BATCH = 16
"""Most frames at once: with these a GPU has enough to do in every line."""

VOLUMES, PASSING = 6, 12
"""Copies of a frame's costs that a batch takes for each of its frames, and for the one whose costs are made."""

NEVER = 1e4
"""Cost of a depth that a frame does not try, because others of its batch try more."""


@torch.no_grad()
def best_matches(
    images: UInt8[np.ndarray, "N H W 3"],
    static: Bool[np.ndarray, "N H W"],
    sweeps: Sequence[Sweep],
    device: torch.device,
) -> Iterator[tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]]:
    """Match every frame with others, as ``stereo_kernels`` does for one.

    Args:
        images: RGB frames.
        static: Pixels that show the static scene.
        sweeps: Which frames are compared, and at which depths.
        device: Where to work.

    Yields:
        For each sweep what :func:`~das3r_ns.frontend.geometric.stereo_kernels.best_levels` gives.
    """
    pictures = torch.from_numpy(images).to(device)
    usable = None if static.all() else torch.from_numpy(static).to(device)
    height, width = images.shape[1:3]
    volume = 4 * height * width * max(len(sweep.levels) for sweep in sweeps)
    size = max(1, min(BATCH, (room(device) - PASSING * volume) // (VOLUMES * volume)))
    for start in range(0, len(sweeps), size):
        batch = sweeps[start : start + size]
        most = max(len(sweep.levels) for sweep in batch)
        costs = torch.full((len(batch), height, width, most), NEVER, device=device)
        for out, sweep in zip(costs, batch, strict=True):
            others = torch.tensor(sweep.others, device=device)
            geometry = (torch.from_numpy(part).to(device) for part in (sweep.rays, sweep.offsets, sweep.levels))
            allowed = None if usable is None else usable[others]
            found = matching_costs(pictures[sweep.frame].float(), pictures[others], allowed, *geometry, limit=LIMIT)
            out[..., : len(sweep.levels)] = found
        costs = _blurred(costs)
        guide = pictures[torch.tensor([sweep.frame for sweep in batch], device=device)].float()
        total = semi_global_costs(costs, guide, STEP_PENALTY, JUMP_PENALTY, EDGE)
        tried = torch.tensor([len(sweep.levels) for sweep in batch], device=device)
        found = torch.stack(best_levels(total, costs, tried), dim=1).cpu().numpy()
        del costs, total
        for maps in found:
            yield maps[0], maps[1], maps[2]


def matching_costs(
    image: Float[Tensor, "H W 3"],
    sources: UInt8[Tensor, "M H W 3"],
    usable: Bool[Tensor, "M H W"] | None,
    rays: Float[Tensor, "M 3 3"],
    offsets: Float[Tensor, "M 3"],
    levels: Float[Tensor, " L"],
    limit: float,
) -> Float[Tensor, "H W L"]:
    """See :func:`das3r_ns.frontend.geometric.stereo_kernels.matching_costs`; ``usable`` None = all pixels are."""
    height, width = image.shape[:2]
    colour = image.permute(2, 0, 1)[..., None]  # 3 H W 1
    best = torch.full((height, width, len(levels)), limit, device=image.device)
    second, third, seen_by = best.clone(), best.clone(), torch.zeros_like(best, dtype=torch.uint8)
    for m, (source, ray, offset) in enumerate(zip(sources, rays, offsets, strict=True)):
        grid = _seen_at(height, width, ray, offset, levels)
        # The last pixel has no neighbour to interpolate with.
        inside = torch.linalg.vector_norm(grid, torch.inf, dim=-1) < 1.0
        if usable is not None:
            inside &= usable[m].flatten()[_place(grid, inside, width, height)]
        picture = source.permute(2, 0, 1)[None].float()
        # What lies outside does not count; with "zeros" cuDNN would do it, which refuses grids as large as this.
        sampled = functional.grid_sample(
            picture, grid.view(1, height, -1, 2), padding_mode="border", align_corners=True
        )
        error = torch.linalg.vector_norm(sampled.view(3, *best.shape).sub_(colour), 1, dim=0)
        error = torch.where(inside, error, limit)
        seen_by += inside
        # The three least so far; an error of the limit or more changes none of them.
        left = torch.maximum(error, best)
        torch.minimum(error, best, out=best)
        torch.minimum(torch.maximum(left, second), third, out=third)
        torch.minimum(left, second, out=second)
    costs = 0.5 * (best + second)
    costs = torch.where(seen_by > 4, (best + second + third) / 3, costs)
    compared = seen_by > 1
    number = compared.sum(dim=-1, keepdim=True)
    typical = torch.where(compared, costs, 0.0).sum(dim=-1, keepdim=True) / number.clamp(min=1)
    typical = torch.where(number > 0, typical, limit)
    return torch.where(compared, costs, torch.where(seen_by == 0, typical, 0.5 * (best + typical)))


def _seen_at(
    height: int, width: int, ray: Float[Tensor, "3 3"], offset: Float[Tensor, " 3"], levels: Float[Tensor, " L"]
) -> Float[Tensor, "H W L 2"]:
    """Where a source sees the pixels at each level: -1 to 1 between the centres of its outermost pixels, else far off.

    That scale is linear in image coordinates, so it is worked into the matrix.
    """
    x = torch.arange(width, device=ray.device) + 0.5
    y = (torch.arange(height, device=ray.device) + 0.5)[:, None]
    grid = torch.empty(height, width, len(levels), 2, device=ray.device)

    def coordinate(row: Float[Tensor, " 3"], shift: Float[Tensor, ""]) -> Float[Tensor, "H W L"]:
        return torch.addcmul((row[0] * x + row[1] * y + row[2])[..., None], shift, levels)

    z = coordinate(ray[2], offset[2])
    inverse = torch.where(z >= MIN_Z, 1.0 / z, FAR_OUT)
    for axis, side in enumerate((width, height)):
        scale = 2.0 / (side - 1)
        row = scale * ray[axis] - (1.0 + 0.5 * scale) * ray[2]
        shift = scale * offset[axis] - (1.0 + 0.5 * scale) * offset[2]
        torch.mul(coordinate(row, shift), inverse, out=grid[..., axis])
    return grid


def _place(
    grid: Float[Tensor, "H W L 2"], inside: Bool[Tensor, "H W L"], width: int, height: int
) -> Int[Tensor, "H W L"]:
    """Number of the pixel left of and above each place that is inside."""
    column, row = ((grid[..., axis] + 1.0) * (0.5 * (side - 1)) for axis, side in enumerate((width, height)))
    return torch.where(inside, row, 0.0).long() * width + torch.where(inside, column, 0.0).long()


def _blurred(costs: Float[Tensor, "B H W L"]) -> Float[Tensor, "B H W L"]:
    """Mean over a window, as ``cv2.blur`` has it: pictures go on as in a mirror."""
    half = WINDOW // 2
    for axis in (1, 2):
        length = costs.shape[axis]
        inner = costs.narrow(axis, 0, length).clone()
        for step in range(1, half + 1):
            for way in (-step, step):
                inner += costs.index_select(axis, _mirrored(torch.arange(length, device=costs.device) + way, length))
        costs = inner / WINDOW
    return costs


def _mirrored(index: Int[Tensor, " n"], length: int) -> Int[Tensor, " n"]:
    """Indices beyond the ends taken back in, the end itself not repeated."""
    return (length - 1 - (length - 1 - index.abs()).abs()).clamp(min=0)


def semi_global_costs(
    costs: Float[Tensor, "B H W L"],
    guide: Float[Tensor, "B H W 3"],
    step_penalty: float,
    jump_penalty: float,
    edge: float,
) -> Float[Tensor, "B H W L"]:
    """See :func:`das3r_ns.frontend.geometric.stereo_kernels.semi_global_costs`; of several frames."""
    total = torch.zeros_like(costs)
    penalties = (step_penalty, jump_penalty, edge)
    _add_paths(total, costs, guide, (0, 1, -1), *penalties)
    _add_paths(total.transpose(1, 2), costs.transpose(1, 2), guide.transpose(1, 2), (0,), *penalties)
    return total.mul_(1 / 8)


def _add_paths(
    total: Float[Tensor, "B S W L"],
    costs: Float[Tensor, "B S W L"],
    guide: Float[Tensor, "B S W 3"],
    shifts: tuple[int, ...],
    step_penalty: float,
    jump_penalty: float,
    edge: float,
) -> None:
    """Add the costs of all paths that go from line to line, up and down, and ``shifts`` pixels along at every step."""
    count, lines, width, tried = costs.shape
    jumps = torch.stack([_jumps(guide, shift, jump_penalty, edge, step_penalty) for shift in shifts])  # D 2 S B W 1
    # A path that begins costs nothing so far: no level is dearer than another, and so none is outside the picture.
    state = costs.new_zeros(len(shifts), 2, count, width + 2, tried)
    way = state[:, :, :, 1:-1]
    for line in range(lines):
        mirror = lines - 1 - line
        own = torch.stack([costs[:, line], costs[:, mirror]])
        before = torch.stack([state[d, :, :, 1 - shift : 1 - shift + width] for d, shift in enumerate(shifts)])
        before -= before.amin(dim=-1, keepdim=True)
        torch.minimum(before, jumps[:, :, line], out=way)
        before += step_penalty
        torch.minimum(way[..., 1:], before[..., :-1], out=way[..., 1:])
        torch.minimum(way[..., :-1], before[..., 1:], out=way[..., :-1])
        way += own
        summed = way.sum(dim=0)
        total[:, line] += summed[0]
        total[:, mirror] += summed[1]


def _jumps(
    guide: Float[Tensor, "B S W 3"], shift: int, penalty: float, edge: float, least: float
) -> Float[Tensor, "2 S B W 1"]:
    """Penalty of a jump on the way to each pixel: downwards by line, and upwards in the order in which lines come."""
    ways = []
    for way in (guide, guide.flip(1)):
        before = way.roll((1, shift), dims=(1, 2))  # what comes in from the other end is outside: see the state
        difference = (way - before).abs().sum(dim=-1)
        ways.append((penalty * torch.exp(-difference / edge)).clamp(min=least).transpose(0, 1))
    return torch.stack(ways)[..., None]


def best_levels(
    total: Float[Tensor, "B H W L"], costs: Float[Tensor, "B H W L"], tried: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """See :func:`das3r_ns.frontend.geometric.stereo_kernels.best_levels`.

    Args:
        total: Of several frames.
        costs: Likewise.
        tried: How many of the levels each frame has.
    """
    level = torch.arange(total.shape[-1], device=total.device)
    span = level.float()  # half of what whole numbers would take
    last = tried.view(-1, 1, 1, 1) - 1
    total = torch.where(level <= last, total, torch.inf)
    best = total.argmin(dim=-1, keepdim=True)
    least = total.gather(-1, best)
    below, above = total.gather(-1, (best - 1).clamp(min=0)), total.gather(-1, torch.minimum(best + 1, last))
    bend = below - 2.0 * least + above
    within = (best > 0) & (best < last) & (bend > 1e-6)
    offset = torch.where(within, 0.5 * (below - above) / torch.where(within, bend, 1.0), 0.0)
    other = total.masked_fill((span - best.float()).abs() <= 2, torch.inf).amin(dim=-1, keepdim=True)
    return (best + offset)[..., 0], (other - least)[..., 0], costs.gather(-1, best)[..., 0]
