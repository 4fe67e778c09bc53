"""Ray casting of boxes and ellipsoids, vectorised over the pixels of a frame.

World axes are x right, y down, z forward, in metres. Rays are ``origin + t * direction`` with the direction's camera z
equal to 1, so that ``t`` IS the camera z of the hit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.demo.textures import Texture, as_float, remap_points

SUPERSAMPLING = 3
"""Rays per pixel along each axis; odd, so that one of them goes through the pixel's centre."""
NEAR = 0.05
TANGENTS = ((2, 1), (0, 2), (0, 1))
"""Which world axes run along a texture's u and v, for faces across x, y and z."""


@dataclass
class Box:
    """An axis-aligned box; the one with ``inside`` is the room, seen from within."""

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    textures: list[Texture]
    """Six textures: faces low x, high x, low y, high y, low z, high z."""
    inside: bool = False
    fit: bool = False
    """Whether a texture starts at the face's corner (pictures) instead of the world's origin (walls)."""
    light: list[Float[np.ndarray, "n n 3"]] = field(default_factory=list)
    """Light that falls on each of the six faces, linear, as a small picture stretched over the face."""

    @cached_property
    def corners(self) -> Float[np.ndarray, "8 3"]:
        """The eight corners."""
        pick = np.indices((2, 2, 2)).reshape(3, 8).T
        return np.where(pick, self.high, self.low)


@dataclass
class Ellipsoid:
    """An ellipsoid, given by its axes; part of a mover."""

    centre: Float[np.ndarray, "3"]
    radii: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    """Columns are the axes in the world."""
    texture: Texture


@dataclass
class Rays:
    """The rays of one frame, ``samples`` per pixel along each axis (h x w of them)."""

    c2w_cv: Float[np.ndarray, "4 4"]
    focal: float
    direction: Float[np.ndarray, "3 h w"]
    samples: int = SUPERSAMPLING
    bend: float = 0.0
    """How far a lens moves a point of the picture at most, in rays."""

    @classmethod
    def of_camera(
        cls,
        c2w_cv: Float[np.ndarray, "4 4"],
        focal: float,
        width: int,
        height: int,
        samples: int = SUPERSAMPLING,
        k1: float = 0.0,
    ) -> Rays:
        """Rays through a pinhole, or a lens with radial distortion, whose principal point is the picture's middle.

        Args:
            c2w_cv: Camera-to-world, OpenCV axes.
            focal: In pixels.
            width: Of the picture, pixels.
            height: Of the picture, pixels.
            samples: Rays per pixel along each axis.
            k1: OpenCV's first coefficient: a point at radius r in units of the focal appears at r (1 + k1 r^2).
        """
        x = ((np.arange(width * samples) + 0.5) / samples - width / 2) / focal
        y = ((np.arange(height * samples) + 0.5) / samples - height / 2) / focal
        rotation = c2w_cv[:3, :3]
        local = np.stack([*np.broadcast_arrays(x, y[:, None]), np.ones((len(y), len(x)))])
        bend = 0.0
        if k1:
            seen = local[:2].copy()
            for _ in range(8):  # contracts quickly for lenses that are not fisheyes
                local[:2] = seen / (1 + k1 * (local[:2] ** 2).sum(0))
            bend = float(np.abs(local[:2] - seen).max()) * focal * samples
        direction = np.tensordot(rotation, local, 1)
        return cls(c2w_cv, focal, direction.astype(np.float32), samples, bend)

    @property
    def origin(self) -> Float[np.ndarray, "3"]:
        """Camera centre."""
        return self.c2w_cv[:3, 3].astype(np.float32)

    @cached_property
    def inverse(self) -> Float[np.ndarray, "3 h w"]:
        """One over the direction."""
        with np.errstate(divide="ignore"):
            return 1 / self.direction

    def window(self, points: Float[np.ndarray, "n 3"], clip: bool = True) -> tuple[slice, slice]:
        """Rows and columns of the rays that can meet the hull of ``points``, none where all of it lies behind.

        Args:
            points: Corners, in the world.
            clip: Whether a hull that reaches behind the camera is cut there; otherwise it may be met by any ray.
        """
        rows, columns = self.direction.shape[1:]
        local = (points - self.c2w_cv[:3, 3]) @ self.c2w_cv[:3, :3]
        if local[:, 2].max() < NEAR:
            return slice(0, 0), slice(0, 0)
        if local[:, 2].min() < NEAR:
            if not clip:
                return slice(0, rows), slice(0, columns)
            local = _in_front(local)
        scale, margin = self.focal * self.samples, math.ceil(self.bend) + 1
        u = local[:, 0] / local[:, 2] * scale + columns / 2
        v = local[:, 1] / local[:, 2] * scale + rows / 2
        low_v, low_u = max(int(v.min()) - margin, 0), max(int(u.min()) - margin, 0)
        return slice(low_v, max(int(v.max()) + margin + 1, low_v)), slice(low_u, max(int(u.max()) + margin + 1, low_u))


