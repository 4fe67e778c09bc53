"""The last word of the bundle adjustment: on the fine grid, mended where it tears, and made a result."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.camera_kind import Recognition, recognise
from das3r_ns.frontend.geometric.bundle.departures import SMALLEST, is_sure, messages_of, normalised
from das3r_ns.frontend.geometric.bundle.first_cameras import anneal
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.state import FINE_SMOOTHNESS, Robust, State, Terms, normalise_scale
from das3r_ns.frontend.geometric.bundle.swing import settle_swing
from das3r_ns.frontend.geometric.bundle.tears import sewn, torn
from das3r_ns.frontend.geometric.bundle.uncertainty import information_of
from das3r_ns.frontend.geometric.bundle.worlds import within
from das3r_ns.scene import geometry as geo

FINE_SCHEDULE = ((3.0, 1.5, 6), (2.5, 1.0, 6), (2.0, 0.5, 8), (2.0, 0.3, 10))
"""Multiple of the noise, floor in pixels and iterations of the stages on the fine grid."""

COSTS = (1.05, 0.005)
"""Factor, and share of all there is to lose, by which the robust loss of the flow that does not cross a tear may grow
where it is mended. Flow that crosses it over long strides has made the tear and does not count."""

Annealed = tuple[State, Float[np.ndarray, "E K"], Robust]
"""A solution, its residuals, and the robust scales at which it was found."""


def solve_fine(
    fine: Samples,
    state: State,
    grid: Float[np.ndarray, "N r c"],
    world: Float[np.ndarray, "N K"] | None,
    smallest: float = SMALLEST,
) -> BundleResult | None:
    """The adjustment on the fine grid.

    Args:
        fine: Its samples.
        state: Cameras to start from.
        grid: Inverse depth, on any grid.
        world: How surely each of its points belongs to the world that is wanted.
        smallest: How large a zoom or bend must be, see ``departures``.

    Returns:
        None where a zoom, bend or read-out that was looked for is not sure.
    """
    if world is not None:
        fine = within(fine, resize_grid(world.reshape(grid.shape), fine.rows, fine.columns))
    solver = Solver(fine)
    terms = Terms(smoothness=FINE_SMOOTHNESS, near=world is not None)
    state = replace(state, inverse_depth=resize_grid(grid, fine.rows, fine.columns))
    state, residual, robust = anneal(solver, state, FINE_SCHEDULE, terms)
    behind = torn(fine, residual)
    if len(behind) and state.optics is None:
        state, residual, robust = _mended(solver, terms, behind, (state, residual, robust))
    if state.optics is not None and state.optics.readout:
        state, residual = settle_swing(solver, state, robust, terms)
    state = normalise_scale(replace(state, w2c=state.w2c @ geo.invert_rigid(state.w2c[0])))
    information, focal_std = information_of(solver, state, robust)
    recognition = recognise(fine, state, residual, information, focal_std)
    departs = fine.zooms or fine.bends or fine.rolls
    if departs and (recognition.kind != "general" or not is_sure(solver, state, robust, smallest)):
        return None
    return result_of(fine, recognition, focal_std)


def _mended(solver: Solver, terms: Terms, behind: Int[np.ndarray, " T"], found: Annealed) -> Annealed:
    """The adjustment without its tears; as it was where they come back, or where other flow does not fit then.

    Args:
        solver: Of the fine grid.
        terms: What is solved for.
        behind: Frames behind a tear.
        found: The solution that tears.
    """
    start = sewn(solver.samples, found[0], behind)
    if start is None:
        return found
    mended = anneal(solver, start, FINE_SCHEDULE, terms)
    samples, robust = solver.samples, found[2]
    side = np.searchsorted(behind, np.arange(samples.num_frames), side="right")
    weight = solver.weights * (side[samples.sources] == side[samples.sinks])[:, None]
    losses = [float((weight * robust.cost(residual, slice(None))).sum()) for residual in (found[1], mended[1])]
    allowed = COSTS[0] * losses[0] + COSTS[1] * float(weight.sum())
    return found if len(torn(samples, mended[1])) or losses[1] > allowed else mended


def resize_grid(grid: Float[np.ndarray, "N r c"], rows: int, columns: int) -> Float[np.ndarray, "N K"]:
    """Inverse depth of another grid over the same pictures, frame by frame in one row each."""
    resized = [cv2.resize(one, (columns, rows), interpolation=cv2.INTER_LINEAR) for one in grid]
    return np.stack(resized).reshape(len(grid), -1)


def result_of(samples: Samples, found: Recognition, focal_std: float) -> BundleResult:
    """What was found on a grid, as the rest of the front end takes it.

    Args:
        samples: Of that grid.
        found: The solution, fitted to its kind of camera.
        focal_std: Standard error of log focal.
    """
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
        readout=(optics.readout or None) if optics is not None else None,
        swing=None if optics is None else optics.swing,
    )
