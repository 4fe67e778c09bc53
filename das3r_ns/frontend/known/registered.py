"""Cameras that another program registered: completed from our own, and held like those that the user knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate

LEAST_SHARE = 0.5
"""Share of the frames that must be registered: with fewer, most cameras would be our own, bent to those of others."""

SHOWN = 12
"""Most frames that are named in a message."""


@dataclass(frozen=True)
class Registered:
    """What COLMAP (Schönberger and Frahm, CVPR 2016) registered of a video."""

    frames: Int[np.ndarray, " M"]
    """Numbers of the registered frames, ascending."""
    c2w_cv: Float[np.ndarray, "M 4 4"]
    """Their poses, in a world frame and unit of their own."""
    focal: float
    """In pixels of the video; the principal point is the centre of the picture."""
    num_points: int
    reprojection_error: float
    """Mean over the points, in pixels of the video."""


def completed(registered: Registered, own: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """Poses of all frames: the registered ones, and between them the motion of our own cameras.

    A frame without a pose keeps the motion that our cameras have from the registered frame before it and to the one
    after it, at the scale of the best Sim(3) between the cameras that both have. The two places that this gives it are
    blended along the frames, so that the path has no jump; before the first and after the last there is only one.

    Args:
        registered: At least one frame.
        own: Our own poses of all frames, in any world frame.

    Returns:
        Poses in the world frame and unit of the registered ones, which are kept as they are.
    """
    frames, found = registered.frames, registered.c2w_cv
    scale, _, _ = geo.umeyama_sim3(own[frames, :3, 3], found[:, :3, 3])
    own = own.copy()
    own[:, :3, 3] *= scale
    every = np.arange(len(own))
    before = np.clip(np.searchsorted(frames, every, side="right") - 1, 0, None)
    after = np.clip(np.searchsorted(frames, every, side="left"), None, len(frames) - 1)
    gap = frames[after] - frames[before]
    along = np.where(gap > 0, (every - frames[before]) / np.maximum(gap, 1), 0.0)
    from_before, from_after = (found[at] @ geo.invert_rigid(own[frames[at]]) @ own for at in (before, after))
    between = geo.se3_log(geo.invert_rigid(from_before) @ from_after)
    poses = from_before @ geo.se3_exp(along[:, None] * between)
    poses[frames] = found
    return poses


def hold(
    known: Known,
    registered: Registered | None,
    own: SceneEstimate,
    video_size: tuple[int, int],
    say: Callable[[str], None],
) -> Known:
    """What is known with COLMAP's cameras too, where it registers enough frames; else without poses, as before.

    Args:
        known: What the user knows, cameras not among it.
        registered: None where COLMAP has no model at all.
        own: The scene with our own cameras.
        video_size: Width and height of the video.
        say: Told what COLMAP did, and which frames were filled in.

    Returns:
        The same, with what COLMAP did in its provenance either way.
    """
    count, num_registered = own.num_frames, 0 if registered is None else len(registered.frames)
    if registered is None or num_registered < LEAST_SHARE * count:
        say(f"Cameras: our own, for COLMAP registers {num_registered} of the {count} frames, too few to go by.")
        return replace(known, provenance={**known.provenance, "colmap": {"registered": num_registered, "held": False}})
    quality = f"{registered.num_points} points, {registered.reprojection_error:.2f} pixels"
    missing = [own.frame_names[i] for i in sorted(set(range(count)) - set(registered.frames.tolist()))]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        say(
            f"Cameras: COLMAP's, which registers {num_registered} of the {count} frames ({quality}). The others follow "
            f"the motion of our own cameras: {shown}."
        )
    else:
        say(f"Cameras: COLMAP's, which registers all {count} frames ({quality}).")
    poses = completed(registered, own.c2w_cv)
    c2w_cv = geo.invert_rigid(poses[0]) @ poses
    c2w_cv[0] = np.eye(4)
    pinhole = geo.resize_intrinsics(geo.pinhole(registered.focal, *video_size), video_size, known.size)
    provenance = {
        "registered": num_registered,
        "held": True,
        "filled": missing,
        "focal": registered.focal,
        "points": registered.num_points,
        "reprojection_error": registered.reprojection_error,
    }
    return replace(
        known,
        intrinsics=np.repeat(pinhole[None], count, axis=0),
        c2w_cv=c2w_cv,
        provenance={**known.provenance, "colmap": provenance},
    )
