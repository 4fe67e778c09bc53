"""Which kind of camera filmed this: one that stood, one that only turned, or one that moved; and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.first_cameras import rotations_only
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.bundle.worlds import support
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import CameraKind
from das3r_ns.video.selection import listed

STANDS_BELOW = 0.75
"""Pixels of background motion over the whole video, in 1/427 of the longer side, up to which the camera stands."""

TURNS_BELOW = 0.2
"""Pixels of parallax, likewise, up to which the camera only turns: optical flow errs by half of that."""

NEAR_SHARE = 0.2
"""Support (see ``worlds``) that a moving camera must gain over one that only turns to be believed where most of it
shows no parallax. Ground before a far hillside gains that much, a mover that passes for near ground does not."""

WEAK_PARALLAX = 1.0
"""Pixels of parallax, likewise, up to which depth is uncertain."""

MISFIT = 2.0
"""Median residual in pixels, likewise, from which known cameras cannot be those of the video."""

WEAK_FOCAL = 0.15
"""Standard error of log focal from which the focal is a guess."""


@dataclass
class Recognition:
    """The final state, made to fit the kind of camera, and what was recognised."""

    kind: CameraKind
    state: State
    information: Float[np.ndarray, "N K"]
    """On each inverse depth, 0 where none can be measured."""
    residual: float
    """Weighted median residual, in pixels."""
    messages: list[str]
    """What the user should know."""


def recognise(
    samples: Samples,
    state: State,
    residual: Float[np.ndarray, "E K"],
    information: Float[np.ndarray, "N K"],
    focal_std: float,
) -> Recognition:
    """Compare the full solution with a camera that only turns and one that stands.

    Args:
        samples: The flow.
        state: The full solution.
        residual: Its residuals in pixels, -1 = no projection.
        information: On each inverse depth.
        focal_std: Standard error of log focal.

    Returns:
        For a camera that only turns: one place, rotations, all points on a sphere of radius 1. For one that stands:
        equal poses, the same sphere. Otherwise the full solution.
    """
    unit = samples.unit
    if state.optics is not None and (samples.bends or state.optics.readout):
        samples = replace(Solver(samples).seen(state), bends=False, rolls=False)
    # Also where the focal is known, for a slightly wrong one would show a parallax that is not there.
    turned, turned_residual = rotations_only(replace(samples, known_focal=None), state.focal, focal_too=True)
    full = _typical(samples, residual)
    parallax = _parallax(samples, residual, turned_residual)
    motion = _background_motion(samples, turned)
    messages = _doubts(samples, residual)
    if samples.known_focal is not None:
        turned, turned_residual = rotations_only(samples, state.focal)
    if motion < STANDS_BELOW * unit:
        messages.insert(
            0,
            "The camera stands still (a tripod): all poses are equal and the depth cannot be measured, so every pixel "
            "is put at the same distance.",
        )
        still = replace(turned, w2c=np.tile(np.eye(4), (samples.num_frames, 1, 1)), focal=samples.focal_prior)
        return _flat("tripod", samples, still, turned_residual, messages)
    near = support(samples, residual) - support(samples, turned_residual)
    if parallax < TURNS_BELOW * unit and near < NEAR_SHARE:
        messages.insert(
            0,
            f"The camera turns on the spot or films something flat or far away (parallax of {parallax:.2f} pixels): "
            "the rotation is solved, the depth cannot be measured, and every pixel is put at the same distance.",
        )
        if state.optics is not None and state.optics.readout:  # the turns are those of level pictures
            shutter = {"readout": state.optics.readout, "swing": state.optics.swing}
            turned = replace(turned, optics=replace(Optics.none(samples.num_frames), **shutter))
        return _flat("rotation", samples, turned, turned_residual, messages)
    if parallax < WEAK_PARALLAX * unit:
        messages.append(
            f"The camera moves little (parallax of {parallax:.2f} pixels over the longest stride): depth is uncertain "
            "away from strong texture."
        )
    if focal_std > WEAK_FOCAL:
        messages.append(
            "The focal can hardly be measured from this camera path: "
            f"{state.focal / max(samples.width, samples.height):.2f} times the longer side was assumed. Scene and path "
            "may be stretched along the viewing direction."
        )
    return Recognition("general", state, information, full, messages)


def recognise_known(
    samples: Samples,
    state: State,
    residual: Float[np.ndarray, "E K"],
    information: Float[np.ndarray, "N K"] | None,
) -> Recognition:
    """The kind of a camera whose poses are known, and what to say where the flow does not fit them.

    Args:
        samples: The flow.
        state: The known cameras and the depth found.
        residual: Its residuals in pixels, -1 = no projection.
        information: On each inverse depth; None = the cameras are all at one place, so there is nothing to measure.

    Returns:
        Poses and focal as they were; at one place all points on a sphere of radius 1.
    """
    if information is not None:
        full = _typical(samples, residual)
        messages = _doubts(samples, residual)
        if full > MISFIT * samples.unit:
            messages.append(
                f"The known cameras do not fit the video: its motion is {full:.1f} pixels off in the median. Are they "
                "those of these very frames, in this order?"
            )
        return Recognition("general", state, information, full, messages)
    still = bool(np.ptp(state.w2c, axis=0).max() < 1e-9)
    message = (
        "The known cameras are all at one place: depth cannot be measured, and every pixel is at the same distance."
    )
    flat = _flat("tripod" if still else "rotation", samples, state, residual, [message])
    return replace(flat, state=replace(flat.state, w2c=state.w2c, lens=state.lens))


def _flat(
    kind: CameraKind, samples: Samples, state: State, residual: Float[np.ndarray, "E K"], messages: list[str]
) -> Recognition:
    seen = samples if state.optics is None else samples.straightened(state.optics)
    rays = (seen.points - samples.centre) / state.focal
    inverse_depth = np.sqrt(1.0 + (rays**2).sum(axis=-1))
    w2c = state.w2c @ geo.invert_rigid(state.w2c[0])
    w2c[:, :3, 3] = 0.0
    found = State(w2c, inverse_depth, state.focal, optics=state.optics)
    return Recognition(kind, found, np.zeros_like(inverse_depth), _typical(samples, residual), messages)


def _typical(samples: Samples, residual: Float[np.ndarray, "E K"]) -> float:
    """Weighted median residual, in pixels, of the points that have a projection."""
    return _median(np.abs(residual), samples.weights * (residual >= 0))


def _parallax(samples: Samples, full: Float[np.ndarray, "E K"], turned: Float[np.ndarray, "E K"]) -> float:
    """Pixels, at the stride that shows most, by which the flow departs from a pure rotation and fits the full model.

    What fits neither (movers, failed flow) is left out by its residual against the full model.
    """
    stride = np.abs(samples.sources - samples.sinks)
    best = 0.0
    for s in np.unique(stride):
        edges = stride == s
        weight = samples.weights[edges] * (full[edges] >= 0)
        if weight.sum() < 0.05 * weight.size:
            continue
        fits = np.clip(full[edges], 0, None)
        weight = weight / (1.0 + (fits / 0.5) ** 2) ** 2
        gain = np.sqrt(np.clip(turned[edges] ** 2 - fits**2, 0.0, None))
        best = max(best, _median(gain, weight))
    return best


def _background_motion(samples: Samples, turned: State) -> float:
    """Pixels by which the centre and corners of the picture of a turning camera move over the video, at most."""
    centre = samples.centre
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]]) * 2 * centre
    rays = samples.rays(corners, turned.focal)
    seen = np.einsum("nij,kj->nki", turned.w2c[:, :3, :3], rays)
    # A camera that turned by more than a right angle sees the old corners behind it: far beyond any threshold.
    image = turned.focal * seen[..., :2] / np.maximum(seen[..., 2:], 1e-3)
    return float(np.linalg.norm(image - np.median(image, axis=0), axis=-1).max())


def _doubts(samples: Samples, residual: Float[np.ndarray, "E K"]) -> list[str]:
    """Say where frames hang together badly and where the picture is not that of a rigid scene."""
    messages = []
    stride = np.abs(samples.sources - samples.sinks)
    neighbours = stride == stride.min()
    trusted = samples.weights[neighbours].mean(axis=1)
    broken = sorted(
        {int(max(samples.sources[neighbours][e], samples.sinks[neighbours][e])) for e in np.flatnonzero(trusted < 0.02)}
    )
    if broken:
        messages.append(
            f"Hardly anything could be matched between frame {listed(broken)} and the one before (a cut, a fast camera "
            "or nothing to see): the cameras there are a guess. Cut the video at those places if they are cuts."
        )
    weight = samples.weights * (residual >= 0)
    explained = float((weight * (residual < 1.0)).sum() / max(float(weight.sum()), 1e-6))
    if explained < 0.4:
        messages.append(
            f"Only {100 * explained:.0f} % of the motion in the picture fits a rigid scene: most of it moves, or the "
            "cameras are wrong."
        )
    return messages


def _median(values: Float[np.ndarray, "*n"], weights: Float[np.ndarray, "*n"]) -> float:
    """Weighted median of all values, 0 where there is no weight."""
    return float(weighted_median(values.ravel(), weights.ravel())) if weights.any() else 0.0
