"""A small clip of a square that moves over a textured wall, before a camera on a tripod."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import RigidPrediction, SecondLook, motion_evidence
from das3r_ns.frontend.pairs import strided_pairs

HEIGHT, WIDTH, FRAMES, SIDE = 72, 100, 6, 30


def draw() -> np.ndarray:
    """Frames."""
    rng = np.random.default_rng(4)
    wall = cv2.resize(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    square = cv2.resize(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    images = np.stack([wall] * FRAMES)
    for t in range(FRAMES):
        images[t, 20 : 20 + SIDE, 10 + 6 * t : 10 + 6 * t + SIDE] = square
    return images


@pytest.fixture(scope="session")
def case() -> Case:
    images = draw()
    flows = dis_flow(images, strided_pairs(FRAMES, (1, 2, 4)))
    depth = np.ones((FRAMES, HEIGHT, WIDTH), np.float32)
    matrix = np.array([[100.0, 0, WIDTH / 2], [0, 100.0, HEIGHT / 2], [0, 0, 1]])
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    world = RigidPrediction(depth, 0.5 * depth, np.tile(matrix, (FRAMES, 1, 1)), poses, "tripod")
    return Case(images, images, flows, motion_evidence(images, flows, world), world)


@pytest.fixture(scope="session")
def case_with_look(case: Case) -> Case:
    rng = np.random.default_rng(1)
    maps = rng.random((7, FRAMES, HEIGHT, WIDTH), np.float32)
    look = SecondLook(*maps)
    evidence = replace(case.evidence, plate=None, gone=case.evidence.regions.mean(maps[6]), looks_behind=True)
    return replace(case, evidence=evidence, look=look, world=replace(case.world, camera_kind="general"))
