"""Superpixels of a clip: segmentation, reductions over them, and their graph in space and time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix
from skimage.segmentation import slic

from das3r_ns.frontend.geometric import pair_kernels as kernels
from das3r_ns.frontend.geometric.motion.pair_evidence import flow_trust
from das3r_ns.frontend.geometric.pair_flows import PairFlows

REGION_AREA = 50
"""Mean area of a superpixel, in pixels of the flow's resolution; twice as large ones lose limbs and far-off movers."""

COMPACTNESS = 15.0

MIN_LANDING_SHARE = 0.1
"""A superpixel is linked to those of a later frame on which at least this share of it lands."""

MIN_LINK_TRUST = 0.4
"""What a link counts for whose flow does not lead back. Most such flow is of ground dragged along by a mover, and links
that ground to other ground."""


@dataclass
class Superpixels:
    """Superpixels of a whole clip, numbered through: those of frame 0 first, then those of frame 1, and so on."""

    labels: Int[np.ndarray, "N H W"]
    """Superpixel of each pixel."""
    frame: Int[np.ndarray, " S"]
    """Frame each superpixel lies in."""
    size: Float[np.ndarray, " S"]
    """Number of its pixels."""
    colour: Float[np.ndarray, "S 3"]
    """Mean colour, 8-bit Lab."""
    border: Bool[np.ndarray, " S"]
    """Whether it touches the edge of the picture."""
    edges: Int[np.ndarray, "E 2"]
    """Neighbours in the same frame, each once, the smaller number first."""
    edge_length: Float[np.ndarray, " E"]
    """Length of their common boundary, in pixels."""

    @property
    def count(self) -> int:
        """Number of superpixels S in the clip."""
        return len(self.size)

    def mean(self, values: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, " S"]:
        """Mean of a map of the clip over each superpixel."""
        return region_sum(self.labels, values, self.count) / self.size

    def span(self, frame: int) -> slice:
        """The superpixels of one frame, as a slice of the clip's numbering."""
        first, last = np.searchsorted(self.frame, (frame, frame + 1))
        return slice(int(first), int(last))


def region_sum(
    labels: Int[np.ndarray, "*shape"], values: Float[np.ndarray, "*shape"], count: int
) -> Float[np.ndarray, " count"]:
    """Sum of ``values`` over each of ``count`` labels."""
    return kernels.region_sums(labels.ravel(), values.ravel(), count)


def _touching(labels: Int[np.ndarray, "H W"]) -> tuple[Int[np.ndarray, " P"], Bool[np.ndarray, " Q"]]:
    """A number for the two labels of each pixel side between different ones, and which of all the sides those are."""
    a = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()]).astype(np.int64)
    b = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()]).astype(np.int64)
    touching = a != b
    base = int(labels.max()) + 1
    return np.minimum(a, b)[touching] * base + np.maximum(a, b)[touching], touching


