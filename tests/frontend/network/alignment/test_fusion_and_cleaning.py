"""Masks, confidence and the occlusion test, where the official ways have weaknesses."""

from __future__ import annotations

import numpy as np
import torch

from das3r_ns.frontend.network.alignment.cleaning import clean_confidence, clean_confidence_official
from das3r_ns.frontend.network.alignment.depth_fusion import fuse_dynamic

CPU = torch.device("cpu")
FOCALS = np.full(3, 40.0)


def three_cameras() -> np.ndarray:
    """Side by side before a wall at distance 4, a tenth apart."""
    c2w = np.tile(np.eye(4), (3, 1, 1))
    c2w[:, 0, 3] = [0.0, 0.1, 0.2]
    return c2w


def test_noise_on_a_wall_strikes_nothing_out() -> None:
    rng = np.random.default_rng(0)
    depth = (4 * (1 + 0.005 * rng.standard_normal((3, 30, 40)))).astype(np.float32)
    confidence = rng.uniform(2, 4, depth.shape).astype(np.float32)
    ours = clean_confidence(confidence, depth, three_cameras(), FOCALS, 0.03, CPU)
    officially = clean_confidence_official(confidence, depth, three_cameras(), FOCALS)
    assert (ours == 0).mean() == 0
    assert (officially == 0).mean() > 0.3


def test_point_in_the_air_is_struck_out() -> None:
    depth = np.full((3, 30, 40), 4.0, np.float32)
    depth[1, 10:15, 15:20] = 3.0
    confidence = np.full(depth.shape, 3.0, np.float32)
    confidence[1, 10:15, 15:20] = 1.5
    cleaned = clean_confidence(confidence, depth, three_cameras(), FOCALS, 0.03, CPU)
    assert (cleaned[1, 10:15, 15:20] == 0).all()
    assert (cleaned == 0).sum() == 25


def test_order_of_the_frames_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    depth = rng.uniform(3.5, 4.5, (3, 30, 40)).astype(np.float32)
    confidence = rng.uniform(1, 4, depth.shape).astype(np.float32)
    c2w = three_cameras()
    c2w[:, 0, 3] *= 12  # the outer ones hardly see the same, so that a witness struck out has no stand-in
    there = clean_confidence(confidence, depth, c2w, FOCALS, 0.03, CPU)
    back = clean_confidence(confidence[::-1].copy(), depth[::-1].copy(), c2w[::-1].copy(), FOCALS, 0.03, CPU)
    np.testing.assert_array_equal(there, back[::-1])
    officially = clean_confidence_official(confidence, depth, c2w, FOCALS)
    reversed_ = clean_confidence_official(confidence[::-1].copy(), depth[::-1].copy(), c2w[::-1].copy(), FOCALS)
    assert (officially != reversed_[::-1]).mean() > 0.02


def test_edge_of_a_thing_is_kept() -> None:
    # A board before the wall, exact depth: at its edge the nearest pixel is now and then the wall's.
    c2w, near = three_cameras(), np.array([-0.713, 0.713])
    columns = (np.arange(40) - 20) / 40.0
    on_board = np.stack([(columns * 3 + x > near[0]) & (columns * 3 + x < near[1]) for x in c2w[:, 0, 3]])
    depth = np.repeat(np.where(on_board, 3.0, 4.0)[:, None], 30, axis=1).astype(np.float32)
    confidence = np.random.default_rng(0).uniform(2, 4, depth.shape).astype(np.float32)
    assert (clean_confidence(confidence, depth, c2w, FOCALS, 0.03, CPU) == 0).sum() == 0
    assert (clean_confidence_official(confidence, depth, c2w, FOCALS) == 0).sum() > 0


def test_pairs_that_are_nonsense_do_not_speak_on_motion(align_scene) -> None:
    predictions, moving = align_scene.predictions, align_scene.moving
    shares = np.full((len(predictions.pairs), 2), 0.6)
    assert predictions.dynamic1 is not None
    bad = [e for e, pair in enumerate(predictions.pairs) if pair[0] == 4][:3]
    shares[bad] = 0.01
    predictions.dynamic1[bad] = 1.0
    weighted, plain = fuse_dynamic(predictions, shares), fuse_dynamic(predictions)
    assert weighted is not None and plain is not None
    assert weighted[0][~moving].max() < 0.25
    assert weighted[0][moving].min() > 0.75
    assert plain[0][4][~moving[4]].mean() > 0.4  # nearly everything moves


def test_no_mask_heads(align_scene) -> None:
    align_scene.predictions.dynamic1 = None
    assert fuse_dynamic(align_scene.predictions) is None
