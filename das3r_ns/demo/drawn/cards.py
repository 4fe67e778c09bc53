"""Flat cards with a cut-out outline: leaves, lattices, windows' bars, the sides of turned boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import NEAR, Ellipsoid, Rays, cast_ellipsoids

SOLID = 0.5
"""Opacity above which a card stops a ray."""


class Cut:
    """An outline as a picture of opacity, 0 to 1, with its mip pyramid."""

    def __init__(self, picture: Float[np.ndarray, "S S"]) -> None:
        self.levels = [picture.astype(np.float32)]
        while self.levels[-1].shape[0] > 8:
            smaller = cv2.resize(self.levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            self.levels.append(smaller.astype(np.float32))

    def solid(self, u: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], footprint: float) -> Bool[np.ndarray, " n"]:
        """Where it stops rays.

        Args:
            u: Along the picture's columns, 0 to 1.
            v: Along its rows, 0 to 1.
            footprint: Width of a sample in widths of the picture.
        """
        wanted = int(np.log2(max(footprint * self.levels[0].shape[0], 1.0)))
        level = self.levels[min(wanted, len(self.levels) - 1)]
        size = level.shape[0]
        return level[(v * size).astype(np.int32) % size, (u * size).astype(np.int32) % size] > SOLID


@dataclass
class Card:
    """A rectangle in space; seen from both sides unless it is the side of a box."""

    corner: Float[np.ndarray, "3"]
    along: Float[np.ndarray, "3"]
    """From the corner along the texture's columns, metres."""
    down: Float[np.ndarray, "3"]
    """Along its rows; at right angles to ``along``."""
    texture: Texture
    """In metres from the corner."""
    cut: Cut | None = None
    shade: float = 1.0
    """Light that falls on it, linear."""
    side: bool = False
    """Side of a box: seen only from where ``along x down`` points away from, its outside."""

    @property
    def corners(self) -> Float[np.ndarray, "4 3"]:
        """The four corners."""
        return self.corner + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) @ np.stack([self.along, self.down])


Part = Ellipsoid | Card


def cast_parts(
    parts: Sequence[Part], rays: Rays, depth: Float[np.ndarray, "h w"], colour: Float[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "h w"]:
    """Draw ellipsoids and cards over a frame; as :func:`das3r_ns.demo.world.cast_ellipsoids`."""
    hit = cast_ellipsoids([part for part in parts if isinstance(part, Ellipsoid)], rays, depth, colour)
    for part in parts:
        if isinstance(part, Card):
            _cast_card(part, rays, depth, colour, hit)
    return hit


def _cast_card(
    card: Card,
    rays: Rays,
    depth: Float[np.ndarray, "h w"],
    colour: Float[np.ndarray, "h w 3"],
    hit: Bool[np.ndarray, "h w"],
) -> None:
    normal = np.cross(card.along, card.down)
    away = float(normal @ (card.corner - rays.origin))
    if card.side and away < 0:
        return
    # Of a cut window some products would be rounded otherwise: drawn clips would change.
    rows, columns = rays.window(card.corners, clip=False)
    direction = rays.direction[:, rows, columns]
    if direction.size == 0:
        return
    wide, tall = np.linalg.norm(card.along), np.linalg.norm(card.down)
    axes = np.stack([normal, card.along / wide**2, card.down / tall**2]).astype(np.float32)
    facing, run_u, run_v = np.tensordot(axes, direction, 1)
    start_u, start_v = (axes[1:] @ (rays.origin - card.corner)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.float32(away) / facing
        u, v = start_u + distance * run_u, start_v + distance * run_v
        found = (
            (distance > NEAR) & (distance < depth[rows, columns]) & (np.abs(u - 0.5) < 0.5) & (np.abs(v - 0.5) < 0.5)
        )
    where = np.nonzero(found)
    if not len(where[0]):
        return
    u, v, distance = u[where], v[where], distance[where]
    per_metre = distance / (rays.focal * rays.samples)
    if card.cut is not None:
        kept = card.cut.solid(u, v, float(np.median(per_metre) / max(wide, tall)))
        where = (where[0][kept], where[1][kept])
        u, v, distance, per_metre = u[kept], v[kept], distance[kept], per_metre[kept]
    length = float(np.linalg.norm(normal))
    slant = np.maximum(np.abs(facing[where]) / length, 0.1)
    depth[rows, columns][where] = distance
    colour[rows, columns][where] = card.texture.sample(u * wide, v * tall, per_metre / slant) * card.shade
    hit[rows, columns][where] = True


def turned_box(
    centre: Float[np.ndarray, "3"],
    size: Float[np.ndarray, "3"],
    rotation: Float[np.ndarray, "3 3"],
    texture: Texture,
    lid: Texture | None = None,
) -> list[Card]:
    """The sides of a box at any angle, shaded by where they point.

    Args:
        centre: Its middle.
        size: Edge lengths along its own axes.
        rotation: Columns are its axes in the world.
        texture: Of its sides.
        lid: Of its upper and lower side; as the others if None.
    """
    out = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = sign * rotation[:, axis]
            u_axis, v_axis = ((2, 1), (0, 2), (0, 1))[axis]
            along, down = rotation[:, u_axis] * size[u_axis], rotation[:, v_axis] * size[v_axis]
            if np.cross(along, down) @ normal > 0:
                along = -along
            corner = centre + 0.5 * size[axis] * normal - 0.5 * along - 0.5 * down
            cloth = lid if lid is not None and axis == 1 else texture
            out.append(Card(corner, along, down, cloth, None, lit(normal), True))
    return out


LIGHT = np.array((0.25, -0.85, -0.46))
"""Towards the light, as ellipsoids are shaded."""


def lit(normal: Float[np.ndarray, "3"]) -> float:
    """Light on a surface of that normal, the same as on the ellipsoids."""
    return float(0.42 + 0.62 * max(normal @ LIGHT, 0.0))
