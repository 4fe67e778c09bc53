"""How well loops close: the true cameras of the walk round the block (street.py), made to drift, are refined together.

``python benchmarks/loops.py``: apart from how well windows are solved, this tells what finding places again, closing
loops and adjusting frames from all of the video make of a known drift, on the drawn pictures.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from jaxtyping import Float
from rich.console import Console
from scipy.spatial.transform import Rotation
from street import build_street, write_street

from das3r_ns.demo.write import render_frame
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.metrics import ate_percent
from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.together import refine_together
from das3r_ns.frontend.windows import AGAIN, WINDOW, overlapping_windows
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo

FOCAL_OFF, DEPTH_NOISE = 0.01, 0.02
"""Relative error of the focal, and noise of the depth of every pixel."""
DRIFT_TURN = np.array([0, 1e-4, 0])
"""Radians that every step turns too far."""


@dataclass
class Arguments:
    """Let true cameras drift, and refine them."""

    frames: int = 300
    """Length of the clip."""
    laps: float = 2.0
    """Times round the block."""
    width: int = 240
    """Of the frames in pixels."""
    height: int = 136
    """Of the frames in pixels."""
    street: Path | None = None
    """Folder of the clip, drawn if it is not there; a temporary one if not given."""


def drifted(
    poses: Float[np.ndarray, "N 4 4"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "N 4 4"], Float[np.ndarray, " N"]]:
    """Cameras whose every step is a little wrong, in length, direction and unit; and the unit at each."""
    count = len(poses)
    unit = np.exp(np.cumsum(np.r_[0, rng.normal(0, 0.001, count - 1) + 2e-4]))
    steps, out = geo.invert_rigid(poses[:-1]) @ poses[1:], [np.eye(4)]
    for k, step in enumerate(steps):
        step[:3, 3] *= unit[k + 1] * (1 + rng.normal(0, 0.01))
        step[:3, :3] = step[:3, :3] @ Rotation.from_rotvec(rng.normal(0, 4e-4, 3) + DRIFT_TURN).as_matrix()
        out.append(out[-1] @ step)
    return np.stack(out), unit


def main(arguments: Arguments) -> None:
    """Draw, drift, refine, print."""
    count, width, height = arguments.frames, arguments.width, arguments.height
    with tempfile.TemporaryDirectory() as folder:
        street = arguments.street or Path(folder) / "street"
        write_street(street, count, arguments.laps, width, height)
        images = np.stack([cv2.imread(str(street / f"frames/{i:05d}.png"))[..., ::-1] for i in range(count)])
        masks = np.stack([cv2.imread(str(street / f"masks/{i:05d}.png"), cv2.IMREAD_GRAYSCALE) for i in range(count)])
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3] = np.loadtxt(street / "poses.txt").reshape(-1, 3, 4)
    boxes, focal, rng = build_street(), 0.8 * width, np.random.default_rng(0)
    joined = Joined.empty(count, height, width)
    joined.c2w_cv, unit = drifted(poses, rng)
    joined.intrinsics[:] = geo.pinhole((1 + FOCAL_OFF) * focal, width, height)
    true_depth = np.empty(joined.depth.shape, np.float32)
    for i in range(count):
        depth = render_frame(boxes, None, 0.0, poses[i], focal, width, height).clean_depth
        true_depth[i] = depth
        joined.depth[i] = depth * unit[i] * np.exp(rng.normal(0, DEPTH_NOISE, depth.shape))
    joined.confidence[:], joined.dynamic[:] = 0.8, masks > 0
    joined.known[:] = joined.measured[:] = True
    joined.windows = overlapping_windows(count, WINDOW, AGAIN)
    joined.kinds = ["general"] * len(joined.windows)
    spread = [spread_of_units(joined.depth, true_depth)]
    before, cost = ate_percent(joined.c2w_cv, poses), Cost()
    record = refine_together(joined, images, iter(images), False, Progress())
    spread.append(spread_of_units(joined.depth, true_depth))
    console, ends = Console(), record["ends"]
    console.print(f"ATE {before:.3f} % of the path before, {ate_percent(joined.c2w_cv, poses):.4f} % after.")
    console.print(f"{len(ends['loops'])} loops, {ends['left_out']} left out; focal {joined.intrinsics[0, 0, 0]:.2f}")
    console.print(f"(true {focal:.2f}). {cost.so_far()}")
    console.print("The unit of depth differs from frame to frame by {:.2%} before, {:.2%} after.".format(*spread))


def spread_of_units(depth: Float[np.ndarray, "N H W"], truth: Float[np.ndarray, "N H W"]) -> float:
    """Standard deviation of the unit of length that the depth of each frame has, as a share."""
    units = np.array([np.median(one / other) for one, other in zip(depth, truth, strict=True)])
    return float(units.std() / units.mean())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
