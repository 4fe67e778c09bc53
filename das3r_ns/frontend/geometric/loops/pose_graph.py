"""Frames moved by similarities so that loops close: what a long video drifts by is spread over its length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.similarity import Sim3

NEIGHBOURS = np.array([0.003, 0.003, 0.003, 0.002, 0.002, 0.002, 0.003])
"""Standard errors from one frame to the next in a window: translation (in units of the depth), rotation, log scale."""

SEAM = np.array([0.01, 0.01, 0.01, 0.004, 0.004, 0.004, 0.03])
"""The same where windows are joined."""

LOOPS = np.array([0.03, 0.03, 0.03, 0.01, 0.01, 0.01, 0.05])
"""The same between frames that see one place, by some features and their depths."""

OUTLYING = (100.0, 30.0, 10.0, 3.0)
"""Standard errors beyond which a loop has ever less to say, one after the other: from where all of them together pull a
long way home to where one that contradicts the others is left out (graduated non-convexity)."""

STEPS = 20
"""Gauss-Newton steps, at most, under each of these."""

SMALL = 1e-6
"""Step of the differences that take the place of derivatives."""


@dataclass(frozen=True)
class Graph:
    """Measured motions between frames; each from the camera of ``to`` to that of ``start``."""

    start: Int[np.ndarray, " E"]
    """The frame that each is measured from."""
    to: Int[np.ndarray, " E"]
    """The frame that it leads to."""
    motion: Sim3
    """E of them."""
    error: Float[np.ndarray, "E 7"]
    """Standard errors: translation, rotation, log scale."""
    loop: Bool[np.ndarray, " E"]
    """Which of them close a loop; the others tie neighbours and are always believed."""


def close_loops(places: Sim3, graph: Graph) -> tuple[Sim3, Bool[np.ndarray, " E"]]:
    """Least squares over all motions, robust for loops (Strasdat et al., RSS 2010, with Gauss-Newton).

    Args:
        places: Camera to world of every frame, at scale 1 where its unit of length is that of the world.
        graph: Motions; translations in units in which the depth is about 1. The first frame stays where it is.

    Returns:
        The places, and which of the motions they agree with.
    """
    for outlying in OUTLYING:
        places = _settled(places, graph, outlying)
    return places, (_residuals(places, graph) ** 2).sum(axis=1) < 7 * OUTLYING[-1] ** 2


def _settled(places: Sim3, graph: Graph, outlying: float) -> Sim3:
    """Gauss-Newton under one robust scale of the loops."""
    count = len(places.scale)
    for _ in range(STEPS):
        residual = _residuals(places, graph)
        weight = _weights(residual, graph, outlying)
        rows, columns, values = [np.arange(7 * count)], [np.arange(7 * count)], [np.full(7 * count, 1e-9)]
        gradient = np.zeros(7 * count)
        slopes = [_slopes(places, graph, residual, end) for end in (graph.start, graph.to)]
        for slope, end in zip(slopes, (graph.start, graph.to), strict=True):
            np.add.at(gradient.reshape(count, 7), end, np.einsum("e,eri,er->ei", weight, slope, residual))
            for other, far in zip(slopes, (graph.start, graph.to), strict=True):
                block = np.einsum("e,eri,erj->eij", weight, slope, other)
                row = np.broadcast_to(7 * end[:, None, None] + np.arange(7)[:, None], block.shape)
                column = np.broadcast_to(7 * far[:, None, None] + np.arange(7), block.shape)
                rows.append(row.ravel())
                columns.append(column.ravel())
                values.append(block.ravel())
        shape = (7 * count, 7 * count)
        hessian = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape).tocsc()
        step = np.zeros(7 * count)
        step[7:] = spsolve(hessian[7:, 7:], -gradient[7:])
        places = _moved(places, step.reshape(count, 7))
        if np.abs(step).max() < 1e-7:
            break
    return places


def _moved(places: Sim3, step: Float[np.ndarray, "N 7"]) -> Sim3:
    """Each place after a small similarity in axes of its own camera."""
    return places @ Sim3(np.exp(step[:, 6]), Rotation.from_rotvec(step[:, 3:6]).as_matrix(), step[:, :3])


def _residuals(places: Sim3, graph: Graph) -> Float[np.ndarray, "E 7"]:
    """By how many standard errors each motion is missed."""
    return _missed(places[graph.start], places[graph.to], graph)


def _missed(start: Sim3, to: Sim3, graph: Graph) -> Float[np.ndarray, "E 7"]:
    """The same for the places of both ends of every motion."""
    missed = graph.motion.inverse() @ start.inverse() @ to
    turned = Rotation.from_matrix(missed.rotation).as_rotvec()
    return np.concatenate([missed.translation, turned, np.log(missed.scale)[:, None]], axis=1) / graph.error


def _weights(residual: Float[np.ndarray, "E 7"], graph: Graph, outlying: float) -> Float[np.ndarray, " E"]:
    square = (residual**2).mean(axis=1) / outlying**2
    return np.where(graph.loop, 1.0 / (1.0 + square), 1.0)


def _slopes(
    places: Sim3, graph: Graph, residual: Float[np.ndarray, "E 7"], end: Int[np.ndarray, " E"]
) -> Float[np.ndarray, "E 7 7"]:
    """Derivatives of the residuals for a step of one end of each motion."""
    slopes = np.empty((len(end), 7, 7))
    for k in range(7):
        step = np.zeros((len(end), 7))
        step[:, k] = SMALL
        ends = [places[graph.start], places[graph.to]]
        which = 0 if end is graph.start else 1
        ends[which] = _moved(ends[which], step)
        slopes[:, :, k] = (_missed(ends[0], ends[1], graph) - residual) / SMALL
    return slopes
