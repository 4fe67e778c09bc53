"""The last decision: by the rules, or by them and a head."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from das3r_ns.demo.varied import write_clip
from das3r_ns.frontend.config import FrontEndConfig, Motion
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.decision import decide, watched
from das3r_ns.frontend.geometric.dynamic_probability import Ruled, dynamic_probability
from das3r_ns.frontend.geometric.estimate import estimate
from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.frontend.geometric.head.weights import save_head
from das3r_ns.progress import Progress
from das3r_ns.video.image_folder import images_in, read_image

FRAMES = 6


def _weights(place: Path, bias: float) -> Path:
    torch.manual_seed(0)
    head = MotionHead(len(MAPS), len(CONTEXT))
    assert head.last.bias is not None
    torch.nn.init.constant_(head.last.bias, bias)
    save_head(head.state_dict(), {}, place)
    return place


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[tuple[Case, Ruled]], np.ndarray]:
    """A drawn clip, every decision of the front end on it, and the result."""
    place = tmp_path_factory.mktemp("drawn") / "clip"
    write_clip(place, 3, FRAMES, 160, 90)
    images = np.stack([read_image(path) for path in images_in(place / "frames")])
    cases: list[tuple[Case, Ruled]] = []
    with watched(lambda case, ruled: cases.append((case, ruled))):
        return images, cases, _masks(images)


def _masks(images: np.ndarray, motion: Motion = "rules", weights: Path | None = None) -> np.ndarray:
    config = FrontEndConfig(front_end="geometric", motion=motion, motion_weights=weights)
    names = [str(t) for t in range(len(images))]
    return estimate(images, names, config, Progress(Console(quiet=True))).dynamic_probability


def test_the_last_case_is_what_the_masks_come_from(seen) -> None:
    images, cases, masks = seen
    case, ruled = cases[-1]
    assert ruled.relative.shape == case.small.shape[:3]
    np.testing.assert_array_equal(decide(case), masks)
    np.testing.assert_array_equal(dynamic_probability(images, case.evidence, case.look), masks)
    assert len(cases) == (1 if case.look is None else 2)


def test_a_head_that_has_learned_nothing_gives_the_masks_of_the_rules(seen, tmp_path: Path) -> None:
    images, _, masks = seen
    found = _masks(images, "head", _weights(tmp_path / "zero.safetensors", 0.0))
    np.testing.assert_allclose(found, masks, atol=1e-4)


def test_it_decides_last_with_stereo_and_without(seen, tmp_path: Path) -> None:
    images, cases, masks = seen
    everything = _weights(tmp_path / "all.safetensors", 1e3)
    assert (masks > 0.5).mean() < 0.6
    assert (_masks(images, "head", everything) > 0.5).mean() > 0.95
    first = dataclasses.replace(cases[0][0])
    assert first.look is None
    assert (decide(first, "head", everything) > 0.5).mean() > 0.95
