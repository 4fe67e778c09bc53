"""Dynamic probability on clips whose masks are exact."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.dynamic_probability import (
    MOVES,
    SOME,
    STATIC_PRIOR,
    dynamic_probability,
    fuse,
    relative_evidence,
    segment_frame,
    soften,
)
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import RigidPrediction, SecondLook, motion_evidence
from das3r_ns.frontend.geometric.motion.superpixels import Superpixels, region_sum
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.pairs import strided_pairs

HEIGHT, WIDTH, FRAMES = 96, 160, 9


def _texture(height: int, width: int, hue: tuple[float, float, float], seed: int) -> np.ndarray:
    """Smooth random texture about one colour, float32."""
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(
            rng.normal(0, 1, (height // s + 2, width // s + 2, 3)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        for s in (3, 6, 12)
    )
    return np.clip(np.array(hue) + 22 * noise, 0, 255).astype(np.float32)


def _window(texture: np.ndarray, x: float, y: float, height: int, width: int) -> np.ndarray:
    """The part of a texture whose top left corner is (x, y), between pixels too."""
    shift = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return cv2.warpAffine(texture, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _clip(camera: float, start: int, size: int, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """A textured square over a textured plane: frames [N, H, W, 3] and exact masks.

    Args:
        camera: Pixels a frame by which the plane moves to the left.
        start: First column of the square.
        size: Side of the square in pixels; it may reach beyond the picture.
        speed: Pixels a frame by which the square moves to the right.
    """
    ground, mover = _texture(HEIGHT, 2 * WIDTH, (90, 120, 90), 1), _texture(size, size, (170, 110, 80), 2)
    images, masks = [], []
    for t in range(FRAMES):
        image = _window(ground, camera * t, 0, HEIGHT, WIDTH)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        x, y = start + round(speed * t), (HEIGHT - size) // 2
        rows = slice(max(y, 0), min(y + size, HEIGHT))
        columns = slice(max(x, 0), min(x + size, WIDTH))
        image[rows, columns] = mover[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        mask[rows, columns] = True
        images.append(image)
        masks.append(mask)
    noise = np.random.default_rng(9).normal(0, 1.5, (FRAMES, HEIGHT, WIDTH, 3))
    return np.clip(np.stack(images) + noise, 0, 255).astype(np.uint8), np.stack(masks)


def _flows(images: np.ndarray) -> PairFlows:
    return dis_flow(images, strided_pairs(len(images), (1, 2, 4)))


def _probability(images: np.ndarray, flows: PairFlows, rigid: RigidPrediction | None = None) -> np.ndarray:
    return dynamic_probability(images, motion_evidence(images, flows, rigid))


def _iou(probability: np.ndarray, masks: np.ndarray) -> float:
    found = probability > 0.5
    return float((found & masks).sum() / (found | masks).sum())


@pytest.mark.parametrize(
    ("camera", "start", "size", "speed"),
    [
        pytest.param(1.5, 40, 40, 2.0, id="panning camera"),
        pytest.param(0.0, 40, 40, 2.0, id="tripod"),
        pytest.param(1.5, -30, 60, 2.0, id="enters at the edge"),
        pytest.param(1.0, 30, 80, 2.0, id="covers two fifths"),
    ],
)
def test_finds_a_moving_square(camera: float, start: int, size: int, speed: float) -> None:
    images, masks = _clip(camera, start, size, speed)
    probability = _probability(images, _flows(images))
    assert probability.shape == masks.shape and probability.dtype == np.float32
    assert probability.min() >= 0 and probability.max() <= 1
    assert _iou(probability, masks) > 0.85
    # Elsewhere than at its edge it is nearly always certain: it can serve as a weight.
    edge = np.stack([cv2.dilate(m, np.ones((7, 7))) - cv2.erode(m, np.ones((7, 7))) for m in masks.astype(np.uint8)])
    settled = (probability < 0.05) | (probability > 0.95)
    assert settled[edge == 0].mean() > 0.95


def _tripod(count: int) -> RigidPrediction:
    depth = np.ones((count, HEIGHT, WIDTH), np.float32)
    intrinsics = np.array([[150.0, 0, WIDTH / 2], [0, 150.0, HEIGHT / 2], [0, 0, 1]])
    poses = np.tile(np.eye(4), (count, 1, 1))
    return RigidPrediction(depth, 0 * depth, np.tile(intrinsics, (count, 1, 1)), poses, "tripod")


def test_tripod_remembers_a_mover_that_stops() -> None:
    images, masks = _clip(0.0, 10, 40, 10.0)
    # The square stands still for the last frames, where no flow betrays it.
    images, masks = (np.concatenate([a[:7], np.repeat(a[6:7], 4, axis=0)]) for a in (images, masks))
    probability = _probability(images, _flows(images), _tripod(len(images)))
    assert _iou(probability, masks) > 0.85
    assert _iou(probability[-1:], masks[-1:]) > 0.8


def test_finds_what_no_flow_can_follow() -> None:
    """A square at another place in every frame: the flow of its pixels is a guess, but no other frame looks like it."""
    ground, mover = _texture(HEIGHT, 2 * WIDTH, (90, 120, 90), 1), _texture(30, 30, (170, 110, 80), 2)
    images = np.stack([_window(ground, 1.5 * t, 0, HEIGHT, WIDTH) for t in range(FRAMES)])
    masks = np.zeros(images.shape[:3], bool)
    places = [(10, 8), (110, 50), (60, 20), (15, 55), (120, 10), (70, 60), (30, 30), (100, 40), (50, 5)]
    for t, (x, y) in enumerate(places):
        images[t, y : y + 30, x : x + 30] = mover
        masks[t, y : y + 30, x : x + 30] = True
    probability = _probability(np.clip(images, 0, 255).astype(np.uint8), _flows(images.astype(np.uint8)))
    per_frame = [_iou(p, m) for p, m in zip(probability, masks, strict=True)]
    assert min(per_frame[0], per_frame[-1]) > 0.6
    assert np.mean(per_frame) > 0.75


def test_certain_where_the_evidence_is() -> None:
    relative = np.array([[0.0, 0.3, 0.45, 0.9]], np.float32).repeat(20, axis=0).repeat(20, axis=1)
    mask = np.zeros_like(relative, bool)
    mask[:, 40:] = True
    probability = soften(mask, relative)
    np.testing.assert_array_equal(probability[:, :36] < 0.5, True)
    np.testing.assert_array_equal(probability[:, 44:] > 0.5, True)
    static, nearly_static, hardly_moving, moving = probability[10, [10, 30, 50, 70]]
    assert static < 0.01 and moving > 0.99
    assert 0.05 < nearly_static < 0.45 and 0.55 < hardly_moving < 0.95


def test_reports_each_frame() -> None:
    images, _ = _clip(1.5, 40, 40, 2.0)
    calls = []
    motion_evidence(images, _flows(images), on_frame=lambda: calls.append(1))
    assert len(calls) == FRAMES


@pytest.mark.parametrize("camera", [0.0, 2.0], ids=["tripod", "panning"])
def test_static_clip_has_no_movers(camera: float) -> None:
    ground = _texture(HEIGHT, 2 * WIDTH, (90, 120, 90), 1)
    frames = np.stack([_window(ground, camera * t, 0.3 * camera * t, HEIGHT, WIDTH) for t in range(FRAMES)])
    images = np.clip(frames + np.random.default_rng(0).normal(0, 3, frames.shape), 0, 255).astype(np.uint8)
    probability = _probability(images, _flows(images))
    assert (probability > 0.5).mean() < 0.01
    assert probability.mean() < 0.01


def _two_depths() -> tuple[np.ndarray, np.ndarray, RigidPrediction]:
    """A near plane before a far one, seen by a camera that moves sideways, and a square that moves by itself."""
    focal, near, far, step = 150.0, 2.0, 6.0, 0.04
    walls = {z: _texture(HEIGHT, 2 * WIDTH, (90 + 10 * z, 120, 90), int(z)) for z in (near, far)}
    mover = _texture(24, 24, (200, 80, 80), 5)
    images, masks, depths = [], [], []
    for t in range(FRAMES):
        shift = {z: focal * step * t / z for z in walls}
        image, depth = _window(walls[far], shift[far], 0, HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), far, np.float32)
        # The near plane is a board that stands between two columns of the far one.
        board = np.zeros((HEIGHT, WIDTH), bool)
        board[30:, max(0, round(95 - shift[near])) : max(0, round(155 - shift[near]))] = True
        image[board] = _window(walls[near], shift[near], 0, HEIGHT, WIDTH)[board]
        depth[board] = near
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[10 + 2 * t : 34 + 2 * t, 12:36] = True
        image[mask] = mover.reshape(-1, 3)
        images.append(image)
        masks.append(mask)
        depths.append(depth)
    intrinsics = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    c2w[:, 0, 3] = step * np.arange(FRAMES)
    depth = np.stack(depths)
    rigid = RigidPrediction(depth, np.ones_like(depth), np.tile(intrinsics, (FRAMES, 1, 1)), c2w)
    return np.stack(images).astype(np.uint8), np.stack(masks), rigid


def test_rigid_prediction_clears_what_only_has_parallax() -> None:
    images, masks, rigid = _two_depths()
    flows = _flows(images)
    probability = _probability(images, flows, rigid)
    board = (rigid.depth < 3) & ~masks
    assert (probability > 0.5)[board].mean() < 0.02
    assert _iou(probability, masks) > 0.8
    # Without it a two-dimensional background takes the board for a mover: the test can fail.
    assert (_probability(images, flows)[board] > 0.5).mean() > 0.2


def test_useless_rigid_prediction_is_not_used() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    depth = np.full(masks.shape, 1.0, np.float32)
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    c2w[:, 0, 3] = -0.1 * np.arange(FRAMES)
    intrinsics = np.array([[150.0, 0, WIDTH / 2], [0, 150.0, HEIGHT / 2], [0, 0, 1]])
    rigid = RigidPrediction(depth, np.ones_like(depth), np.tile(intrinsics, (FRAMES, 1, 1)), c2w)
    flows = _flows(images)
    assert np.array_equal(_probability(images, flows, rigid), _probability(images, flows))


@pytest.mark.parametrize("count", [2, 3])
def test_very_short_clips(count: int) -> None:
    images, masks = _clip(1.5, 40, 40, 3.0)
    probability = _probability(images[:count], _flows(images[:count]))
    assert np.isfinite(probability).all()
    assert _iou(probability, masks[:count]) > 0.5


@pytest.mark.parametrize("value", [0, 128, 255])
def test_single_colour_frames(value: int) -> None:
    images = np.full((4, 48, 64, 3), value, np.uint8)
    probability = _probability(images, _flows(images))
    assert np.array_equal(probability, np.zeros_like(probability))


def test_larger_images_than_flow() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    flows = _flows(images)
    size = (WIDTH * 6 // 5, HEIGHT * 6 // 5)
    large = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) for image in images])
    probability = _probability(large, flows)
    assert probability.shape == (FRAMES, size[1], size[0])
    expected = np.stack([cv2.resize(m.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in masks]) > 0
    assert _iou(probability, expected) > 0.85


def _of_each(regions: Superpixels, maps: np.ndarray) -> np.ndarray:
    """Mean of a map over each superpixel."""
    return region_sum(regions.labels, maps, regions.count) / regions.size


def test_relative_evidence_is_of_each_object() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    square = _of_each(evidence.regions, masks) > 0.9
    far = _of_each(evidence.regions, np.broadcast_to(np.arange(WIDTH) > 130.0, masks.shape)) > 0.9
    noise = 0.05 + 0.02 * np.random.default_rng(0).normal(size=len(square))
    for nothing in relative_evidence(evidence, noise):
        assert np.array_equal(nothing, np.zeros(len(noise)))

    for weak in (0.25, 0.14):
        value = noise.copy()
        value[far], value[square] = 0.9, weak
        relative, certain = relative_evidence(evidence, value)
        assert relative[~(far | square)].max() < 0.5
        np.testing.assert_allclose(relative[far], 1.0)
        assert (certain[far] == 1).all()
        # What is strong elsewhere takes nothing away, and nothing is made of what still scenes show.
        moves = weak > MOVES[1]
        np.testing.assert_allclose(relative[square], 1.0 if moves else 0.0)
        assert (certain[square] == moves).all()


def test_objects_that_touch_are_judged_each_by_itself() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    strong = _of_each(evidence.regions, masks) > 0.9
    weak = _of_each(evidence.regions, np.broadcast_to(np.arange(WIDTH) > 140.0, masks.shape)) > 0.9
    doubtful = _of_each(evidence.regions, np.broadcast_to(np.arange(HEIGHT)[:, None] // 8 == 5, masks.shape)) > 0.2
    value = np.where(strong, 0.8, np.where(weak, 0.3, np.where(doubtful, 1.1 * SOME, 0.0)))
    assert evidence.together(value > SOME)[0] <= 1 + (value <= SOME).sum() + 2  # nearly all of it hangs together
    relative, certain = relative_evidence(dataclasses.replace(evidence, looks_behind=True), value)
    np.testing.assert_allclose(relative[strong | weak], 1.0)
    assert (certain[strong | weak] == 1).all()
    assert relative[doubtful & ~(strong | weak)].max() < 0.5


def test_less_evidence_is_enough_on_a_tripod() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    inside = _of_each(evidence.regions, masks) > 0.9
    on_tripod = dataclasses.replace(evidence, plate=np.ones(len(inside)))
    for weak, moves in ((0.165, True), (0.11, False)):
        value = np.where(inside, weak, 0.0)
        certain = relative_evidence(on_tripod, value)[1][inside]
        np.testing.assert_array_equal(certain, 1.0 if moves else 0.0)
        assert relative_evidence(evidence, value)[1][inside].max() < 0.5


def test_relative_evidence_goes_by_most_of_an_object() -> None:
    """Doubtful ground that hangs together with a mover does not become one, and a fifth of it does not decide."""
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    value = np.where(_of_each(evidence.regions, masks) > 0.9, 0.6, 0.14)
    middle = np.median(np.repeat(value, evidence.regions.size.astype(int)))
    assert middle == 0.14  # the ground is the larger part
    assert not relative_evidence(evidence, value)[0].any()
    around = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) for mask in masks])
    value[_of_each(evidence.regions, around) < 0.5] = 0.0
    relative, certain = relative_evidence(evidence, value)
    assert relative[value == 0.6].min() > 0.95
    assert certain[value == 0.6].min() == 1
    assert 0 < certain[value == 0].mean() < 0.5  # next to it only
    assert relative[value == 0.14].max() < 0.3


def test_segment_frame_follows_the_colours() -> None:
    image = np.full((60, 80, 3), (40, 60, 160), np.uint8)
    image[20:40, 30:50] = (220, 180, 60)
    image = np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    relative = np.zeros((60, 80), np.float32)
    relative[18:42, 28:52] = 0.4  # undecided
    relative[22:38, 32:48] = 1.0
    expected = np.zeros((60, 80), bool)
    expected[20:40, 30:50] = True
    assert np.array_equal(segment_frame(image, relative), expected)


def _look(images: np.ndarray, change: float, witnessed: float, still: float, where: tuple) -> SecondLook:
    """A second look that sees the same everywhere but at one place."""
    maps = {"change": (0.0, change), "witnessed": (1.0, witnessed), "still": (0.0, still)}
    maps |= {"missing": (0.0, 0.0), "at_rest": (0.0, 0.0), "believed": (1.0, 1.0)}
    out = {name: np.full(images.shape[:3], elsewhere, np.float32) for name, (elsewhere, _) in maps.items()}
    for name, (_, value) in maps.items():
        out[name][where] = value
    return SecondLook(**out)


def test_second_look_adds_what_other_frames_do_not_show() -> None:
    images, masks = _clip(1.5, 40, 40, 2.0)
    # A poster that goes with the wall behind it: only what is said of its place can make it a mover.
    poster, colours = np.zeros_like(masks), _texture(40, 24, (60, 60, 170), 3).astype(np.uint8)
    for t in range(FRAMES):
        left = 120 - round(1.5 * t)
        images[t, 10:50, left : left + 24] = colours
        poster[t, 10:50, left : left + 24] = True
    evidence = motion_evidence(images, _flows(images))
    assert (dynamic_probability(images, evidence)[poster] > 0.5).mean() < 0.05
    look = _look(images, 1.0, 1.0, 0.0, np.nonzero(poster))
    found = dynamic_probability(images, look.added_to(evidence, evidence), look)
    assert (found[poster] > 0.5).mean() > 0.9
    # Where nobody sees the place, nothing that is said of it counts.
    look = _look(images, 1.0, 0.0, 0.0, np.nonzero(poster))
    look.change[masks] = 1.0
    unseen = dynamic_probability(images, look.added_to(evidence, evidence), look)
    assert (unseen[poster] > 0.5).mean() < 0.05
    assert _iou(unseen, masks) > 0.8


def test_evidence_measured_anew_by_a_sharper_depth() -> None:
    """A near board that a two-dimensional background takes for a mover altogether, and its depth once it is known."""
    images, masks, rigid = _two_depths()
    flows = _flows(images)
    before = motion_evidence(images, flows)
    ticks = []
    anew = motion_evidence(images, flows, rigid, lambda: ticks.append(1), before=before)
    assert len(ticks) == FRAMES
    assert anew.regions is before.regions
    board = (rigid.depth < 3) & ~masks
    coarse, sharp = (dynamic_probability(images, evidence) > 0.5 for evidence in (before, anew))
    assert coarse[board].mean() > 0.85
    assert sharp[board].mean() < 0.02
    assert min(coarse[masks].mean(), sharp[masks].mean()) > 0.85


def test_a_pixel_at_rest_is_static_amid_a_mover() -> None:
    """A gap between arm and body: its superpixels go with the mover, its own pixels do not."""
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    gap = np.zeros_like(masks)
    for t in range(FRAMES):
        rows, columns = np.nonzero(masks[t])
        row, column = int(rows.mean()), int(columns.mean())
        gap[t, row - 6 : row + 6, column - 6 : column + 6] = True
    assert masks[gap].all()

    def moves(at_rest: float) -> np.ndarray:
        look = _look(images, 1.0, 1.0, 0.0, np.nonzero(masks))
        look.at_rest[gap] = at_rest
        return dynamic_probability(images, look.added_to(evidence, evidence), look) > 0.5

    without, little, entirely = moves(0.0), moves(0.2), moves(1.0)
    assert without[gap].mean() > 0.95
    assert little[gap].mean() > 0.95
    assert entirely[gap].mean() < 0.1
    assert entirely[masks & ~gap].mean() > 0.85


def test_that_stereo_matched_it_excuses_no_superpixel() -> None:
    """A mover that the camera follows is matched at one depth as well."""
    images, _ = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    looks = (_look(images, 0.0, 1.0, still, np.s_[:, :]) for still in (1.0, 0.0))
    matched, unmatched = (fuse(look.added_to(evidence, evidence)) for look in looks)
    np.testing.assert_array_equal(matched[0], unmatched[0])
    np.testing.assert_array_equal(matched[1], unmatched[1])


def test_what_nothing_sure_speaks_of_stands_still() -> None:
    """The same cues for motion, by flow that leads home and by flow that does not."""
    images, masks = _clip(1.5, 40, 40, 2.0)
    evidence = motion_evidence(images, _flows(images))
    guessed = dataclasses.replace(evidence, flow_trust=0.02 * evidence.flow_trust, change_weight=0 * evidence.change)
    sure, doubtful = fuse(evidence)[0], fuse(guessed)[0]
    inside = _of_each(evidence.regions, masks) > 0.9
    assert np.median(sure[inside]) > 2 * MOVES[1]
    assert np.quantile(doubtful[inside], 0.95) < SOME
    unknown = dataclasses.replace(guessed, flow_trust=0 * evidence.flow_trust)
    value, confidence = fuse(unknown)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose(confidence, STATIC_PRIOR)
