"""Ways of what moves: across, there and back, standing first or last, towards the camera, along with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.bodies import BODIES, body
from das3r_ns.demo.drawn.cameras import Filming
from das3r_ns.demo.drawn.cards import Part
from das3r_ns.demo.drawn.scene import Scene
from das3r_ns.demo.drawn.vehicles import Body

WAYS = ("across", "across", "turn", "stop", "late", "stopgo", "near", "along")
"""Kinds of way; the first twice as often."""
TRIES = 8
LEAST = 0.5
"""Metres, at a scale of 1, that a mover goes at least: what hardly moves is no lesson."""


@dataclass
class Mover:
    """A body on its way over the ground."""

    kind: str
    way: str
    size: float
    """Its longest side, metres."""
    body: Body
    times: Float[np.ndarray, " K"]
    """When it is where, 0 to 1 over the clip; before the first and after the last it stands."""
    places: Float[np.ndarray, "K 3"]
    turned: float = 0.0
    """Between where it heads and where it looks, radians."""

    def place(self, time: float) -> Float[np.ndarray, "3"]:
        """Where it stands."""
        return np.array([np.interp(time, self.times, axis) for axis in self.places.T])

    def at(self, time: float) -> list[Part]:
        """Its parts at a time from 0 to 1."""
        steps = np.diff(self.places, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        gone = float(np.interp(time, self.times, np.concatenate([[0.0], lengths.cumsum()])))
        real = np.flatnonzero(lengths > 1e-6)
        if not len(real):
            return self.body(self.place(time), self.turned, gone)
        headings = np.unwrap(np.arctan2(steps[real, 0], steps[real, 2]))
        # It turns about a tenth of the clip's time round each corner.
        corners = self.times[real[1:]]
        heading = headings[0] + sum(
            turn * np.clip((time - when) / 0.1 + 0.5, 0, 1)
            for turn, when in zip(np.diff(headings), corners, strict=True)
        )
        return self.body(self.place(time), float(heading) + self.turned, gone)


def mover(rng: np.random.Generator, scene: Scene, filming: Filming, field: float) -> Mover:
    """Something that moves before the camera.

    Args:
        rng: Source of everything.
        scene: Where.
        filming: By what camera.
        field: Half of what it sees across, as the tangent.
    """
    kind = str(rng.choice(BODIES))
    made, size = body(rng, kind, scene.scale)
    way = str(rng.choice(WAYS))
    for _ in range(TRIES):
        times, places = _route(rng, way, scene, filming, field, size)
        out = Mover(kind, way, size, made, times, places, float(rng.normal(0, 0.15)))
        if not _collides(out, filming):
            return out
    places = places + 2.0 * size * _ahead(filming.pose(0.5))
    return Mover(kind, "across", size, made, times, places)


def standing(rng: np.random.Generator, scene: Scene, filming: Filming, field: float) -> list[Part]:
    """Something of the same stuff that could move and does not."""
    one = mover(rng, scene, filming, field)
    return one.at(float(rng.random()))


def _route(
    rng: np.random.Generator, way: str, scene: Scene, filming: Filming, field: float, size: float
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "K 3"]]:
    least, most = max(0.9 * size, 0.9 * scene.scale), max(2.5 * size, 5.0 * scene.scale)
    # Log-uniform: far ones are small, and all sizes are wanted alike.
    far = float(np.exp(rng.uniform(np.log(1.2 * least), np.log(most))))

    def spot(time: float, across: float, distance: float) -> Float[np.ndarray, "3"]:
        pose = filming.pose(time)
        ahead = _ahead(pose)
        right = np.array([ahead[2], 0.0, -ahead[0]])
        return (pose[:3, 3] + distance * (ahead + across * field * right)) * (1, 0, 1)

    side = float(rng.choice([-1, 1]))
    start, end = side * float(rng.uniform(0.2, 1.2)), -side * float(rng.uniform(0.0, 1.1))
    drift = float(rng.uniform(0.7, 1.4))
    if way == "near":
        close = size * float(rng.uniform(0.75, 1.1))
        times, route = [0.0, 1.0], [spot(0, start * 0.6, far * 1.5), spot(1, end * 0.5, close)]
        if rng.random() < 0.3:
            route.reverse()
            route = [spot(0, start * 0.5, close), spot(1, end * 0.6, far * 1.5)]
    elif way == "along":
        times = list(np.linspace(0, 1, 6))
        route = [
            spot(t, start * 0.6 + float(rng.normal(0, 0.07)), far * (1 + float(rng.normal(0, 0.04)))) for t in times
        ]
        route = [place + 0.3 * t * size * np.array([side, 0, 0.3]) for t, place in zip(times, route, strict=True)]
    elif way == "turn":
        times = [0.0, float(rng.uniform(0.3, 0.7)), 1.0]
        route = [spot(0, start, far), spot(times[1], end, far * drift), spot(1, start * float(rng.uniform(-1, 1)), far)]
    elif way == "stopgo":
        stop = float(rng.uniform(0.2, 0.5))
        go = stop + float(rng.uniform(0.15, 0.4))
        there = spot(stop, 0.5 * (start + end), far)
        times, route = (
            [0.0, stop, go, 1.0],
            [spot(0, start, far), there, there, spot(1, end, far * drift)],
        )
    else:
        times, route = [0.0, 1.0], [spot(0, start, far), spot(1, end, far * drift)]
        if way == "stop":
            times, route[1] = [0.0, float(rng.uniform(0.3, 0.7))], spot(0.5, 0.6 * end, far * drift)
        elif way == "late":
            times, route[0] = [float(rng.uniform(0.3, 0.6)), 1.0], spot(0.5, 0.6 * start, far)
    places = np.stack(route)
    length = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    if length < LEAST * scene.scale:
        places[-1] += np.array([side, 0, 0.2]) * LEAST * scene.scale
    return np.array(times), places


def _collides(one: Mover, filming: Filming) -> bool:
    """Whether it comes so near to the camera that it would be run into."""
    away = [np.linalg.norm((one.place(t) - filming.pose(t)[:3, 3]) * (1, 0, 1)) for t in np.linspace(0, 1, 9)]
    return bool(min(away) < 0.62 * one.size)


def _ahead(pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    ahead = pose[:3, 2] * (1, 0, 1)
    return ahead / np.linalg.norm(ahead)
