"""The plane sweep and semi-global matching against plain references."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.stereo_kernels import best_levels, matching_costs, packed, semi_global_costs


def shifted_rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources that see a point of inverse depth d shifted by d * (m + 1) pixels to the right."""
    offsets = np.zeros((count, 3), np.float32)
    offsets[:, 0] = np.arange(count) + 1
    return np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)), offsets


@pytest.mark.parametrize("count", [1, 3, 6])
def test_costs_are_those_of_the_better_half_of_the_sources(count: int) -> None:
    rng = np.random.default_rng(count)
    image = rng.integers(0, 50, (7, 12, 3), dtype=np.uint8)
    pictures = rng.integers(0, 50, (count + 2, 7, 12, 3), dtype=np.uint8)
    others = np.array([0, *range(2, count + 1)])  # and not those of the frames in between
    everywhere = rng.random((count + 2, 7, 12)) > 0.2
    sources, usable = pictures[others].astype(np.float32), everywhere[others]
    levels = np.array([0.0, 0.3, 0.75, 1.5], np.float32)
    limit = 60.0
    found = matching_costs(image, packed(pictures, everywhere), others, *shifted_rays(count), levels, limit)

    def errors_at(row: int, col: int, level: float) -> list[float]:
        """Of the sources that see the point, least first."""
        errors = []
        for m in range(count):
            u = col + level * (m + 1)
            if u >= 11 or not usable[m, row, int(u)]:
                continue
            at = np.array([[u]], np.float32), np.array([[row]], np.float32)
            sample = cv2.remap(sources[m], *at, cv2.INTER_LINEAR)[0, 0]
            errors.append(min(float(np.abs(sample - image[row, col].astype(float)).sum()), limit))
        return sorted(errors)

    for row, col in itertools.product(range(6), range(12)):
        seen = [errors_at(row, col, level) for level in levels]
        better = [float(np.mean(errors[: 2 if len(errors) < 5 else 3])) for errors in seen if len(errors) > 1]
        rest = float(np.mean(better)) if better else limit
        for k, errors in enumerate(seen):
            expected = np.mean([*errors, rest, rest][: 2 if len(errors) < 5 else 3])
            # remap works in steps of 1/32 pixel.
            assert found[row, col, k] == pytest.approx(expected, abs=4.0)
    assert (found[-1] == limit).all()  # the last row has no neighbour to interpolate with


def test_a_point_in_the_plane_of_a_source_has_no_sample_there() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    words = packed(image[None], np.ones((1, 4, 6), bool))
    rays, offsets = np.eye(3, dtype=np.float32)[None], np.array([[0.0, 0.0, -1.0]], np.float32)
    levels = np.array([0.0, 1.0, 2.0], np.float32)  # z there is 1, 0 and -1
    costs = matching_costs(image, words, np.array([0]), rays, offsets, levels, 60.0)
    np.testing.assert_allclose(costs[:3, :5], np.broadcast_to([30.0, 60.0, 60.0], (3, 5, 3)))


def test_one_path_is_the_optimum_of_dynamic_programming() -> None:
    """In a picture of one row two directions run along it, and six see single pixels."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 10, (1, 5, 4)).astype(np.float32)
    guide = rng.uniform(0, 40, (1, 5, 3)).astype(np.float32)
    step, jump, edge = 1.5, 6.0, 30.0
    found = semi_global_costs(costs, guide, step, jump, edge)

    def change(a: int, b: int, x: int, y: int) -> float:
        if a == b:
            return 0.0
        penalty = max(jump * np.exp(-np.abs(guide[0, x] - guide[0, y]).sum() / edge), step)
        return float(min(penalty, step) if abs(a - b) == 1 else penalty)

    def least(x: int, level: int, direction: int) -> float:
        """Cheapest path that starts at the border and ends in pixel x, without the constant that keeps it bounded."""
        before = range(x) if direction > 0 else range(4, x, -1)
        way = [*before, x]
        return min(
            sum(costs[0, p, k] for p, k in zip(way, (*chosen, level), strict=True))
            + sum(
                change(a, b, p, q)
                for a, b, p, q in zip((*chosen, level), (*chosen, level)[1:], way, way[1:], strict=False)
            )
            for chosen in itertools.product(range(4), repeat=len(way) - 1)
        )

    for x in range(5):
        expected = np.array(
            [(6 * costs[0, x, k] + least(x, k, 1) + least(x, k, -1)) / 8 for k in range(4)], dtype=np.float64
        )
        np.testing.assert_allclose(found[0, x] - found[0, x].min(), expected - expected.min(), atol=1e-4)


def test_a_pixel_without_texture_takes_the_depth_of_its_surface() -> None:
    costs = np.full((5, 5, 6), 8.0, np.float32)
    costs[..., 3] = 0.0
    costs[2, 2] = 4.0
    guide = np.zeros((5, 5, 3), np.float32)
    total = semi_global_costs(costs, guide, 1.0, 5.0, 30.0)
    assert total[2, 2].argmin() == 3


def test_the_best_level_is_refined_by_a_parabola() -> None:
    levels = np.arange(9)
    total = ((levels - 4.3) ** 2)[None, None].astype(np.float32)
    position, margin, misfit = best_levels(total, np.arange(9, dtype=np.float32)[None, None])
    assert position[0, 0] == pytest.approx(4.3, abs=1e-5)
    assert margin[0, 0] == pytest.approx((7 - 4.3) ** 2 - 0.3**2, abs=1e-4)
    assert misfit[0, 0] == 4.0


def test_with_few_levels_there_is_no_other_to_be_worse_and_no_number_is_no_end() -> None:
    total = np.array([[[3.0, 1.0, 2.0], [np.nan] * 3]], np.float32)
    position, margin, _ = best_levels(total, np.zeros_like(total))
    assert position[0, 0] == pytest.approx(1.0 + 0.5 / 3)
    assert margin[0, 0] == np.inf
    assert 0 <= position[0, 1] < 3 or np.isnan(position[0, 1])
