"""How drawn clips are filmed: hand-held sweeps and walks, dollies, close orbits, pans, tripods, drives, big steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.scene import Scene
from das3r_ns.demo.room import looking, turn_x, turn_y

Pose = Float[np.ndarray, "4 4"]
"""Camera-to-world, OpenCV axes, metres."""
SHAKES = 3
"""Waves of a hand's sway per axis."""


@dataclass
class Filming:
    """Where a camera is at any time from 0 to 1 over the clip."""

    kind: str
    way: Callable[[float], tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]]
    """Position, and the point it looks at, without a hand's sway."""
    free: Float[np.ndarray, "2 3"]
    rate: Float[np.ndarray, "6 S"]
    phase: Float[np.ndarray, "6 S"]
    shake: float
    """Of the hand: 0 on a tripod."""

    def pose(self, time: float) -> Pose:
        """Camera-to-world."""
        position, target = self.way(time)
        sway = self.shake * np.sin(2 * np.pi * (self.rate * time + self.phase)).sum(1) / SHAKES
        reach = float(np.linalg.norm(target - position))
        position = np.clip(position, self.free[0], self.free[1]) + np.array([0.02, 0.03, 0.02]) * sway[:3]
        target = target + 0.012 * reach * sway[3:]
        return looking(position, target, 0.012 * float(sway[1]))

    def poses(self, num_frames: int) -> Float[np.ndarray, "N 4 4"]:
        """Evenly over the clip."""
        return np.stack([self.pose(time) for time in np.linspace(0, 1, num_frames)])


def camera(rng: np.random.Generator, scene: Scene) -> Filming:
    """One of those that suit the scene."""
    kind = str(rng.choice(scene.cameras))
    eye, focus = scene.eye, scene.focus
    reach = float(np.linalg.norm(focus - eye))
    ahead = (focus - eye) * (1, 0, 1)
    ahead /= np.linalg.norm(ahead)
    right = np.array([ahead[2], 0.0, -ahead[0]])
    rate, phase = rng.uniform(0.4, 4.0, (6, SHAKES)), rng.random((6, SHAKES))
    shake = 0.0 if kind == "tripod" and rng.random() < 0.5 else float(rng.uniform(0.2, 1.6))
    shake *= {"tripod": 0.1, "pan": 0.4}.get(kind, 1.0) * min(reach / 4, 1.0)
    way = _WAYS[kind](rng, eye, focus, ahead, right, reach)
    return Filming(kind, way, scene.free, rate, phase, shake)


def _eased(time: float, much: float) -> float:
    return time + much * (time * time * (3 - 2 * time) - time)


def _sweep(rng, eye, focus, ahead, right, reach):
    """Sideways, the look turning less or more than it would to stay on the focus."""
    step = rng.choice([-1, 1]) * rng.uniform(0.12, 0.5) * min(reach, 6) * right + rng.uniform(-0.1, 0.2) * reach * ahead
    follow, ease = rng.uniform(-0.3, 0.9) * step, rng.uniform(0, 1)
    return lambda time: (eye + (_eased(time, ease) - 0.5) * step, focus + (time - 0.5) * follow)


def _walk(rng, eye, focus, ahead, right, reach):
    """Forward with a bob at every step, the look sweeping slowly."""
    step = rng.uniform(0.15, 0.5) * reach * ahead + rng.uniform(-0.15, 0.15) * reach * right
    gaze, steps = rng.uniform(-0.25, 0.25) * reach * right, rng.uniform(1.5, 4)

    def way(time: float):
        bob = np.array([0, 0.025 * np.cos(2 * np.pi * steps * time), 0]) + 0.015 * np.sin(np.pi * steps * time) * right
        return eye + (time - 0.3) * step + bob, focus + step * max(time - 0.3, 0) + (time - 0.5) * gaze

    return way


def _dolly(rng, eye, focus, ahead, right, reach):
    """Straight in or out."""
    step = rng.choice([-1, 1]) * rng.uniform(0.15, 0.5) * (focus - eye) + rng.uniform(-0.06, 0.06) * reach * right
    return lambda time: (eye + (time - 0.5) * step, focus)


def _orbit(rng, eye, focus, ahead, right, reach, most=(10.0, 60.0)):
    """Round the focus by 10 to 60 degrees, now and then rising."""
    turn = float(np.radians(rng.choice([-1, 1]) * rng.uniform(*most)))
    rise, closer = rng.uniform(-0.2, 0.2) * reach, rng.uniform(-0.15, 0.15)

    def way(time: float):
        arm = turn_y((time - 0.5) * turn) @ (eye - focus) * (1 + closer * (time - 0.5))
        return focus + arm + np.array([0, rise * (time - 0.5), 0]), focus

    return way


def _wide(rng, eye, focus, ahead, right, reach):
    """As few photographs taken from all sides: big steps of uneven length."""
    way = _orbit(rng, eye, focus, ahead, right, reach, (60.0, 130.0))
    jumps, phase = rng.uniform(0.02, 0.06), rng.random(2)

    def uneven(time: float):
        position, target = way(time + jumps * np.sin(2 * np.pi * (7 * time + phase[0])))
        return position + np.array([0, 0.08 * reach * np.sin(2 * np.pi * (4 * time + phase[1])), 0]), target

    return uneven


def _pan(rng, eye, focus, ahead, right, reach):
    """A turn on the spot by 5 to 70 degrees."""
    turn = float(np.radians(rng.choice([-1, 1]) * rng.uniform(5, 70)))
    tilt, ease = float(np.radians(rng.uniform(-8, 8))), rng.uniform(0, 1)
    return lambda time: (
        eye,
        eye + turn_y((_eased(time, ease) - 0.5) * turn) @ turn_x(tilt * (time - 0.5)) @ (focus - eye),
    )


def _tripod(rng, eye, focus, ahead, right, reach):
    """It stands."""
    return lambda time: (eye, focus)


def _drive(rng, eye, focus, ahead, right, reach):
    """Straight on along the street, the look to where it leads; now and then to the side, or round a bend."""
    far = rng.uniform(3.0, 14.0)
    bend, aside = rng.uniform(-0.25, 0.25), rng.uniform(-0.4, 0.4) if rng.random() < 0.6 else rng.choice([-2.5, 2.5])

    def way(time: float):
        along = np.array([bend * time * time * far * 0.5, 0, far * time])
        return eye + along, eye + along + np.array([8 * (aside + bend * time), 0.3, 8.0])

    return way


_WAYS = {
    "sweep": _sweep,
    "walk": _walk,
    "dolly": _dolly,
    "orbit": _orbit,
    "wide": _wide,
    "pan": _pan,
    "tripod": _tripod,
    "drive": _drive,
}
CAMERAS = tuple(_WAYS)
