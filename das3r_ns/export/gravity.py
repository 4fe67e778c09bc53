"""Which way is up in a scene, from how the camera was held and from its planes.

nerfstudio takes the mean of the cameras' own up directions, which is right while the camera looks ahead. People hold a
camera level far better than they look straight ahead, and floors, tables and walls know it better still. So the up
direction is that of the greatest likelihood, where

- the cameras' right directions are horizontal, to a few degrees,
- normals of the static scene are those of level ground, of upright walls, or of anything,
- and up is not far from nerfstudio's.

Planes of an estimated depth are tilted by some degrees themselves, as the focal and the depth are off. So they are
asked only where they say that up is farther off than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.geometry import pixel_centres, transform_points, unproject

MOST_TILT = math.radians(45)
"""Between nerfstudio's up and ours."""
ROLL, PITCH, PLANE = (math.radians(degrees) for degrees in (4.0, 12.0, 5.0))
"""Spread of the cameras' roll, of their pitch, and of the normals of one plane."""
LEVEL, UPRIGHT = 0.3, 0.3
"""Expected shares of normals that are up or down, and that are horizontal."""
ROLL_WITNESSES, PLANE_WITNESSES = 5, 10
"""As how many independent observations the cameras and the normals count: neighbours say the same."""
ENOUGH = 2000
"""Normals that count as PLANE_WITNESSES; fewer count less."""
TILTED = math.radians(10)
"""Up to which planes of an estimated depth may be tilted."""
FRAMES, ACROSS = 12, 80
"""Frames whose normals are taken, and normals across a picture."""
FLAT = 0.01
"""Relative bend of the inverse depth, which is linear on a plane, up to which a pixel has a normal."""
LEVEL_GROUND, LEAST_GROUND = math.cos(math.radians(20)), 50
"""Ground is no steeper than this, and has so many normals at least."""


@dataclass(frozen=True)
class Surface:
    """Samples of the static scene, in the world of the estimate."""

    xyz: Float[np.ndarray, "M 3"]
    normals: Float[np.ndarray, "M 3"]
    """Unit vectors, towards the camera."""
    area: Float[np.ndarray, " M"]
    """That each sample stands for."""


