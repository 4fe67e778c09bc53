"""Drift that loops take away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.loops.clip import close_chain, gap_of
from das3r_ns.frontend.geometric.loops.pose_graph import LOOPS, NEIGHBOURS, Graph, close_loops
from das3r_ns.frontend.geometric.loops.search import Loop
from das3r_ns.frontend.similarity import Sim3


def ring(count: int = 40, laps: float = 2.0) -> Float[np.ndarray, "N 4 4"]:
    """Cameras that walk in a circle and look ahead."""
    angle = np.linspace(0, 2 * np.pi * laps, count)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(angle, [0, 1, 0])).as_matrix()
    c2w[:, :3, 3] = 3 * np.stack([np.cos(angle), 0 * angle, -np.sin(angle)], axis=1)
    return np.linalg.inv(c2w[0]) @ c2w


def drifting(c2w: Float[np.ndarray, "N 4 4"], rng: np.random.Generator) -> Sim3:
    """The same walk with small errors of every step, of its unit too; all that is known at scale 1."""
    places = Sim3.from_rigid(c2w)
    steps = places[:-1].inverse() @ places[1:]
    count = len(c2w) - 1
    noise = rng.normal(size=(count, 7)) * NEIGHBOURS + 0.5 * NEIGHBOURS
    wrong = Sim3(np.ones(count), Rotation.from_rotvec(noise[:, 3:6]).as_matrix(), noise[:, :3])
    grow = np.exp(np.cumsum(noise[:, 6]))
    out = [np.eye(4)]
    for k in range(count):
        motion = (wrong[k] @ steps[k]).matrix()
        motion[:3, 3] *= grow[k]
        out.append(out[-1] @ motion)
    return Sim3.from_rigid(np.stack(out))


def test_loops_take_the_drift_away() -> None:
    rng = np.random.default_rng(1)
    truth = ring()
    exact, places = Sim3.from_rigid(truth), drifting(truth, rng)
    start, to = np.arange(39), np.arange(1, 40)
    first, second = np.arange(0, 20), np.arange(20, 40) - 1
    right = exact[first].inverse() @ exact[second]
    right.translation[3] += 2.0  # one is wrong
    chain = places[start].inverse() @ places[to]
    motion = Sim3(
        *(np.concatenate([getattr(chain, n), getattr(right, n)]) for n in ("scale", "rotation", "translation"))
    )
    error = np.concatenate([np.tile(NEIGHBOURS, (39, 1)), np.tile(LOOPS, (20, 1))])
    graph = Graph(np.append(start, first), np.append(to, second), motion, error, np.arange(59) >= 39)
    closed, agrees = close_loops(places, graph)
    assert agrees[:39].all() and not agrees[39 + 3] and agrees[39:].sum() == 19

    def apart(found: Sim3) -> float:
        """How far the two laps are from each other where they see the same place."""
        motions = found[first].inverse() @ found[second]
        return float(
            np.median(
                np.linalg.norm(motions.translation - exact[first].inverse().apply(exact[second].translation), axis=1)
            )
        )

    assert apart(closed) < 0.15 * apart(places)
    np.testing.assert_allclose(closed.translation[0], places.translation[0])


def test_loops_that_agree_win_against_far_drift() -> None:
    """A lap that misses its start by a good part of the depth, by an error that is the same in every step."""
    truth = Sim3.from_rigid(ring(120, 1.1))
    steps = truth[:-1].inverse() @ truth[1:]
    places = [Sim3.from_rigid(np.eye(4))]
    for k in range(119):
        turn = Rotation.from_rotvec([0.0, 0.0015, 0.0]).as_matrix()
        places.append(places[-1] @ Sim3(np.array(1.002), steps[k].rotation @ turn, steps[k].translation))
    wrong = Sim3.from_rigid(np.stack([one.matrix() / np.append(np.full(3, one.scale), 1.0) for one in places]))
    wrong = Sim3(np.ones(120), Rotation.from_matrix(wrong.rotation).as_matrix(), wrong.translation)
    first, second = np.arange(0, 10), np.arange(109, 119)
    loops = truth[first].inverse() @ truth[second]
    loops.translation[4] += 3.0
    found = [Loop(int(i), int(j), loops[k]) for k, (i, j) in enumerate(zip(first, second, strict=True))]
    assert gap_of(wrong.matrix(), found) > 0.03
    closed, agreed = close_chain(wrong, found, NEIGHBOURS)
    assert [loop.first for loop in agreed] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert gap_of(closed.apply_to_cameras(np.tile(np.eye(4), (120, 1, 1))), agreed) < 0.004


def test_what_agrees_stays_where_it_is() -> None:
    places = Sim3.from_rigid(ring(10, 1.0))
    start, to = np.array([*range(9), 0]), np.array([*range(1, 10), 9])
    motion = places[start].inverse() @ places[to]
    graph = Graph(start, to, motion, np.tile(NEIGHBOURS, (10, 1)), np.arange(10) == 9)
    closed, agrees = close_loops(places, graph)
    assert agrees.all()
    np.testing.assert_allclose(closed.translation, places.translation, atol=1e-9)