def adjacency(labels: Int[np.ndarray, "H W"]) -> tuple[Int[np.ndarray, "E 2"], Float[np.ndarray, " E"]]:
    """Different labels that touch (4-neighbourhood), the smaller first, and how many pixel sides each pair shares."""
    keys, length = np.unique(_touching(labels)[0], return_counts=True)
    base = int(labels.max()) + 1
    return np.stack([keys // base, keys % base], axis=1), length.astype(np.float64)


def boundary_mean(
    labels: Int[np.ndarray, "H W"], values: Float[np.ndarray, "H W"], edges: Int[np.ndarray, "E 2"]
) -> Float[np.ndarray, " E"]:
    """Mean of a map along the common boundary of neighbours.

    Args:
        labels: Superpixels of one frame.
        values: The map, of the same shape.
        edges: All neighbours, in the order of :func:`adjacency`.
    """
    keys, touching = _touching(labels)
    sides = np.concatenate([(values[:, :-1] + values[:, 1:]).ravel(), (values[:-1] + values[1:]).ravel()]) / 2
    index = np.searchsorted(edges[:, 0] * (int(labels.max()) + 1) + edges[:, 1], keys)
    total = np.bincount(index, weights=sides[touching], minlength=len(edges))
    return total / np.bincount(index, minlength=len(edges))


def segment_frame(image: UInt8[np.ndarray, "H W 3"]) -> Int[np.ndarray, "H W"]:
    """SLIC superpixels (Achanta et al., TPAMI 2012) of one RGB image, numbered from 0 without gaps."""
    wanted = max(1, image.shape[0] * image.shape[1] // REGION_AREA)
    labels = slic(image, wanted, compactness=COMPACTNESS, max_num_iter=5, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def build_superpixels(images: UInt8[np.ndarray, "N H W 3"], labels: Int[np.ndarray, "N H W"]) -> Superpixels:
    """Sizes, colours and neighbours of the superpixels of a clip.

    Args:
        images: RGB frames.
        labels: Per frame, labels from 0 without gaps (:func:`segment_frame`).

    Returns:
        The superpixels, numbered through over the clip.
    """
    per_frame = labels.reshape(len(labels), -1).max(axis=1) + 1
    first = np.concatenate([[0], np.cumsum(per_frame)])
    numbered = (labels + first[:-1, None, None]).astype(np.int32)
    count = int(first[-1])
    size = np.bincount(numbered.ravel(), minlength=count).astype(np.float64)
    lab = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in images]).astype(np.float32)
    colour = np.stack([region_sum(numbered, lab[..., c], count) for c in range(3)], axis=1) / size[:, None]
    border = np.zeros(count, bool)
    for side in (numbered[:, 0], numbered[:, -1], numbered[:, :, 0], numbered[:, :, -1]):
        border[side.ravel()] = True
    found = [adjacency(frame) for frame in numbered]
    return Superpixels(
        labels=numbered,
        frame=np.repeat(np.arange(len(labels)), per_frame),
        size=size,
        colour=colour,
        border=border,
        edges=np.concatenate([edges for edges, _ in found]),
        edge_length=np.concatenate([length for _, length in found]),
    )


def temporal_links(
    regions: Superpixels, flows: PairFlows, strides: tuple[int, ...]
) -> tuple[Int[np.ndarray, "L 2"], Float[np.ndarray, " L"]]:
    """Superpixels of different frames that the flow carries onto one another.

    Args:
        regions: Superpixels of the clip.
        flows: Flow of the pairs (t, t + stride) and their mirrors.
        strides: Distances of the frames to be linked.

    Returns:
        Pairs (superpixel of frame t, superpixel of frame t + stride), and the share of the first that lands on the
        second, less where the flow cannot be trusted.
    """
    links, shares = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    rows, columns = np.mgrid[: flows.height, : flows.width]
    for i, j in [(t, t + s) for s in strides for t in range(flows.num_frames - s)]:
        flow = flows.flow(i, j)
        trust = MIN_LINK_TRUST + (1 - MIN_LINK_TRUST) * flow_trust(flow, flows.backward_error(i, j))
        x, y = np.rint(columns + flow[..., 0]).astype(int), np.rint(rows + flow[..., 1]).astype(int)
        inside = (x >= 0) & (x < flows.width) & (y >= 0) & (y < flows.height)
        span_i, span_j = regions.span(i), regions.span(j)
        source = regions.labels[i][inside] - span_i.start
        target = regions.labels[j][y[inside], x[inside]] - span_j.start
        shape = (span_i.stop - span_i.start, span_j.stop - span_j.start)
        landed = coo_matrix((trust[inside], (source, target)), shape).tocsr().tocoo()  # sums what lands together
        pairs = np.stack([landed.row + span_i.start, landed.col + span_j.start], axis=1).astype(np.int64)
        share = landed.data / regions.size[pairs[:, 0]]
        links.append(pairs[share > MIN_LANDING_SHARE])
        shares.append(share[share > MIN_LANDING_SHARE])
    return np.concatenate(links), np.concatenate(shares)
