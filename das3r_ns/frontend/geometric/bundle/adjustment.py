"""Cameras, focal and coarse depth of a video from its optical flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.camera_kind import Recognition, recognise, recognise_known
from das3r_ns.frontend.geometric.bundle.departures import (
    Departure,
    departing,
    is_sure,
    messages_of,
    normalised,
)
from das3r_ns.frontend.geometric.bundle.first_cameras import anneal, grow, rotations_only, solve_seeds
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples, sample_flows
from das3r_ns.frontend.geometric.bundle.known_poses import all_held, at_one_place, lenses, start_depth
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import State, Terms, normalise_scale
from das3r_ns.frontend.geometric.bundle.uncertainty import information_of
from das3r_ns.frontend.geometric.bundle.worlds import other_world, within
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import CameraKind

FINE_SCHEDULE = ((3.0, 1.5, 6), (2.5, 1.0, 6), (2.0, 0.5, 8), (2.0, 0.3, 10))
"""Multiple of the noise, floor in pixels and iterations of the stages on the fine grid."""

FINE_SMOOTHNESS = 1e-4
"""Smoothness there: enough for points that nothing else determines; more flattens the depth and raises the focal."""


@dataclass
class BundleAdjustmentConfig:
    """Dense bundle adjustment of poses, depth and focal."""

    coarse_grid: int = 20
    """Points along the longer side of the picture while the first estimate is sought."""
    fine_grid: int = 40
    """Points along the longer side of the picture in the final adjustment."""


@dataclass
class BundleResult:
    """What the bundle adjustment found, in pixels of the flow resolution.

    The world frame is the camera frame of frame 0; the median inverse depth is 1.
    """

    width: int
    """Width of the flow, in pixels."""
    height: int
    """Height of the flow, in pixels."""
    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, float64."""
    focal: float
    """Shared focal in pixels of the flow; the principal point is the centre of the picture."""
    focal_std: float
    """Standard error of log focal as the flow alone determines it; large where it does not."""
    points: Float[np.ndarray, "N gh gw 2"]
    """Image coordinates of the depth samples: the best-textured pixel of each cell of the grid."""
    inverse_depth: Float[np.ndarray, "N gh gw"]
    """One over camera z at those points, positive."""
    information: Float[np.ndarray, "N gh gw"]
    """Information (one over the variance) that the flow holds on each inverse depth, 0 = the depth is a guess."""
    residual: float
    """Weighted median residual of the flow against the static world, in pixels."""
    camera_kind: CameraKind = "general"
    """Whether the depth could be measured at all."""
    messages: list[str] = field(default_factory=list)
    """What the user should know, a sentence or two each."""
    known_intrinsics: Float[np.ndarray, "N 3 3"] | None = None
    """Camera matrix of every frame where the cameras were known; the focal is their median then."""
    zoom: Float[np.ndarray, " N"] | None = None
    """Focal of every frame over the shared one where the clip zooms; their geometric mean is 1."""
    bend: tuple[float, float] | None = None
    """OpenCV's k1 and k2 of a lens that bends. ``points`` are those of the pictures as filmed; all else fits them once
    they are straightened."""
    unit: float = 1.0
    """Length of 1 of this result in units of the known cameras."""

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels of the flow resolution."""
        return geo.pinhole(self.focal, self.width, self.height)

    @property
    def frame_intrinsics(self) -> Float[np.ndarray, "N 3 3"]:
        """Camera matrix of every frame in pixels of the flow resolution."""
        if self.known_intrinsics is not None:
            return self.known_intrinsics
        out = np.repeat(self.intrinsics[None], len(self.c2w_cv), axis=0)
        if self.zoom is not None:
            out[:, [0, 1], [0, 1]] *= self.zoom[:, None]
        return out

    def relative(self, i: int, others: list[int]) -> Float[np.ndarray, "M 4 4"]:
        """Motion from frame i to others, for kernels that see every frame through ``intrinsics``.

        Cameras of their own, known or zoomed, are folded in, which leaves no rigid motion (see ``State.lens``).
        """
        w2c = geo.invert_rigid(self.c2w_cv)
        if self.known_intrinsics is None and self.zoom is None:
            return w2c[others] @ geo.invert_rigid(w2c[i])
        folded = lenses(self.frame_intrinsics, self.intrinsics) @ w2c
        return folded[others] @ np.linalg.inv(folded[i])


def bundle_adjust(
    flows: PairFlows,
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    config: BundleAdjustmentConfig | None = None,
    initial: BundleResult | None = None,
    on_progress: Callable[[str], None] = lambda stage: None,
    known_focal: float | None = None,
    known_c2w_cv: Float[np.ndarray, "N 4 4"] | None = None,
    known_intrinsics: Float[np.ndarray, "N 3 3"] | None = None,
    departures: Sequence[Departure] = (),
) -> BundleResult:
    """Dense bundle adjustment after DROID-SLAM (Teed and Deng, NeurIPS 2021) and MegaSaM (Li et al., CVPR 2025).

    Poses, the inverse depth of a grid of points in every frame, and one focal are sought under which a static world
    shows the flow, by Gauss-Newton steps with the inverse depths eliminated (Schur complement). Geman-McClure weights
    of falling scale leave movers out. Where much stays unexplained, other starts are tried and judged by what of the
    picture's edge they explain too (see ``worlds``). A camera without parallax is recognised and gets constant depth.

    Args:
        flows: Flow of directed pairs and their mirrors, at several strides, 1 among them.
        static_weight: Probability that each pixel is static, at the resolution of the flow; None = not known yet.
        config: Settings.
        initial: An earlier result on the same flow to start from, for a second pass with better static weights.
        on_progress: Called with a few words at the start of each stage.
        known_focal: Focal in pixels of the flow, which stays as it is.
        known_c2w_cv: Poses, which stay as they are but for the unit of length; only depth is sought then.
        known_intrinsics: Camera matrix of every frame in pixels of the flow, for known poses; they may differ, have two
            focals, and a principal point anywhere.
        departures: Whether a zoom or a bent lens is looked for, where the focal is not known. What was found earlier
            stays without.

    Returns:
        Poses, focal and depth samples; never a value that is not finite.

    Raises:
        ValueError: If there are fewer than two frames, or no flow between neighbours.
    """
    config = config or BundleAdjustmentConfig()
    if flows.num_frames < 2:
        raise ValueError(f"bundle adjustment needs at least two frames, got {flows.num_frames}")
    if not any(abs(i - j) == 1 and (j, i) in flows.fields for i, j in flows.fields):
        raise ValueError("bundle adjustment needs the flow between neighbouring frames, both ways")
    if known_c2w_cv is not None:
        if known_intrinsics is None:
            raise ValueError("bundle adjustment with known poses needs the known intrinsics too")
        return _adjust_depth(flows, static_weight, config, known_c2w_cv, known_intrinsics, on_progress)
    coarse = sample_flows(flows, config.coarse_grid, static_weight, known_focal)
    world = None
    if initial is None or initial.camera_kind != "general":
        state, world = _first_solution(coarse, on_progress)
        grid = state.inverse_depth.reshape(-1, coarse.rows, coarse.columns)
    else:
        zoom = None if initial.zoom is None else Optics(np.log(initial.zoom), np.zeros(2))
        grid = initial.inverse_depth
        state = State(geo.invert_rigid(initial.c2w_cv), grid, initial.focal, optics=zoom)
    fine = sample_flows(flows, config.fine_grid, static_weight, known_focal)
    fine = replace(fine, zooms=state.optics is not None)
    if departures and known_focal is None and not fine.zooms:
        on_progress("zoom and lens")
        shared = replace(state, inverse_depth=_resize_grid(grid, coarse.rows, coarse.columns))
        departure = departing(coarse if world is None else within(coarse, world), shared, departures)
        if departure is not None:
            on_progress("fine grid")
            samples, departed = departure
            freed = replace(fine, zooms=samples.zooms, bends=samples.bends)
            found = departed.inverse_depth.reshape(-1, coarse.rows, coarse.columns)
            result = _solve_fine(freed, departed, found, None)
            if result is not None:
                return result
    on_progress("fine grid")
    result = _solve_fine(fine, state, grid, world) or _solve_fine(
        replace(fine, zooms=False), replace(state, optics=None), grid, world
    )
    assert result is not None
    return result


def _first_solution(
    coarse: Samples, on_progress: Callable[[str], None]
) -> tuple[State, Float[np.ndarray, "N K"] | None]:
    """Cameras and depth from nothing, and how surely each point belongs to that world; None = the first one found."""
    on_progress("turning camera")
    turned, turned_residual = rotations_only(coarse, coarse.focal_prior)
    on_progress("first frames")
    seeds = solve_seeds(coarse, turned_residual)
    on_progress("all frames")
    state = grow(coarse, seeds[0], turned)
    state, _, _ = anneal(Solver(coarse), state, ((3.0, 1.5, 5), (2.5, 1.0, 5)), Terms(smoothness=FINE_SMOOTHNESS))
    return other_world(coarse, seeds, state) or (state, None)


def _solve_fine(
    fine: Samples,
    state: State,
    grid: Float[np.ndarray, "N r c"],
    world: Float[np.ndarray, "N K"] | None,
) -> BundleResult | None:
    """The adjustment on the fine grid.

    Args:
        fine: Its samples.
        state: Cameras to start from.
        grid: Inverse depth, on any grid.
        world: How surely each of its points belongs to the world that is wanted.

    Returns:
        None where a zoom or bend that was looked for is not sure.
    """
    if world is not None:
        fine = within(fine, _resize_grid(world.reshape(grid.shape), fine.rows, fine.columns))
    solver = Solver(fine)
    terms = Terms(smoothness=FINE_SMOOTHNESS, near=world is not None)
    state = replace(state, inverse_depth=_resize_grid(grid, fine.rows, fine.columns))
    state, residual, robust = anneal(solver, state, FINE_SCHEDULE, terms)
    state = normalise_scale(replace(state, w2c=state.w2c @ geo.invert_rigid(state.w2c[0])))
    information, focal_std = information_of(solver, state, robust)
    recognition = recognise(fine, state, residual, information, focal_std)
    if (fine.zooms or fine.bends) and (recognition.kind != "general" or not is_sure(solver, state, robust)):
        return None
    return _result(fine, recognition, focal_std)


def _adjust_depth(
    flows: PairFlows,
    static_weight: Float[np.ndarray, "N H W"] | None,
    config: BundleAdjustmentConfig,
    c2w_cv: Float[np.ndarray, "N 4 4"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    on_progress: Callable[[str], None],
) -> BundleResult:
    """The adjustment with all cameras known."""
    focal = float(np.median(intrinsics[:, [0, 1], [0, 1]]))
    lens = lenses(intrinsics, geo.pinhole(focal, flows.width, flows.height))
    w2c = geo.invert_rigid(geo.invert_rigid(c2w_cv[0]) @ c2w_cv)
    on_progress("depth")
    fine = sample_flows(flows, config.fine_grid, static_weight, focal)
    state = State(w2c, np.ones(fine.points.shape[:2]), focal, lens)
    if at_one_place(c2w_cv):
        found = recognise_known(fine, state, Solver(fine).residuals(state), None)
    else:
        state = start_depth(fine, state)
        solver = Solver(fine)
        state, residual, robust = anneal(solver, state, FINE_SCHEDULE, all_held(fine, FINE_SMOOTHNESS))
        found = recognise_known(fine, state, residual, information_of(solver, state, robust)[0])
    # The largest step tells the unit best; where there is none, there is none to tell.
    step = int(np.linalg.norm(w2c[:, :3, 3], axis=1).argmax())
    length = float(np.linalg.norm(found.state.w2c[step, :3, 3]))
    unit = float(np.linalg.norm(w2c[step, :3, 3])) / length if length > 0 else 1.0
    return replace(_result(fine, found, 0.0), known_intrinsics=intrinsics, unit=unit)


def _resize_grid(grid: Float[np.ndarray, "N r c"], rows: int, columns: int) -> Float[np.ndarray, "N K"]:
    """Inverse depth of another grid over the same pictures, frame by frame in one row each."""
    resized = [cv2.resize(one, (columns, rows), interpolation=cv2.INTER_LINEAR) for one in grid]
    return np.stack(resized).reshape(len(grid), -1)


def _result(samples: Samples, found: Recognition, focal_std: float) -> BundleResult:
    shape = (samples.num_frames, samples.rows, samples.columns)
    state = normalised(found.state)
    optics = state.optics
    bend = optics.coefficients(state.focal, samples.centre) if samples.bends and optics is not None else None
    return BundleResult(
        width=samples.width,
        height=samples.height,
        c2w_cv=geo.invert_rigid(state.w2c),
        focal=state.focal,
        focal_std=focal_std,
        points=samples.points.reshape(*shape, 2),
        inverse_depth=found.state.inverse_depth.reshape(shape),
        information=found.information.reshape(shape),
        residual=found.residual,
        camera_kind=found.kind,
        messages=[*messages_of(samples, state), *found.messages],
        zoom=np.exp(optics.zoom) if samples.zooms and optics is not None else None,
        bend=bend,
    )
