"""Compiled loops over pairs of frames, against what numpy and OpenCV make of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric import pair_kernels as kernels
from das3r_ns.frontend.geometric.pair_flows import PairFlows

HEIGHT, WIDTH = 23, 37


def flow_field(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 9, (HEIGHT, WIDTH, 2)).astype(np.float16)


def test_every_number_of_half_precision_is_widened_exactly() -> None:
    half = np.arange(1 << 16, dtype=np.uint16)
    numbers = half.view(np.float16)
    real = ~np.isnan(numbers)
    found = kernels.widened(half.reshape(256, -1, 2)).ravel()
    np.testing.assert_array_equal(found[real], numbers[real].astype(np.float32))
    assert np.signbit(found[0x8000])


@pytest.mark.parametrize("step", [1, 4])
def test_flow_there_and_back(step: int) -> None:
    there, back = flow_field(0), flow_field(1)
    flows = PairFlows(HEIGHT, WIDTH, 2, {(0, 1): there, (1, 0): back}, np.zeros((2, HEIGHT, WIDTH), np.float16))
    np.testing.assert_array_equal(flows.flow(0, 1), there.astype(np.float32))
    rows, columns = np.mgrid[:HEIGHT:step, :WIDTH:step].astype(np.float32)
    there = there[::step, ::step].astype(np.float32)
    x, y = columns + there[..., 0], rows + there[..., 1]
    again = cv2.remap(back.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    expected = np.linalg.norm(there + again, axis=-1)
    expected[(x < 0) | (y < 0) | (x > WIDTH - 1) | (y > HEIGHT - 1)] = np.inf
    assert 0 < np.isinf(expected).sum() < expected.size
    np.testing.assert_allclose(flows.backward_error(0, 1, step), expected, rtol=1e-5)


def test_flow_of_another_order_in_memory_and_precision_is_read_too() -> None:
    turned = np.ascontiguousarray(flow_field(2).transpose(2, 0, 1)).transpose(1, 2, 0)
    exact = flow_field(3).astype(np.float64)
    flows = PairFlows(HEIGHT, WIDTH, 2, {(0, 1): turned, (1, 0): exact}, np.zeros((2, HEIGHT, WIDTH), np.float16))
    np.testing.assert_array_equal(flows.flow(0, 1), turned.astype(np.float32))
    np.testing.assert_array_equal(flows.flow(1, 0), exact.astype(np.float32))


def test_trust_and_tolerance() -> None:
    flow = flow_field(4).astype(np.float32)
    error = np.abs(np.random.default_rng(5).normal(0, 2, (HEIGHT, WIDTH))).astype(np.float32)
    error[0, 0] = np.inf
    length = np.linalg.norm(flow, axis=-1)
    expected = 1 / (1 + (np.minimum(error, 99) / (0.5 + 0.05 * length)) ** 2)
    np.testing.assert_allclose(kernels.trust(flow, error), expected, rtol=1e-5)
    tolerance, square = kernels.tolerances(flow, error, 0.02)
    np.testing.assert_allclose(tolerance, 0.5 + 0.02 * length, rtol=1e-5)
    np.testing.assert_allclose(square, np.minimum((error / tolerance) ** 2, 50), rtol=1e-5)
    np.testing.assert_allclose(kernels.significance(flow, 0.7), length / (length + 2.4), rtol=1e-5)


def test_colours_differ_by_as_much_as_is_counted() -> None:
    rng = np.random.default_rng(6)
    warped, here = rng.uniform(0, 60, (2, HEIGHT, WIDTH, 3)).astype(np.float32)
    x, y = rng.uniform(-3, 40, (2, HEIGHT, WIDTH)).astype(np.float32)
    error, inside = kernels.differences(warped, here, x, y, 60.0)
    np.testing.assert_allclose(error, np.minimum(np.abs(warped - here).sum(axis=-1), 60), rtol=1e-5)
    np.testing.assert_array_equal(inside, (x >= 0) & (y >= 0) & (x <= WIDTH - 1) & (y <= HEIGHT - 1))


def test_means_and_sums() -> None:
    rng = np.random.default_rng(7)
    values, weights = rng.random((2, 3, HEIGHT, WIDTH)).astype(np.float32)
    expected = (values * weights).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(kernels.weighted_mean(values, weights), expected, rtol=1e-6)
    labels = rng.integers(0, 9, (HEIGHT, WIDTH), dtype=np.int32)
    sums = np.bincount(labels.ravel(), weights=values[0].ravel(), minlength=11)
    np.testing.assert_array_equal(kernels.region_sums(labels.ravel(), values[0].ravel(), 11), sums)


@pytest.mark.parametrize(("count", "share"), [(1, 0.1), (10, 0.1), (6, 0.6)])
def test_the_quantile_of_what_is_known(count: int, share: float) -> None:
    rng = np.random.default_rng(count)
    values = rng.random((count, HEIGHT, WIDTH)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.inf
    values[:, 0, 0] = np.inf
    found, known = kernels.lower_quantile(values, share)
    np.testing.assert_array_equal(known, np.isfinite(values).sum(axis=0))
    assert (known == 0).any()
    ordered = np.sort(values, axis=0)
    index = np.rint(share * np.maximum(known - 1, 0)).astype(int)
    expected = np.where(known > 0, np.take_along_axis(ordered, index[None], axis=0)[0], 0.0)
    np.testing.assert_array_equal(found, expected)
