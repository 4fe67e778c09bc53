"""A walker that a static depth explains: in front of the ground all the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.motion.covering import covering, covers_and_hidden
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.second_look import look_again
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo

WIDTH, HEIGHT, FRAMES, FOCAL, STEP = 160, 96, 21, 140.0, 0.04
HILL, WALKER, GROUND = 0.1, 0.3, 1.0
"""Inverse depths; the walker's is that at which something still would go by as the walker does."""
TOP, BOTTOM, BANK = 30, 66, 52
"""Rows of the walker, and where the ground begins."""


@dataclass(frozen=True)
class Clip:
    """Frames by a camera that goes sideways, and what stereo measures in them."""

    images: np.ndarray
    walker: np.ndarray
    matched: RigidPrediction

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        return covers_and_hidden(self.images, self.matched, np.ones_like(self.matched.depth))


def texture(rng: np.random.Generator, colour: tuple[int, int, int]) -> np.ndarray:
    coarse = rng.uniform(-60, 60, (HEIGHT // 3 + 1, 2 * WIDTH, 1)).repeat(3, axis=0)[:HEIGHT]
    return np.clip(np.array(colour) + coarse, 0, 255)


def clip(before_ground: bool, shown: tuple[int, int] = (0, FRAMES)) -> Clip:
    """A hill, a bank of ground before it, and between them in depth something that passes before or behind the bank.

    Args:
        before_ground: Whether it is drawn over the bank, as nothing still could be.
        shown: Frames that show it.
    """
    rng = np.random.default_rng(2)
    hill, walker, ground = (texture(rng, c) for c in ((90, 130, 80), (200, 90, 90), (120, 120, 150)))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    images, masks, inverse = [], [], []
    for t in range(FRAMES):

        def sampled(picture: np.ndarray, inverse_depth: float, t: int = t) -> np.ndarray:
            x = columns + FOCAL * STEP * t * inverse_depth
            low = np.floor(x).astype(int)
            return picture[rows, low] + (x - low)[..., None] * (picture[rows, low + 1] - picture[rows, low])

        left = 75 - FOCAL * STEP * (t - FRAMES // 2) * WALKER
        mask = (columns >= left) & (columns < left + 34) & (rows >= TOP) & (rows < BOTTOM)
        mask &= shown[0] <= t < shown[1]
        bank = rows >= BANK
        if not before_ground:
            mask &= ~bank
        depth = np.where(mask, WALKER, np.where(bank, GROUND, HILL))
        image = np.where(bank[..., None], sampled(ground, GROUND), sampled(hill, HILL))
        images.append(np.where(mask[..., None], sampled(walker, WALKER), image))
        masks.append(mask)
        inverse.append(depth)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 0, 3] = STEP * np.arange(FRAMES)
    intrinsics = np.tile(geo.pinhole(FOCAL, WIDTH, HEIGHT), (FRAMES, 1, 1))
    depth = 1.0 / np.array(inverse)
    matched = RigidPrediction(depth, np.full_like(depth, 0.8), intrinsics, poses)
    return Clip(np.rint(images).astype(np.uint8), np.array(masks), matched)


@pytest.fixture(scope="module")
def walks() -> Clip:
    return clip(before_ground=True)


def first_look(film: Clip) -> tuple[PairFlows, EvidenceMaps]:
    flows = dis_flow(film.images, strided_pairs(FRAMES, (1, 2, 4, 8)))
    return flows, motion_evidence(film.images, flows, film.matched)


def test_only_the_walker_covers_what_is_nearer(walks: Clip) -> None:
    covers, hidden = walks.measured()
    assert covers.shape == hidden.shape == walks.walker.shape
    assert covers.min() >= 0 and covers.max() <= 1 and hidden.min() >= 0 and hidden.max() <= 1
    over_ground = walks.walker.copy()
    over_ground[:, :BANK] = False
    middle = slice(6, FRAMES - 6)
    assert covers[middle][over_ground[middle]].mean() > 0.3
    assert covers[:, : BANK - 2].max() == 0.0  # over the hill it hides what is farther
    assert covers[~walks.walker].sum() < 0.01 * covers.sum()
    assert hidden[walks.walker].mean() < 0.01


def test_what_passes_behind_the_bank_is_hidden_by_it() -> None:
    behind = clip(before_ground=False)
    covers, hidden = behind.measured()
    assert covers.sum() < 1.0
    assert hidden[behind.walker].mean() == 0.0  # the bank is level: nothing of it is hidden anywhere


def test_something_still_behind_a_post_is_hidden() -> None:
    """The post goes by before it: what it hides in other frames is hidden as it should be."""
    behind = clip(before_ground=False)
    images, depth = behind.images.copy(), behind.matched.depth.copy()
    for t in range(FRAMES):
        left = round(90 - FOCAL * STEP * (t - FRAMES // 2) * GROUND)
        post = slice(max(left, 0), max(left + 12, 0))
        images[t, :, post], depth[t, :, post] = (20, 20, 30), 1.0 / GROUND
    matched = replace(behind.matched, depth=depth)
    covers, hidden = covers_and_hidden(images, matched, np.ones_like(depth))
    walker = behind.walker & (depth > 1.5 / GROUND)
    assert hidden[walker].mean() > 0.05
    assert covers[walker].sum() < 0.02 * hidden[walker].sum()


def test_what_is_uncovered_for_good_covered_nothing() -> None:
    """A box that stands in the first half and is gone in the second: only frames before see it where it stood."""
    film = clip(before_ground=True, shown=(0, 0))
    images, depth = film.images.copy(), film.matched.depth.copy()
    box = texture(np.random.default_rng(3), (160, 60, 160))
    for t in range(FRAMES // 2):
        left = round(90 - FOCAL * STEP * (t - FRAMES // 2) * 2 * GROUND)
        place = slice(max(left, 0), max(left + 30, 0))
        images[t, 40:, place], depth[t, 40:, place] = box[40:, : len(depth[t, 0, place])], 0.5 / GROUND
    covers, _ = covers_and_hidden(images, replace(film.matched, depth=depth), np.ones_like(depth))
    assert covers.sum() == 0.0


def test_movers_that_are_known_are_no_witnesses(walks: Clip) -> None:
    covers, _ = covers_and_hidden(walks.images, walks.matched, np.zeros_like(walks.matched.depth))
    assert not covers.any()


def test_the_part_over_the_ground_speaks_for_all_of_it(walks: Clip) -> None:
    """Flow, colours and stereo agree on a depth for the walker, and nothing else speaks against that."""
    flows, evidence = first_look(walks)
    unknown = np.zeros_like(walks.matched.depth, dtype=np.float32)
    found = covering(walks.images, walks.matched, 1.0 - unknown, evidence)
    inside = evidence.regions.mean(walks.walker.astype(float))
    assert found[inside > 0.95].mean() > 0.8
    assert found[inside < 0.05].max() < 0.05
    marked = look_again(walks.images, walks.images, flows, evidence, walks.matched, unknown) > 0.5
    assert (marked & walks.walker).sum() / (marked | walks.walker).sum() > 0.65


def test_what_stands_behind_the_bank_stays() -> None:
    behind = clip(before_ground=False)
    flows, evidence = first_look(behind)
    unknown = np.zeros_like(behind.matched.depth, dtype=np.float32)
    assert not covering(behind.images, behind.matched, 1.0 - unknown, evidence).any()
    assert (look_again(behind.images, behind.images, flows, evidence, behind.matched, unknown) > 0.5).mean() < 0.01
