"""What moves in drawn clips, or stands there though it could: walkers, beasts, balls, lumps, cut-outs, cars."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cards import Card, Part
from das3r_ns.demo.drawn.outlines import blob
from das3r_ns.demo.drawn.stuff import anything, stuff
from das3r_ns.demo.drawn.vehicles import Body, car
from das3r_ns.demo.room import turn_x, turn_y, turn_z, walker
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import Ellipsoid

BODIES = ("walker", "beast", "ball", "lump", "cutout", "car")


def body(rng: np.random.Generator, kind: str, scale: float) -> tuple[Body, float]:
    """A thing that can move, and how large it is: the longest of its sides, metres."""
    scale = scale * float(rng.uniform(0.6, 1.25))
    if kind == "walker":
        return _walker(rng, scale), 1.8 * scale
    if kind == "beast":
        return _beast(rng, scale), 1.7 * scale
    if kind == "cutout":
        return _cutout(rng, scale), 1.6 * scale
    if kind == "car":
        return car(rng, 0.8 * scale), 3.3 * scale
    return _ball(rng, scale, kind == "ball"), (0.8 if kind == "ball" else 1.1) * scale


def _walker(rng: np.random.Generator, scale: float) -> Body:
    outfit = tuple(stuff(rng, float(rng.uniform(0.4, 1.0))) for _ in range(4))
    stout = np.array([rng.uniform(0.8, 1.5), 1.0, rng.uniform(0.8, 1.4)]) * scale

    def at(place: Float[np.ndarray, "3"], heading: float, gone: float) -> list[Part]:
        parts = walker(np.zeros(3), (float(np.sin(heading)), float(np.cos(heading))), gone / (0.7 * scale), outfit)
        facing = turn_y(heading)
        squeeze = facing @ np.diag(stout) @ facing.T
        return [
            Ellipsoid(place + squeeze @ part.centre, part.radii * stout, part.rotation, part.texture) for part in parts
        ]

    return at


def _beast(rng: np.random.Generator, scale: float) -> Body:
    """A trunk on two to six legs, with a neck, a head and a tail, of any proportions."""
    hide, second = stuff(rng, 0.5), stuff(rng, 0.5)
    long, thick, leg = scale * rng.uniform((0.3, 0.14, 0.2), (0.65, 0.32, 0.75))
    neck, head = scale * rng.uniform((0.1, 0.09), (0.45, 0.2))
    rise, legs = rng.uniform(0.0, 1.2), int(rng.choice([2, 4, 4, 6]))
    slim, tail, stride = rng.uniform(0.15, 0.35) * thick, scale * rng.uniform(0.0, 0.5), rng.uniform(0.3, 0.8)

    def at(place: Float[np.ndarray, "3"], heading: float, gone: float) -> list[Part]:
        facing, beat = turn_y(heading), np.pi * gone / (0.8 * leg + 0.2 * scale)
        height = leg + 0.7 * thick + 0.04 * scale * abs(np.sin(beat))

        def part(centre: tuple[float, float, float], radii: tuple[float, float, float], lean: float, cloth: Texture):
            x, y, z = centre
            return Ellipsoid(place + facing @ np.array([x, -y, z]), np.array(radii), facing @ turn_x(lean), cloth)

        front = 0.85 * long
        out: list[Part] = [part((0, height, 0), (thick, thick, long), 0.05 * np.sin(beat), hide)]
        nod = rise + 0.15 * np.sin(beat)
        reach_y, reach_z = neck * np.sin(nod), neck * np.cos(nod)
        out.append(
            part((0, height + 0.5 * reach_y, front + 0.5 * reach_z), (0.5 * thick, 0.5 * thick, 0.6 * neck), nod, hide)
        )
        out.append(
            part((0, height + reach_y, front + reach_z + 0.5 * head), (0.8 * head, head, 1.3 * head), -0.2, second)
        )
        if tail > 0.1 * scale:
            wag = 0.3 * tail * np.sin(0.7 * beat)
            out.append(
                part((wag, height + 0.2 * tail, -long - 0.4 * tail), (0.3 * slim, 0.3 * slim, 0.6 * tail), 0.5, second)
            )
        for number in range(legs):
            pair, side = divmod(number, 2)
            z = long * (0.75 - 1.5 * pair / max(legs // 2 - 1, 1)) if legs > 2 else 0.0
            swing = stride * np.sin(beat + np.pi * (number % 3))
            x = (0.6 if side else -0.6) * thick
            centre = (x, height - 0.5 * thick - 0.5 * leg * np.cos(swing), z - 0.5 * leg * np.sin(swing))
            out.append(part(centre, (slim, 0.5 * leg + slim, slim), -swing, second if number % 2 else hide))
        return out

    return at


def _ball(rng: np.random.Generator, scale: float, bounces: bool) -> Body:
    """A ball that bounces and rolls, or a lump that floats, turns and changes its shape."""
    radii = np.full(3, rng.uniform(0.15, 0.4)) * scale if bounces else rng.uniform(0.12, 0.5, 3) * scale
    cloth, phase = stuff(rng, float(rng.choice([0.5, 1.0]))), rng.random(3)
    high, turning, squash = rng.uniform(0.0, 1.2) * scale, rng.uniform(0.5, 2.5), rng.uniform(0, 0.35) * (not bounces)

    def at(place: Float[np.ndarray, "3"], heading: float, gone: float) -> list[Part]:
        beat = gone / scale
        lift = high * (abs(np.sin(np.pi * (beat + phase[0]))) if bounces else 0.7 + 0.1 * np.sin(2 * beat))
        size = radii * (1 + squash * np.sin(4 * beat + 6 * phase))
        spin = turn_y(heading) @ turn_x(-turning * beat * (2 if bounces else 1)) @ turn_z(float(phase[1]))
        return [Ellipsoid(place - np.array([0, size.max() + lift, 0]), size, spin, cloth)]

    return at


def _cutout(rng: np.random.Generator, scale: float) -> Body:
    """A flat figure of random outline that deforms as it goes, sharp-edged, with any picture on it."""
    waves = np.stack([rng.normal(0, 0.14, 9) / np.sqrt(np.arange(1, 10)), rng.uniform(0, 6.3, 9)])
    wide, tall = scale * rng.uniform((0.5, 0.7), (1.6, 1.7))
    size = float(rng.uniform(0.5, 1.2))
    cloth = Texture(anything(rng), (size * wide, size * wide))
    lively, askew, lift = rng.uniform(0.0, 0.5), rng.uniform(-1.0, 1.0), rng.uniform(0, 0.3) * scale

    def at(place: Float[np.ndarray, "3"], heading: float, gone: float) -> list[Part]:
        facing = turn_y(askew + 0.2 * float(np.sin(gone / scale)))
        along = facing @ turn_z(0.12 * float(np.sin(3 * gone / scale))) @ np.array([wide, 0, 0])
        down = np.array([0, tall, 0])
        down = down - along * (down @ along) / (along @ along)
        corner = place - np.array([0, lift, 0]) - 0.5 * along - down
        return [Card(corner, along, down, cloth, blob(waves, lively * gone / scale), 0.9)]

    return at
