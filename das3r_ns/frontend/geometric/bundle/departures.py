"""Whether a video zooms, its lens bends or its shutter rolls: found by letting go of what one
shared pinhole holds, and asking what for.

A solution with a focal for every frame, with a bent lens or a read-out always explains the flow better than one
without. It is taken where it explains much more, where what it finds is large, and where the flow says how large; a
lens that bends and a shutter that rolls together, where the second explains as much of what the first one leaves. Where
it cannot tell (a slow zoom from driving ahead, a bend from turning on the spot, a read-out from a path without shakes)
the shared straight camera with a global shutter stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.camera_kind import WEAK_FOCAL
from das3r_ns.frontend.geometric.bundle.first_cameras import anneal, grow, rotations_only, solve_seeds
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.optics import SHARED, Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import FINE_SMOOTHNESS, Robust, State, Terms
from das3r_ns.frontend.geometric.bundle.uncertainty import information_of, optics_error

Departure = Literal["zooms", "bends", "rolls"]
"""The fields of the samples that let it go."""

SEEDS = 4
"""Seeds that are followed through a video that may zoom."""

STEPS = 15
"""Steps, at most, from the shared straight camera, after which it shows whether a departure is worth looking for."""

PROMISING = 0.03
"""Share of the robust cost that those steps must take away."""

TAKEN = 0.08
"""Share of the robust cost that the departure must take away in the end."""

TAKEN_BY_READOUT = 0.25
"""The same for a read-out, after which all begins anew on level pictures. Shutters that are known to roll take away 0.6
to 0.7, phones that seem to 0.35; 0.13 was a fast blurred pan, whose masks were worse for it."""

SMALLEST = 0.06
"""How large it must be: range of log focal over the video, or growth of the picture's corner. Half of it promises."""

SMALLEST_KNOWN = 0.04
"""The same on a fine grid, where it is known what moves. Clips of straight lenses come to 0.045 there, but that takes
away less than half of :data:`TAKEN`."""

LARGEST = 0.3
"""How large a bend may be where the focal is a guess: that of an action camera is 0.2."""

SMALLEST_READOUT = 0.15
"""How large a read-out must be, as a share of the frame time."""

SURE = 2.0
"""Standard errors that it must be large."""

TERMS = Terms(smoothness=FINE_SMOOTHNESS)
"""What all solutions are compared under."""


def departing(
    samples: Samples, state: State, kinds: Sequence[Departure], smallest: float = SMALLEST
) -> tuple[Samples, State] | None:
    """Samples that zoom, bend or roll, and their solution, where this explains more than the shared straight camera.

    Args:
        samples: The flow, which neither zooms nor bends nor rolls; its focal unknown, or the read-out alone let go of.
        state: Solution with one shared focal, a straight lens and a global shutter; it may lie far off, so that for a
            zoom other starts are tried too.
        kinds: What may be let go of: in the end one of them, or bend and read-out together.
        smallest: How large a zoom or bend must be; for a read-out it is :data:`SMALLEST_READOUT`.

    Returns:
        None where the shared straight camera is to stay.
    """
    shared = Solver(samples)
    robust = shared.robust_scale(shared.residuals(state), 2.5, 1.0)
    state, _, cost = shared.optimise(state, robust, TERMS, STEPS)
    best: tuple[Samples, State] | None = None
    before = best_cost = _cost(shared, state)
    # The zoom last: its many starts cost more than all else, and are for clips that nothing else explains.
    for kind in sorted(kinds, key=lambda kind: kind == "zooms"):
        worth = (1.0 - (TAKEN_BY_READOUT if kind == "rolls" else TAKEN)) * before
        freed = replace(samples, zooms=kind == "zooms", bends=kind == "bends", rolls=kind == "rolls")
        solver = Solver(freed)
        trial, _, after = solver.optimise(state, robust, TERMS, STEPS)
        if after > (1.0 - PROMISING) * cost or _size(freed, trial, kind) < _least(kind, smallest) / 2:
            continue
        for start in [trial, *(_solutions(freed) if freed.zooms and best is None else ())]:
            found, _, scale = anneal(solver, start, ((3.0, 1.5, 12), (2.5, 1.0, 12)), TERMS)
            reached = _cost(solver, found)
            if reached < min(best_cost, worth) and is_sure(solver, found, scale, smallest):
                best, best_cost = (freed, found), reached
    if best is None or best[0].zooms or not set(kinds) >= {"bends", "rolls"}:
        return best
    return _bends_and_rolls(*best, best_cost, smallest) or best


