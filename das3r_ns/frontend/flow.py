"""Dense optical flow between frames, computed once and shared by every step that needs motion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.pairs import Pair

if TYPE_CHECKING:
    import torch

AGREEMENT = 1.0
"""Pixels by which a flow may miss its start on the way back and still count as right."""

FAILED_SHARE = 0.3
"""A pair with a smaller share of agreeing pixels has failed."""


@dataclass
class PairFlows:
    """Flow fields of directed pairs, all at one resolution (H x W)."""

    height: int
    width: int
    num_frames: int
    fields: dict[Pair, Float[np.ndarray, "H W 2"]]
    """Displacement (x, y) in pixels of this resolution, float16 to halve the memory; read through :meth:`flow`."""
    texture: Float[np.ndarray, "N H W"]
    """How well the picture pins the flow down in every direction: grey levels of :func:`picture_texture`, float16."""

    @property
    def pairs(self) -> list[Pair]:
        """The directed pairs there are, sorted."""
        return sorted(self.fields)

    def section(self, frames: range) -> PairFlows:
        """The flows within a run of frames, which are counted from its first one; the fields are shared, not copied."""
        fields = {
            (i - frames.start, j - frames.start): field
            for (i, j), field in self.fields.items()
            if i in frames and j in frames
        }
        return PairFlows(self.height, self.width, len(frames), fields, self.texture[frames.start : frames.stop])

    def flow(self, i: int, j: int) -> Float[np.ndarray, "H W 2"]:
        """Displacement from frame i to frame j, float32 pixels."""
        return self.fields[i, j].astype(np.float32)

    def backward_error(self, i: int, j: int, step: int = 1) -> Float[np.ndarray, "h w"]:
        """Distance in pixels by which following i -> j -> i misses the start; inf where the flow leaves the frame.

        Needs the mirror pair (j, i).

        Args:
            i: Frame the flow starts from.
            j: Frame it leads to.
            step: Look at every so many rows and columns only.
        """
        sample = np.s_[::step, ::step]
        forward = self.fields[i, j][sample].astype(np.float32)
        x, y = (axis[sample] for axis in pixel_grid(self.height, self.width))
        tx, ty = x + forward[..., 0], y + forward[..., 1]
        back = cv2.remap(self.flow(j, i), tx, ty, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error = cv2.magnitude(forward[..., 0] + back[..., 0], forward[..., 1] + back[..., 1])
        error[(tx < 0) | (ty < 0) | (tx > self.width - 1) | (ty > self.height - 1)] = np.inf
        return error


def pixel_grid(height: int, width: int) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Integer column and row of every pixel, float32, as OpenCV's ``remap`` counts them (first pixel at 0)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def picture_texture(grey: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Grey levels per pixel by which the picture changes along its least changing direction, within 7 x 7 pixels.

    The root of the smaller eigenvalue of the mean structure tensor (Shi and Tomasi, CVPR 1994): near zero on plain
    ground and along straight edges, where optical flow is a guess.
    """
    eigenvalue = cv2.cornerMinEigenVal(grey, blockSize=7, ksize=3)
    # A ramp of 1 grey level a pixel has the eigenvalue (2 / 255)^2 in OpenCV's scaling of 8-bit pictures.
    return (np.sqrt(np.maximum(eigenvalue, 0.0)) * (255 / 2)).astype(np.float16)


def pick_flow(device: torch.device) -> tuple[Callable[..., PairFlows], str]:
    """The best optical flow at hand: RAFT where there is a GPU and its weights were downloaded, else DIS.

    On a CPU RAFT takes seconds for a pair, and there are hundreds.

    Args:
        device: Where to work.

    Returns:
        A function like :func:`dis_flow`, and what it is called.
    """
    if device.type == "cuda":
        from das3r_ns.frontend.raft import load_raft, raft_flow, raft_weights

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
    with ThreadPoolExecutor(max_workers=2) as pool:
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
    sift = cv2.SIFT.create(1500)
    keys_i, descriptors_i = sift.detectAndCompute(source, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    keys_j, descriptors_j = sift.detectAndCompute(target, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if len(keys_i) < 8 or len(keys_j) < 8:
        return None
    candidates = cv2.BFMatcher().knnMatch(descriptors_i, descriptors_j, k=2)
    # Lowe's ratio test (IJCV 2004, section 7.1).
    matches = [best for best, second in candidates if best.distance < 0.8 * second.distance]
    if len(matches) < 20:
        return None
    points_i = np.array([keys_i[m.queryIdx].pt for m in matches], dtype=np.float32)
    points_j = np.array([keys_j[m.trainIdx].pt for m in matches], dtype=np.float32)
    cv2.setRNGSeed(0)
    # The bound is wide because a scene with depth obeys no homography exactly, and a start is all that is wanted.
    homography, inliers = cv2.findHomography(points_i, points_j, cv2.RANSAC, 0.02 * max(source.shape))
    if homography is None or inliers.sum() < 12 or abs(np.linalg.det(homography)) < 1e-6:
        return None
    return homography
