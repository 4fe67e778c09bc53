"""Cameras that drift apart at the seam of two windows come together again by the flow across it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.alignment import AlignmentResult
from das3r_ns.frontend.network.refinement import flow_misfit, refine_with_flow
from das3r_ns.scene import geometry as geo


def result(room, c2w: np.ndarray, depth: np.ndarray, focal: float) -> AlignmentResult:
    ones = np.ones(depth.shape, np.float32)
    return AlignmentResult(c2w, np.full(len(c2w), focal), depth.astype(np.float32), 5 * ones, 5 * ones)


def seam(room, angle: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The true scene, whose second half is turned and scaled about its first camera."""
    c2w, depth = room.c2w_cv.copy(), room.depth.copy()
    half = len(c2w) // 2
    turn = geo.se3_exp(np.array([0.02, -0.01, 0.0, 0.0, angle, 0.0]))
    later = geo.invert_rigid(c2w[half]) @ c2w[half:]
    later[:, :3, 3] *= scale
    c2w[half:] = c2w[half] @ turn @ later
    depth[half:] *= scale
    return c2w, depth


@pytest.mark.parametrize("unit", [1.0, 7.0])
@pytest.mark.parametrize("mover", [False, True])
def test_a_seam_is_mended(make_room: Callable, unit: float, mover: bool) -> None:
    room = make_room(count=8, strides=(1, 2, 4), noise=0.1, mover=mover)
    c2w, depth = seam(room, angle=0.02, scale=1.15)
    c2w[:, :3, 3] *= unit
    broken = result(room, c2w, depth * unit, 1.05 * room.focal)
    static = room.static_weight if mover else None
    mended = refine_with_flow(broken, room.flows, static)
    assert room.path_error(broken.c2w_cv) > 0.01
    assert room.path_error(mended.c2w_cv) < 0.004
    assert flow_misfit(mended, room.flows, static) < 0.5 * flow_misfit(broken, room.flows, static)
    # The halves agree in scale again: depth against the truth is one factor for all frames.
    ratio = np.median((mended.depth / room.depth).reshape(8, -1), axis=1)
    assert np.ptp(np.log(ratio)) < 0.03
    assert np.isfinite(mended.depth).all() and mended.depth.min() > 0


def test_what_fits_already_is_not_made_worse(make_room: Callable) -> None:
    room = make_room(count=5, strides=(1, 2))
    exact = result(room, room.c2w_cv, room.depth, room.focal)
    again = refine_with_flow(exact, room.flows)
    assert flow_misfit(again, room.flows) <= flow_misfit(exact, room.flows)
    assert room.path_error(again.c2w_cv) < 0.002


def test_misfit_is_zero_for_the_truth_and_counts_static_pixels_only(make_room: Callable) -> None:
    room = make_room(count=4, strides=(1,), mover=True)
    exact = result(room, room.c2w_cv, room.depth, room.focal)
    # The half pixel by which the alignment's principal point differs from the room's is all that is left.
    assert flow_misfit(exact, room.flows, room.static_weight) < 0.1
    assert flow_misfit(exact, room.flows, 1 - room.static_weight) > 1.0


def on_its_side(aligned: AlignmentResult, flows: PairFlows) -> tuple[AlignmentResult, PairFlows]:
    """The same with x and y changing places."""
    swap = np.eye(4)[[1, 0, 2, 3]]
    turned = {name: getattr(aligned, name).swapaxes(1, 2) for name in ("depth", "confidence", "clean_confidence")}
    fields = {pair: np.ascontiguousarray(field.swapaxes(0, 1)[..., ::-1]) for pair, field in flows.fields.items()}
    other = PairFlows(flows.width, flows.height, flows.num_frames, fields, flows.texture.swapaxes(1, 2))
    return dataclasses.replace(aligned, c2w_cv=swap @ aligned.c2w_cv @ swap, **turned), other


def test_a_clip_is_judged_alike_upright_and_on_its_side(make_room: Callable) -> None:
    room = make_room(count=4, strides=(1,), size=(320, 192))
    exact = result(room, room.c2w_cv, room.depth, room.focal)
    for field in room.flows.fields.values():
        field[:, :240, 0] += 3.0  # misses its start on the way back by 6 pixels: too many for the height alone
    assert 2.0 < flow_misfit(exact, room.flows) == pytest.approx(flow_misfit(*on_its_side(exact, room.flows)), abs=0.05)
