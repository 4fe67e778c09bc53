"""Dense optical flow between frames, by DIS or by RAFT."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.pair_flows import AGREEMENT, PairFlows, picture_texture, pixel_grid
from das3r_ns.frontend.pairs import Pair
from das3r_ns.video.sift import distinct_matches, find_keypoints
from das3r_ns.workers import workers

if TYPE_CHECKING:
    import torch

KEYPOINTS = 1500
"""Of either picture of a pair that has failed."""

FAILED_SHARE = 0.3
"""A pair with a smaller share of agreeing pixels has failed."""


def pick_flow(device: torch.device) -> tuple[Callable[..., PairFlows], str]:
    """The best optical flow at hand: RAFT where there is a GPU and its weights were downloaded, else DIS.

    On a CPU RAFT takes seconds for a pair, and there are hundreds.

    Args:
        device: Where to work.

    Returns:
        A function like :func:`dis_flow`, and what it is called.
    """
    if device.type == "cuda":
        from das3r_ns.frontend.geometric.raft import load_raft, raft_flow, raft_weights

        path = raft_weights()
        if path is not None:
            return partial(raft_flow, load_raft(path, device)), "RAFT"
    return dis_flow, "DIS"


def dis_flow(
    images: UInt8[np.ndarray, "N H W 3"], pairs: Iterable[Pair], on_pair: Callable[[], None] = lambda: None
) -> PairFlows:
    """Dense inverse search flow (Kroeger et al., ECCV 2016; OpenCV's MEDIUM preset) of the given pairs.

    Long strides start from two flows of half the stride put end to end, where those are asked for too: a displacement
    that is beyond the reach of one search is not beyond that of two. Neighbouring frames whose flows disagree with each
    other almost everywhere (a fast camera, frames left out) start from a homography between matched features.

    Args:
        images: RGB frames.
        pairs: Directed pairs (i, j).
        on_pair: Called after each finished pair, for progress bars.

    Returns:
        The flow of each pair at the resolution of ``images``.
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    texture = np.stack([picture_texture(picture) for picture in grey])
    flows = PairFlows(images.shape[1], images.shape[2], len(images), {}, texture)

    def one(pair: Pair) -> tuple[Pair, Float[np.ndarray, "H W 2"]]:
        field = _solve_pair(grey[pair[0]], grey[pair[1]], _chained(flows, pair))
        on_pair()
        return pair, field.astype(np.float16)

    # Threads, because DIS releases the interpreter lock; stride by stride, because long ones start from short ones.
    with ThreadPoolExecutor(max_workers=workers(locked=0.17)) as pool:
        for _, group in groupby(sorted(pairs, key=_stride), key=_stride):
            stage = list(group)
            flows.fields.update(pool.map(one, stage))
            for i, j in stage:
                if i < j and (j, i) in flows.fields and not _chainable(flows, (i, j)):
                    _rescue(flows, grey, (i, j))
    return flows


def _stride(pair: Pair) -> int:
    return abs(pair[1] - pair[0])


def _halves(pair: Pair) -> tuple[Pair, Pair]:
    """The two pairs by way of the frame half-way (none at stride 1, where one of them is the pair itself)."""
    middle = (pair[0] + pair[1]) // 2
    return (pair[0], middle), (middle, pair[1])


def _chainable(flows: PairFlows, pair: Pair) -> bool:
    return _stride(pair) > 1 and all(half in flows.fields for half in _halves(pair))


def _solve_pair(
    source: UInt8[np.ndarray, "H W"], target: UInt8[np.ndarray, "H W"], start: Float[np.ndarray, "H W 2"] | None
) -> Float[np.ndarray, "H W 2"]:
    # A DIS object keeps its buffers, so each call gets its own: two threads never share one.
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return solver.calc(source, target, start)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _chained(flows: PairFlows, pair: Pair) -> Float[np.ndarray, "H W 2"] | None:
    """The flow by way of the frame half-way, or None where that is not known."""
    if not _chainable(flows, pair):
        return None
    first, second = _halves(pair)
    step = flows.flow(*first)
    x, y = pixel_grid(flows.height, flows.width)
    rest = cv2.remap(
        flows.flow(*second), x + step[..., 0], y + step[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return step + rest


def _rescue(flows: PairFlows, grey: list[UInt8[np.ndarray, "H W"]], pair: Pair) -> None:
    """Solve a failed pair again, both ways, from a homography between matched features; keep it if it agrees better."""
    i, j = pair
    share = float((flows.backward_error(i, j) < AGREEMENT).mean())
    if share >= FAILED_SHARE:
        return
    homography = _matched_homography(grey[i], grey[j])
    if homography is None:
        return
    old = flows.fields[i, j], flows.fields[j, i]
    grid = np.stack(pixel_grid(flows.height, flows.width), axis=-1).reshape(-1, 1, 2)
    for source, target, matrix in ((i, j, homography), (j, i, np.linalg.inv(homography))):
        start = (cv2.perspectiveTransform(grid, matrix) - grid).reshape(flows.height, flows.width, 2)
        # A point near the horizon of the homography would start the search at infinity.
        start = np.clip(start, -2 * flows.width, 2 * flows.width)
        flows.fields[source, target] = _solve_pair(grey[source], grey[target], start).astype(np.float16)
    if float((flows.backward_error(i, j) < AGREEMENT).mean()) <= share:
        flows.fields[i, j], flows.fields[j, i] = old


def _matched_homography(
    source: UInt8[np.ndarray, "H W"], target: UInt8[np.ndarray, "H W"]
) -> Float[np.ndarray, "3 3"] | None:
    """Homography from source to target pixels that most SIFT matches obey, None where there is none."""
    (here, these), (there, those) = (find_keypoints(picture, KEYPOINTS) for picture in (source, target))
    first, second = distinct_matches(these, those)
    if len(first) < 20:
        return None
    points_i, points_j = here[first], there[second]
    cv2.setRNGSeed(0)
    # The bound is wide because a scene with depth obeys no homography exactly, and a start is all that is wanted.
    homography, inliers = cv2.findHomography(points_i, points_j, cv2.RANSAC, 0.02 * max(source.shape))
    if homography is None or inliers.sum() < 12 or abs(np.linalg.det(homography)) < 1e-6:
        return None
    return homography