def _in_front(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "m 3"]:
    """Corners of the part of a hull, in axes of the camera, that lies in front of it, a little before NEAR."""
    z, cut = points[:, 2], 0.9 * NEAR
    behind, front = np.nonzero((z[:, None] < cut) & (z >= cut))
    share = (cut - z[behind]) / (z[front] - z[behind])
    crossing = points[behind] + share[:, None] * (points[front] - points[behind])
    return np.concatenate([points[z >= cut], crossing])


def slabs(
    box: Box, origin: Float[np.ndarray, "3 *#shape"], inverse: Float[np.ndarray, "3 *shape"]
) -> tuple[Float[np.ndarray, "*shape"], Int[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """Where rays meet a box.

    Args:
        box: Seen from without, or from within.
        origin: Where the rays start.
        inverse: One over their direction.

    Returns:
        Distance, axis across which the face lies that is met, and whether one is met at all.
    """
    shape = inverse.shape[1:]
    axis = np.zeros(shape, np.int8)
    nearest, leave = np.empty(shape, np.float32), np.empty(shape, np.float32)
    with np.errstate(invalid="ignore"):
        for k in range(3):
            to_low = (np.float32(box.low[k]) - origin[k]) * inverse[k]
            to_high = (np.float32(box.high[k]) - origin[k]) * inverse[k]
            far = np.maximum(to_low, to_high)
            here = far if box.inside else np.minimum(to_low, to_high, out=to_low)
            if k == 0:
                nearest[...], leave[...] = here, far
                continue
            axis[here < nearest if box.inside else here > nearest] = k
            (np.minimum if box.inside else np.maximum)(nearest, here, out=nearest)
            np.minimum(leave, far, out=leave)
    found = nearest > 0 if box.inside else (nearest > NEAR) & (nearest <= leave)
    return nearest, axis, found


def bake_light(boxes: list[Box], lamps: list[tuple[float, float, float, float]], seed: int = 0) -> None:
    """Fill every box's ``light``: soft shadows of ceiling lamps, and daylight dimmed in corners (ambient occlusion).

    Args:
        boxes: The static world, the room first.
        lamps: Rectangles in the ceiling: centre x, centre z, half width, half depth, metres.
        seed: Seed of the sample directions.
    """
    rng = np.random.default_rng(seed)
    room = boxes[0]
    ceiling = room.low[1] + 0.04
    grid = (np.indices((3, 3)).reshape(2, 9).T + 0.5) / 1.5 - 1
    lamp_points = np.concatenate(
        [np.stack([x + grid[:, 0] * a, np.full(9, ceiling), z + grid[:, 1] * b], -1) for x, z, a, b in lamps]
    )
    sphere = rng.normal(size=(32, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for box in boxes:
        for face, texture in enumerate(box.textures):
            if texture.emission is not None:
                box.light.append(np.full((2, 2, 3), texture.emission, np.float32))
                continue
            box.light.append(_face_light(boxes, box, face, lamp_points, sphere))


def _face_light(
    boxes: list[Box],
    box: Box,
    face: int,
    lamp_points: Float[np.ndarray, "l 3"],
    sphere: Float[np.ndarray, "s 3"],
) -> Float[np.ndarray, "n n 3"]:
    axis, upper = divmod(face, 2)
    size = 40 if box.inside else 8
    u_axis, v_axis = TANGENTS[axis]
    normal = np.zeros(3)
    normal[axis] = (1 if upper else -1) * (-1 if box.inside else 1)
    steps = (np.arange(size) + 0.5) / size
    points = np.empty((size, size, 3))
    points[..., axis] = (box.high if upper else box.low)[axis] + 2e-3 * normal[axis]
    points[..., u_axis] = box.low[u_axis] + steps * (box.high - box.low)[u_axis]
    points[..., v_axis] = (box.low[v_axis] + steps * (box.high - box.low)[v_axis])[:, None]
    points = points.reshape(-1, 1, 3)

    to_lamp = lamp_points - points
    squared = (to_lamp**2).sum(-1)
    falloff = np.clip(to_lamp @ normal, 0, None) * np.clip(-to_lamp[..., 1], 0, None) / squared**2
    direct = (falloff * ~_blocked(boxes, points, to_lamp)).mean(1)
    hemisphere = sphere * np.sign(sphere @ normal)[:, None]
    open_ = ~_blocked(boxes, points, np.broadcast_to(1.5 * hemisphere, (len(points), len(sphere), 3)))
    cosine = hemisphere @ normal
    ambient = (open_ * cosine).sum(1) / cosine.sum()
    colour = as_float((1.0, 0.93, 0.82)) * 5.4 * direct[:, None] + as_float((0.46, 0.49, 0.54)) * ambient[:, None]
    return cv2.GaussianBlur(colour.astype(np.float32).reshape(size, size, 3), (3, 3), 0.8)


def _blocked(
    boxes: list[Box], points: Float[np.ndarray, "n 1 3"], offsets: Float[np.ndarray, "n s 3"]
) -> Bool[np.ndarray, "n s"]:
    """Whether anything but the room's own shell stands between points and points + offsets."""
    direction = np.moveaxis(offsets, -1, 0).astype(np.float32)
    origin = np.broadcast_to(np.moveaxis(points, -1, 0).astype(np.float32), direction.shape)
    hit = np.zeros(direction.shape[1:], bool)
    with np.errstate(divide="ignore"):
        inverse = 1 / direction
    for box in boxes:
        if all(texture.emission is not None for texture in box.textures):
            continue
        distance, _, found = slabs(box, origin, inverse)
        hit |= found & (distance < 0.95)  # the lamps themselves touch the ceiling
        if not box.inside:
            low, high = (side.astype(np.float32).reshape(3, 1, 1) for side in (box.low, box.high))
            hit |= ((origin > low) & (origin < high)).all(0)  # under the box: no light at all
    return hit


def cast_boxes(boxes: list[Box], rays: Rays) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w 3"]]:
    """Camera z and linear-light colour of the static world along every ray."""
    shape = rays.direction.shape[1:]
    depth = np.full(shape, np.inf, np.float32)
    surface = np.zeros(shape, np.int32)
    for number, box in enumerate(boxes):
        window = (slice(None), slice(None)) if box.inside else rays.window(box.corners)
        direction = rays.direction[:, window[0], window[1]]
        if direction.size == 0:
            continue
        distance, axis, found = slabs(box, rays.origin, rays.inverse[:, window[0], window[1]])
        nearer = found & (distance < depth[window])
        depth[window][nearer] = distance[nearer]
        across = axis[nearer].astype(np.int32)
        along = np.choose(across, direction[:, nearer]) > 0
        surface[window][nearer] = number * 6 + across * 2 + (along if box.inside else ~along)
    colour = np.empty((*shape, 3), np.float32)
    flat_direction, flat_depth, flat_colour = rays.direction.reshape(3, -1), depth.ravel(), colour.reshape(-1, 3)
    flat_surface = surface.ravel()
    order = np.argsort(flat_surface, kind="stable")
    kinds, starts = np.unique(flat_surface[order], return_index=True)
    for kind, start, stop in zip(kinds, starts, [*starts[1:], len(order)], strict=True):
        where = order[start:stop]
        box, face = boxes[kind // 6], int(kind % 6)
        flat_colour[where] = _shade_face(box, face, flat_direction[:, where], flat_depth[where], rays)
    return depth, colour


def _shade_face(
    box: Box, face: int, direction: Float[np.ndarray, "3 n"], depth: Float[np.ndarray, " n"], rays: Rays
) -> Float[np.ndarray, "n 3"]:
    axis = face // 2
    u_axis, v_axis = TANGENTS[axis]
    u, v = (rays.origin[a] + depth * direction[a] for a in (u_axis, v_axis))
    squared = (direction**2).sum(0)
    footprint = depth * squared / (rays.focal * rays.samples * np.maximum(np.abs(direction[axis]), 1e-4))
    start_u, start_v = (box.low[u_axis], box.low[v_axis]) if box.fit else (0.0, 0.0)
    colour = box.textures[face].sample(u - start_u, v - start_v, footprint)
    across = (u - box.low[u_axis]) / (box.high - box.low)[u_axis]
    down = (v - box.low[v_axis]) / (box.high - box.low)[v_axis]
    light = remap_points(box.light[face], across.astype(np.float32), down.astype(np.float32), cv2.BORDER_REPLICATE)
    return colour * light


def cast_ellipsoids(
    parts: Sequence[Ellipsoid],
    rays: Rays,
    depth: Float[np.ndarray, "h w"],
    colour: Float[np.ndarray, "h w 3"],
) -> Bool[np.ndarray, "h w"]:
    """Draw movers over a static frame.

    Args:
        parts: Every ellipsoid of every mover, where they are in this frame.
        rays: Rays of the frame.
        depth: Camera z of the static world; overwritten where a mover is nearer.
        colour: Linear-light colour of the static world; overwritten likewise.

    Returns:
        The rays that meet a mover first.
    """
    hit = np.zeros(depth.shape, bool)
    light = np.array((0.25, -0.85, -0.46), np.float32)
    for part in parts:
        # A tighter hull would do, but products of another shape are rounded otherwise: the demo would change.
        reach = float(part.radii.max())
        cube = part.centre + reach * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1)
        window = rays.window(cube, clip=False)
        direction = rays.direction[:, window[0], window[1]]
        if direction.size == 0:
            continue
        to_local = (part.rotation / part.radii).T.astype(np.float32)
        start = to_local @ (rays.origin - part.centre.astype(np.float32))
        local = np.tensordot(to_local, direction, 1)
        a, b, c = (local**2).sum(0), np.tensordot(start, local, 1), float(start @ start) - 1
        discriminant = b * b - a * c
        distance = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        nearer = (discriminant > 0) & (distance > NEAR) & (distance < depth[window])
        t = distance[nearer]
        unit = start[:, None] + t * local[:, nearer]
        normal = (part.rotation / part.radii).astype(np.float32) @ unit
        normal /= np.linalg.norm(normal, axis=0)
        longitude = np.arctan2(unit[0], unit[2]) / (2 * np.pi) + 0.5
        latitude = np.arccos(np.clip(unit[1], -1, 1)) / np.pi
        # A full turn of the picture is about six radii long, which sets how fine a sample is on it.
        footprint = t / (rays.focal * rays.samples * 6 * part.radii.min())
        shade = 0.42 + 0.62 * np.clip(light @ normal, 0, None)
        depth[window][nearer] = t
        colour[window][nearer] = part.texture.sample(longitude, latitude, footprint) * shade[:, None]
        hit[window][nearer] = True
    return hit
