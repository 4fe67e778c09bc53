"""A static world to film: what stands, how it is lit, where cameras may be, and the shadows on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cards import LIGHT, Card, Part, lit
from das3r_ns.demo.drawn.stuff import blank, shining, sky
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import TANGENTS, Box, Ellipsoid

FAR = 70.0
"""Metres to the backdrop of open places."""
SHADOWS = 256
"""Side of the picture of shadows on the ground."""
GLOBE = np.stack(
    [
        [np.cos(a) * np.cos(b), np.sin(b), np.sin(a) * np.cos(b)]
        for b in (-1.2, -0.4, 0.4, 1.2)
        for a in np.arange(8) * 0.785
    ]
)


@dataclass
class Scene:
    """A place; y = 0 is the ground."""

    kind: str
    boxes: list[Box]
    """The shell first, then what is solid."""
    ground: tuple[int, int]
    """Box and face that shadows fall on."""
    focus: Float[np.ndarray, "3"]
    """What a camera looks at."""
    eye: Float[np.ndarray, "3"]
    """Where a camera starts."""
    free: Float[np.ndarray, "2 3"]
    """Lowest and highest corner of where it may go."""
    cameras: tuple[str, ...]
    """Kinds of camera that suit the place."""
    scale: float = 1.0
    """Of the movers: 1 where people walk."""
    parts: list[Part] = field(default_factory=list)
    """Ellipsoids and cards that stand."""
    shadow: float = 0.5
    """Share of the light on the ground that a shadow takes away."""
    gloss: float = 0.0
    """Share of the light that a level surface mirrors; more where one looks along it."""
    level: float = 0.0
    """Height of that surface: the y of the ground, or of a table's top."""
    towards: Float[np.ndarray, "3"] = field(default_factory=lambda: LIGHT)
    """Towards the light."""

    def lit_by(self, moving: Sequence[Part]) -> list[Box]:
        """The boxes with the shadows of what moves on the ground."""
        if not moving or not self.shadow:
            return self.boxes
        number, face = self.ground
        box = self.boxes[number]
        light = list(box.light)
        full = cv2.resize(light[face], (SHADOWS, SHADOWS), interpolation=cv2.INTER_LINEAR)
        light[face] = full * (1 - self.shadow * self._cover(moving))[..., None]
        return [*self.boxes[:number], replace(box, light=light), *self.boxes[number + 1 :]]

    def cast_shadows(self) -> None:
        """Darken the ground under what stands; once, when everything does."""
        number, face = self.ground
        box = self.boxes[number]
        standing = [*(other for other in self.boxes[1:] if other is not box and not _shines(other)), *self.parts]
        full = cv2.resize(box.light[face], (SHADOWS, SHADOWS), interpolation=cv2.INTER_LINEAR)
        box.light[face] = full * (1 - self.shadow * self._cover(standing))[..., None]

    def _cover(self, things: Sequence[Part | Box]) -> Float[np.ndarray, "S S"]:
        number, face = self.ground
        box = self.boxes[number]
        u_axis, v_axis = TANGENTS[face // 2]
        low, size = box.low, box.high - box.low
        cover = np.zeros((SHADOWS, SHADOWS), np.float32)
        for thing in things:
            points = surface_of(thing)
            points = points[points[:, 1] < -0.005]
            if len(points) < 3:
                continue
            thrown = points - self.towards * (points[:, 1] / self.towards[1])[:, None]
            where = (thrown[:, (u_axis, v_axis)] - low[[u_axis, v_axis]]) / size[[u_axis, v_axis]] * SHADOWS
            dark = 0.5 if isinstance(thing, Card) and thing.cut is not None else 1.0
            hull = cv2.convexHull((np.clip(where, -4000, 4000) * 16).astype(np.int32))
            one = np.zeros_like(cover)
            cv2.fillConvexPoly(one, hull, (dark,), shift=4)
            cover = np.maximum(cover, one) if dark == 1.0 else cover + (1 - cover) * one
        return cv2.GaussianBlur(cover, (0, 0), 1.2)


def surface_of(thing: Part | Box) -> Float[np.ndarray, "n 3"]:
    """Some points of its surface that span it."""
    if isinstance(thing, Ellipsoid):
        return thing.centre + (GLOBE * thing.radii) @ thing.rotation.T
    return thing.corners


def _shines(box: Box) -> bool:
    return all(texture.emission is not None for texture in box.textures)


def block(
    low: Sequence[float], high: Sequence[float], *textures: Texture, fit: bool = False, inside: bool = False
) -> Box:
    """A box with one texture, or six, lit by where its faces point and darker towards the ground."""
    six = list(textures) * 6 if len(textures) == 1 else list(textures)
    box = Box(np.array(low, float), np.array(high, float), six, inside, fit)
    down = np.linspace(0, 1, 16, dtype=np.float32)[:, None, None]
    for face in range(6):
        normal = np.zeros(3)
        normal[face // 2] = (1.0 if face % 2 else -1.0) * (-1 if inside else 1)
        light = np.ones((16, 16, 3), np.float32)
        if six[face].emission is None:
            light *= lit(normal) * np.array((1.02, 1.0, 0.97), np.float32)
            if face // 2 != 1:
                light *= 1 - 0.45 * down**4
        box.light.append(light)
    return box


def heaven(rng: np.random.Generator) -> Box:
    """The sky all round."""
    picture = sky(rng)
    side, above = shining(picture), shining(np.ascontiguousarray(np.broadcast_to(picture[:1, :1], picture.shape)))
    high, low = (FAR, 1.0, FAR), (-FAR, -0.6 * FAR, -FAR)
    for texture in (side, above):
        texture.metres = (2 * FAR, 0.6 * FAR + 1.0)
    return block(low, high, side, side, above, above, side, side, fit=True, inside=True)


def indoors(rng: np.random.Generator, low: Sequence[float], high: Sequence[float], walls: list[Texture]) -> Box:
    """A room of that size; walls: left and right, floor, ahead and behind."""
    ceiling = Texture(blank(rng), (2.0, 2.0))
    shell = block(low, high, walls[0], walls[0], ceiling, walls[1], walls[2], walls[2], inside=True)
    wide = np.linspace(-1, 1, 16, dtype=np.float32)
    corner = (1 - 0.3 * wide[None, :, None] ** 4) * (1 - 0.3 * wide[:, None, None] ** 4)
    glow = 1 + 0.35 * np.exp(
        -((wide[None, :, None] - rng.uniform(-1, 1)) ** 2 + (wide[:, None, None] + 0.5) ** 2) / 0.4
    )
    shell.light = [(light * corner * glow * rng.uniform(0.7, 1.15) * 0.8).astype(np.float32) for light in shell.light]
    shell.light[2] = np.full((2, 2, 3), 0.85, np.float32)
    return shell
