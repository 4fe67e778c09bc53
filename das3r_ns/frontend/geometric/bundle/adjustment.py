"""Cameras, focal and coarse depth of a video from its optical flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.camera_kind import recognise_known
from das3r_ns.frontend.geometric.bundle.departures import SMALLEST_KNOWN, Departure, departing
from das3r_ns.frontend.geometric.bundle.fine_grid import FINE_SCHEDULE, resize_grid, result_of, solve_fine
from das3r_ns.frontend.geometric.bundle.first_cameras import anneal, grow, rotations_only, solve_seeds
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples, sample_flows
from das3r_ns.frontend.geometric.bundle.known_poses import all_held, at_one_place, lenses, start_depth
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.state import FINE_SMOOTHNESS, State, Terms
from das3r_ns.frontend.geometric.bundle.uncertainty import information_of
from das3r_ns.frontend.geometric.bundle.worlds import other_world, within
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.scene import geometry as geo


@dataclass
class BundleAdjustmentConfig:
    """Dense bundle adjustment of poses, depth and focal."""

    coarse_grid: int = 20
    """Points along the longer side of the picture while the first estimate is sought."""
    fine_grid: int = 40
    """Points along the longer side of the picture in the final adjustment."""


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
    times: Float[np.ndarray, " N"] | None = None,
    readout: float | None = None,
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
        departures: Whether a zoom, a bent lens (where the focal is not known) or a rolling shutter is looked for. What
            was found earlier stays without.
        times: When each frame was taken, in frame times of the video; None = one after the other.
        readout: Read-out of a rolling shutter that is known, as a share of the frame time; it stays as it is.

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
    coarse = replace(sample_flows(flows, config.coarse_grid, static_weight, known_focal), times=times)
    world = None
    if initial is None or initial.camera_kind != "general":
        state, world = _first_solution(coarse, on_progress)
        grid = state.inverse_depth.reshape(-1, coarse.rows, coarse.columns)
    else:
        grid = initial.inverse_depth
        state = _state(initial, grid)
    fine = sample_flows(flows, config.fine_grid, static_weight, known_focal)
    fine = replace(fine, zooms=state.optics is not None, times=times)
    if readout:
        state = replace(state, optics=Optics(np.zeros(flows.num_frames), np.zeros(2), readout))
        fixed = solve_fine(replace(fine, zooms=False), state, grid, world)
        assert fixed is not None  # nothing departs that could be unsure
        return fixed
    if known_focal is not None:
        departures = [kind for kind in departures if kind == "rolls"]
    if departures and not fine.zooms:
        on_progress("zoom and lens")
        shared = replace(state, inverse_depth=resize_grid(grid, coarse.rows, coarse.columns))
        departure = departing(coarse if world is None else within(coarse, world), shared, departures)
        if departure is not None:
            on_progress("fine grid")
            samples, departed = departure
            freed = replace(fine, zooms=samples.zooms, bends=samples.bends, rolls=samples.rolls)
            found = departed.inverse_depth.reshape(-1, coarse.rows, coarse.columns)
            result = solve_fine(freed, departed, found, None)
            if result is not None:
                return result
    on_progress("fine grid")
    result = solve_fine(fine, state, grid, world) or solve_fine(
        replace(fine, zooms=False), replace(state, optics=None), grid, world
    )
    assert result is not None
    late: list[Departure] = [kind for kind in departures if kind != "zooms"]
    if not late or initial is None or result.zoom is not None:
        return result
    return _departed(replace(fine, zooms=False), result, late) or result


def _departed(fine: Samples, straight: BundleResult, kinds: Sequence[Departure]) -> BundleResult | None:
    """The adjustment with a lens that bends, or a shutter that rolls, so little that the fine grid alone shows it, and
    only once movers are out.

    Args:
        fine: Its samples, without what moves.
        straight: What they gave without.
        kinds: What is looked for.

    Returns:
        None where that is to stay.
    """
    if straight.camera_kind != "general":
        return None
    grid = resize_grid(straight.inverse_depth, fine.rows, fine.columns)
    departure = departing(fine, _state(straight, grid), kinds, SMALLEST_KNOWN)
    if departure is None:
        return None
    samples, state = departure
    grid = state.inverse_depth.reshape(-1, fine.rows, fine.columns)
    return solve_fine(samples, state, grid, None, SMALLEST_KNOWN)


def _state(result: BundleResult, inverse_depth: Float[np.ndarray, "N *k"]) -> State:
    """Where the adjustment begins from an earlier result."""
    return State(geo.invert_rigid(result.c2w_cv), inverse_depth, result.focal, optics=result.optics)


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
    return replace(result_of(fine, found, 0.0), known_intrinsics=intrinsics, unit=unit)
