"""The same cameras from halves of the picture: where these disagree, something is wrong that residuals do not show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.weighted_median import RAYLEIGH_MEDIAN, weighted_median
from das3r_ns.scene import geometry as geo

STEPS = 5
"""Steps of every half from the solution of the whole."""

SPLITS: dict[str, Callable[[Float[np.ndarray, "N K 2"]], Bool[np.ndarray, "N K"]]] = {
    "middle and border": lambda place: np.abs(place).max(axis=-1) < np.median(np.abs(place).max(axis=-1)),
    "upper and lower half": lambda place: place[..., 1] < 0,
    "left and right half": lambda place: place[..., 0] < 0,
    "every other point": lambda place: np.add.outer(np.arange(place.shape[0]), np.arange(place.shape[1])) % 2 == 0,
}
"""Ways to cut all points in two, by their places in the picture (-1 to 1 both ways). A lens bends the border and not
the middle, a rolling shutter shows the upper half before the lower one, and a mover, a bonnet or a bad match lies in
one of them; every other point says what chance does."""


@dataclass(frozen=True)
class Halves:
    """How far the cameras are apart that either half of the picture would have, for every way to cut it."""

    path: dict[str, float]
    """Root mean square distance of the camera centres after the best similarity, in shares of the path's length."""
    focal: dict[str, float]
    """Logarithm of the ratio of the focals, over all frames."""
    frames: Float[np.ndarray, " N"]
    """Distance of the centre of each frame, in the same shares, of the cut under which it is largest."""
    zoom: dict[str, float] = field(default_factory=dict)
    """Correlation of the focals that the frames have by either half; empty where all frames share one."""

    def provenance(self) -> dict[str, Any]:
        """For the record."""
        zoom = {name: round(value, 4) for name, value in self.zoom.items()}
        return {
            "path": {name: round(value, 6) for name, value in self.path.items()},
            "focal": {name: round(value, 6) for name, value in self.focal.items()},
            "frames": [round(float(value), 6) for value in self.frames],
            **({"zoom": zoom} if zoom else {}),
        }


def compare_halves(samples: Samples, state: State, noise_multiple: float, scale: float, smoothness: float) -> Halves:
    """Adjust the cameras on either half of the points, from the solution of all, and compare.

    Args:
        samples: All tracks.
        state: The solution of all.
        noise_multiple: Robust scale in multiples of the noise.
        scale: Its least, in 1/427 of the longer side.
        smoothness: See ``Terms.smoothness``.
    """
    place = (samples.points - samples.centre) / samples.centre
    path, focal, zoom, frames = {}, {}, {}, np.zeros(samples.num_frames)
    for name, split in SPLITS.items():
        half = split(place)[samples.sources]
        one, other = (_adjusted(samples, state, used, noise_multiple, scale, smoothness) for used in (half, ~half))
        distance = path_distance(one.w2c, other.w2c)
        path[name] = float(np.sqrt((distance**2).mean()))
        focal[name] = float(np.log(one.focals / other.focals).mean())
        if samples.zooms:
            zoom[name] = _correlation(np.log(one.focals), np.log(other.focals))
        frames = np.maximum(frames, distance)
    return Halves(path, focal, frames, zoom)


def path_distance(w2c: Float[np.ndarray, "N 4 4"], other: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, " N"]:
    """Distance of the camera centres of two solutions after the best similarity, in shares of the path's length.

    Infinite where there is no path.
    """
    centres, target = (geo.invert_rigid(poses)[:, :3, 3] for poses in (w2c, other))
    length = np.linalg.norm(np.diff(target, axis=0), axis=1).sum()
    if length <= 0:
        return np.full(len(w2c), np.inf)
    scale, rotation, translation = geo.umeyama_sim3(centres, target)
    return np.linalg.norm(scale * centres @ rotation.T + translation - target, axis=1) / length


def _correlation(one: Float[np.ndarray, " N"], other: Float[np.ndarray, " N"]) -> float:
    spread = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean()) / spread if spread > 0 else 0.0


def _adjusted(
    samples: Samples,
    state: State,
    used: Bool[np.ndarray, "E K"],
    noise_multiple: float,
    scale: float,
    smoothness: float,
) -> State:
    solver = Solver(samples, samples.weights * used)
    residual = solver.residuals(state)
    noise = weighted_median(np.abs(residual), solver.weights * (residual >= 0)) / RAYLEIGH_MEDIAN
    robust = Robust(np.maximum(noise_multiple * noise, scale * samples.unit).astype(np.float32))
    return solver.optimise(state, robust, Terms(smoothness=smoothness), STEPS)[0]