def static_surface(estimate: SceneEstimate) -> Surface:
    """Points with normals where the depth is measured, static and flat."""
    step = max(1, estimate.width // ACROSS)
    centres = pixel_centres(estimate.height, estimate.width).astype(np.float64)
    inner = np.s_[step:-step:step, step:-step:step]
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for frame in np.unique(np.linspace(0, estimate.num_frames - 1, FRAMES).round().astype(int)):
        depth, k = estimate.depth[frame].astype(np.float64), estimate.intrinsics[frame]
        points = unproject(centres, depth, k)
        inverse, good = 1 / depth, estimate.confidence[frame] > 0.5
        good &= estimate.not_static[frame] < 0.5
        keep, tangents = good[inner], []
        for axis in (0, 1):
            (p0, i0, g0), (p1, i1, g1) = (
                [np.roll(values, shift, axis)[inner] for values in (points, inverse, good)] for shift in (step, -step)
            )
            keep &= g0 & g1 & (np.abs(i0 + i1 - 2 * inverse[inner]) < FLAT * inverse[inner])
            tangents.append(p1 - p0)
        normal = np.cross(tangents[0], tangents[1])
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        view = points[inner] / np.linalg.norm(points[inner], axis=-1, keepdims=True)
        facing = -(normal * view).sum(axis=-1)
        normal *= np.sign(facing)[..., None]
        keep &= np.abs(facing) > 0.1
        area = depth[inner] ** 2 * step**2 / (k[0, 0] * k[1, 1] * np.maximum(np.abs(facing), 0.2))
        c2w = estimate.c2w_cv[frame]
        parts.append((transform_points(c2w, points[inner][keep]), normal[keep] @ c2w[:3, :3].T, area[keep]))
    return Surface(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def up_direction(estimate: SceneEstimate, surface: Surface | None = None) -> Float[np.ndarray, "3"]:
    """Unit vector up, in the world of the estimate.

    Args:
        estimate: Cameras and depth; of a camera that only turns, or stands, the depth is a guess and not asked.
        surface: :func:`static_surface` of it, where that is known already.
    """
    first = -estimate.c2w_cv[:, :3, 1].mean(axis=0)  # y is down in a camera
    first /= np.linalg.norm(first)
    normals = np.zeros((0, 3))
    if estimate.camera_kind == "general":
        normals = (surface or static_surface(estimate)).normals
        if len(normals) > 4000:
            normals = normals[:: len(normals) // 4000 + 1]
    level = _likeliest(first, MOST_TILT, first, estimate.c2w_cv[:, :3, 0])
    if not len(normals):
        return level
    up = _likeliest(first, MOST_TILT, first, estimate.c2w_cv[:, :3, 0], normals)
    if up @ level > math.cos(TILTED):
        return level
    # Far from nerfstudio's: which is no reason any more to be nearer to it.
    return _likeliest(up, TILTED, None, estimate.c2w_cv[:, :3, 0], normals)


def _likeliest(
    centre: Float[np.ndarray, "3"],
    reach: float,
    first: Float[np.ndarray, "3"] | None,
    rights: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "M 3"] | None = None,
) -> Float[np.ndarray, "3"]:
    """The up direction of the greatest likelihood within an angle of a direction, searched ever more finely."""
    best = centre
    for step, count in ((reach, 4000), (math.radians(3), 2000), (math.radians(0.3), 500)):
        candidates = np.concatenate([best[None], _cap(best, step, count)])
        candidates = candidates[candidates @ centre >= math.cos(reach) - 1e-9]
        best = candidates[np.argmax(_log_likelihood(candidates, first, rights, normals))]
    return best


def _cap(centre: Float[np.ndarray, "3"], reach: float, count: int) -> Float[np.ndarray, "K 3"]:
    """Unit vectors within an angle of another, evenly spread on a spiral (Vogel, 1979)."""
    number = np.arange(count) + 0.5
    cosine = 1 - (1 - math.cos(reach)) * number / count
    angle = number * math.pi * (3 - math.sqrt(5))
    across = np.linalg.svd(centre[None])[2][1:]
    sine = np.sqrt(1 - cosine**2)
    return np.stack([cosine, sine * np.cos(angle), sine * np.sin(angle)], axis=1) @ np.concatenate(
        [centre[None], across]
    )


def _log_likelihood(
    ups: Float[np.ndarray, "K 3"],
    first: Float[np.ndarray, "3"] | None,
    rights: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "M 3"] | None,
) -> Float[np.ndarray, " K"]:
    roll = np.arcsin(np.clip(ups @ rights.T, -1, 1)) / ROLL
    # Bounded: a camera that is turned on its side for a while says nothing.
    value = -0.5 * ROLL_WITNESSES * np.minimum(roll**2, 9).mean(axis=1)
    if first is not None:
        value -= 0.5 * (np.arccos(np.clip(ups @ first, -1, 1)) / PITCH) ** 2
    if normals is not None:
        cosine = np.abs(ups @ normals.T)
        level = np.exp(-0.5 * (np.arccos(np.minimum(cosine, 1)) / PLANE) ** 2) / (4 * math.pi * PLANE**2)
        wall = np.exp(-0.5 * (np.arcsin(np.minimum(cosine, 1)) / PLANE) ** 2) / (
            2 * math.pi * PLANE * math.sqrt(2 * math.pi)
        )
        anything = (1 - LEVEL - UPRIGHT) / (4 * math.pi)
        value += (
            PLANE_WITNESSES
            * min(1.0, len(normals) / ENOUGH)
            * np.log(LEVEL * level + UPRIGHT * wall + anything).mean(axis=1)
        )
    return value


def height_above_ground(
    estimate: SceneEstimate, up: Float[np.ndarray, "3"], surface: Surface | None = None
) -> float | None:
    """Median height of the cameras above the largest level surface below them; None where there is none.

    Args:
        estimate: Cameras and depth.
        up: Unit vector.
        surface: :func:`static_surface` of it, where that is known already.
    """
    surface = surface or static_surface(estimate)
    camera = float(np.median(estimate.c2w_cv[:, :3, 3] @ up))
    below = camera - surface.xyz @ up
    level = (surface.normals @ up > LEVEL_GROUND) & (below > 0)
    too_little = level.sum() < LEAST_GROUND or surface.area[level].sum() <= 0.02 * surface.area.sum()
    if estimate.camera_kind != "general" or too_little:
        return None
    below, area = below[level], surface.area[level]
    order = np.argsort(below)
    below, area = below[order], area[order]
    # Most area within a twentieth of the height, wherever it begins.
    total = np.concatenate([[0.0], np.cumsum(area)])
    within = total[np.searchsorted(below, below * 1.05, side="right")] - total[:-1]
    start = int(np.argmax(within))
    chosen = slice(start, int(np.searchsorted(below, below[start] * 1.05, side="right")))
    share = np.cumsum(area[chosen])
    return float(below[chosen][np.searchsorted(share, share[-1] / 2)])