def _bends_and_rolls(samples: Samples, state: State, cost: float, smallest: float) -> tuple[Samples, State] | None:
    """Both departures, where one was found: each alone takes a part of the other for its own.

    Args:
        samples: With one of them free.
        state: Their solution.
        cost: Its cost.
        smallest: How large the other must be.

    Returns:
        None where one is to stay alone.
    """
    worth = 1.0 - (TAKEN if samples.rolls else TAKEN_BY_READOUT)
    samples = replace(samples, bends=True, rolls=True)
    solver = Solver(samples)
    found, _, scale = anneal(solver, state, ((2.5, 1.0, STEPS), (2.5, 1.0, STEPS)), TERMS)
    return (samples, found) if _cost(solver, found) < worth * cost and is_sure(solver, found, scale, smallest) else None


def _cost(solver: Solver, state: State) -> float:
    judge = Robust(np.full(len(solver.samples.sources), solver.samples.error_unit, dtype=np.float32))
    return solver.cost(solver.residuals(state), judge)


def _solutions(samples: Samples) -> list[State]:
    """Of the whole video, from every seed: which of them sees the zoom right cannot be told from the seed alone."""
    turned, residual = rotations_only(samples, samples.focal_prior)
    seeds = sorted(solve_seeds(samples, residual), key=lambda seed: -seed.gain)
    return [grow(samples, seed, turned) for seed in seeds[:SEEDS]]


def _least(kind: Departure, smallest: float) -> float:
    """How large the departure must be."""
    return SMALLEST_READOUT if kind == "rolls" else smallest


def _size(samples: Samples, state: State, kind: Departure) -> float:
    """Range of log focal over the video, log growth of the picture's corner, or read-out."""
    optics = state.optics
    if optics is None:
        return 0.0
    sizes = {"rolls": optics.readout, "zooms": np.ptp(optics.zoom), "bends": _corner(samples) @ optics.bend}
    return abs(float(sizes[kind]))


def is_sure(solver: Solver, state: State, robust: Robust, smallest: float = SMALLEST) -> bool:
    """Whether every departure is large, and large against its own standard error, and a bend is likely."""
    samples, optics = solver.samples, state.optics
    if optics is None:
        return False

    def sure(kind: Departure) -> bool:
        error = optics_error(solver, state, robust, _direction(samples, optics, kind))
        return _size(samples, state, kind) > max(_least(kind, smallest), SURE * error)

    if samples.bends and not is_likely(samples, state, information_of(solver, state, robust)[1]):
        return False
    kinds: tuple[Departure, ...] = ("zooms", "bends", "rolls")
    return all(sure(kind) for kind in kinds if getattr(samples, kind))


def is_likely(samples: Samples, state: State, focal_std: float) -> bool:
    """Whether a bend is no larger than lenses have it, or the focal is sure.

    A camera that drives ahead tells neither focal nor bend from depth: together they take whatever the flow errs by.

    Args:
        samples: Of a lens that may bend.
        state: Their solution.
        focal_std: Standard error of log focal.
    """
    return focal_std < WEAK_FOCAL or _size(samples, state, "bends") < LARGEST


def _direction(samples: Samples, optics: Optics, kind: Departure) -> Float[np.ndarray, " O"]:
    """What :func:`_size` adds up of the unknowns of the optics."""
    out = np.zeros(samples.num_frames + SHARED)
    if kind == "rolls":
        out[-1] = 1.0
    elif kind == "zooms":
        out[optics.zoom.argmax()], out[optics.zoom.argmin()] = 1.0, -1.0
    else:
        out[-SHARED:-1] = _corner(samples)
    return out


def _corner(samples: Samples) -> Float[np.ndarray, " 2"]:
    """Squared and fourth power of the corner's distance from the centre (see ``optics``)."""
    square = float((samples.centre**2).sum() / samples.centre.max() ** 2)
    return np.array([square, square**2])


def normalised(state: State) -> State:
    """The same with a mean log zoom of 0."""
    if state.optics is None:
        return state
    mean = float(state.optics.zoom.mean())
    return replace(state, focal=state.focal * np.exp(mean), optics=replace(state.optics, zoom=state.optics.zoom - mean))


def messages_of(samples: Samples, state: State) -> list[str]:
    """What to say of a zoom. Of a lens speaks who undistorts the pictures."""
    if state.optics is None or not samples.zooms:
        return []
    focals = state.focals / max(samples.width, samples.height)
    return [
        f"The clip zooms: the focal goes from {focals[0]:.2f} to {focals[-1]:.2f} times the longer side "
        f"(between {focals.min():.2f} and {focals.max():.2f}); every frame has its own."
    ]
