"""What covers what: a thing that stands still never hides one that is nearer.

A mover that walks along the camera's path, as steadily as that, looks like something still that is farther away: flow
and stereo agree on one depth for it. But it hides the ground that it walks on, which is nearer than that. Little of it
does, and speaks for all of it that hangs together at its depth.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix, diags
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import cg

from das3r_ns.frontend.geometric.motion import covering_kernels, look_behind_kernels
from das3r_ns.frontend.geometric.motion.evidence import EvidenceMaps, blurred_lab
from das3r_ns.frontend.geometric.motion.frame_cues import COLOUR_NOISE
from das3r_ns.frontend.geometric.motion.look_behind import AGREEMENT, FAR, SHARE, asked, into
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction
from das3r_ns.workers import workers

MARGIN = 0.15
"""Relative difference in inverse depth from which one surface is nearer than another."""

ENOUGH = 0.3
"""Confidence of a depth that counts in full; likewise the sum of it over the frames before, and over those after, that
see what is covered."""

EDGE = 5
"""Side, in pixels, of what surrounds a pixel, all of which has to be nearer to hide what lies there."""

LEAST = 3
"""Side, in pixels, of the smallest place that covers anything: an edge of the depth errs by a pixel or two."""

NOISE = (0.0005, 0.05)
"""Shares of what is seen of a static thing, and of what is hidden of it, up to which more may seem to cover what is
nearer, by errors of the depth; ten and thirty times what three still films show. That something is hidden proves
nothing else, for movers are too."""

LAYER = 0.1
"""Relative difference in inverse depth at which neighbours hardly hang together any more."""

HOLD = (20.0, 100.0)
"""How strongly superpixels of one layer hold together, per root of a pixel of their common edge, and by a link in time;
in pixels that cover, or are hidden as they should be. What speaks of a layer is found anywhere on its rim."""

DOUBT = (0.1, 0.5)
"""Shares of what speaks of a layer from which it is believed to move, and surely does."""

AMOUNT = (25.0, 75.0)
"""Pixels that cover, of a layer in all frames together, from which it begins to count, and fully does: depth that errs
in one place covers a few (at most 18 in three still films)."""


def covering(
    images: UInt8[np.ndarray, "N H W 3"],
    matched: RigidPrediction,
    static_weight: Float[np.ndarray, "N H W"],
    evidence: EvidenceMaps,
) -> Float[np.ndarray, " S"]:
    """How surely each superpixel is part of something that hides what is nearer than it seems to be, 0 to 1.

    Args:
        images: RGB frames at the resolution of ``matched``.
        matched: Cameras and depth by stereo, movers and all.
        static_weight: Probability that each pixel is static, as far as is known: what moves is no witness.
        evidence: Of the clip: its superpixels, their links, and where flow is to be trusted.
    """
    covers, hidden = covers_and_hidden(images, matched, static_weight)
    share = of_layers(evidence, matched, covers, hidden)
    amount = _together(evidence, share > DOUBT[0], evidence.regions.mean(covers) * evidence.regions.size)
    believed, enough = (
        np.clip((value - low) / (high - low), 0.0, 1.0) for value, (low, high) in ((share, DOUBT), (amount, AMOUNT))
    )
    return believed * enough


def covers_and_hidden(
    images: UInt8[np.ndarray, "N H W 3"], matched: RigidPrediction, static_weight: Float[np.ndarray, "N H W"]
) -> tuple[Float[np.ndarray, "N H W"], Float[np.ndarray, "N H W"]]:
    """What each pixel does to nearer surfaces, and they to it, as far as its own depth is measured.

    Frames both before and after have to see what is covered: what leaves for good, or comes to stay, uncovers or covers
    what stands still.

    Args:
        images: As of :func:`covering`.
        matched: Likewise.
        static_weight: Likewise.

    Returns:
        covers: How surely the pixel hides a surface that is nearer, as nothing static does, 0 to 1.
        hidden: In what share of other frames something nearer hides what the pixel shows, as it should be.
    """
    lab = np.stack(blurred_lab(images))
    inverse_depth = (1.0 / matched.depth).astype(np.float32)
    farthest = np.stack([cv2.erode(frame, np.ones((EDGE, EDGE), np.uint8)) for frame in inverse_depth])
    trust = (matched.reliability * np.clip(2.0 * static_weight - 1.0, 0.0, 1.0)).astype(np.float32)
    far = FAR * float(np.median(inverse_depth))
    place = np.ones((LEAST, LEAST), np.uint8)

    def one(t: int) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        others = asked(t, len(images))
        nearer, _ = look_behind_kernels.inverse_depth_from_others(
            inverse_depth[others], trust[others], *into(matched, others, t), SHARE, AGREEMENT, far
        )
        covers, hidden = covering_kernels.covers_nearer(
            lab[t],
            inverse_depth[t],
            nearer,
            lab[others],
            inverse_depth[others],
            farthest[others],
            trust[others],
            others > t,
            *into(matched, t, others),
            AGREEMENT,
            MARGIN,
            far,
            COLOUR_NOISE,
            ENOUGH,
        )
        measured = np.minimum(matched.reliability[t] / ENOUGH, 1.0)
        return cv2.morphologyEx(covers * measured, cv2.MORPH_OPEN, place), hidden * measured

    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        covers, hidden = zip(*pool.map(one, range(len(images))), strict=True)
    return np.stack(covers), np.stack(hidden)


def of_layers(
    evidence: EvidenceMaps,
    matched: RigidPrediction,
    covers: Float[np.ndarray, "N H W"],
    hidden: Float[np.ndarray, "N H W"],
) -> Float[np.ndarray, " S"]:
    """Share of what speaks of a layer that says that it covers what is nearer.

    A layer is what hangs together at one depth, in a frame and along the flow. It has no sharp bounds: what its parts
    show is handed on as far as they hold together, by a sparse linear system over the whole clip.

    Args:
        evidence: As of :func:`covering`.
        matched: Likewise.
        covers: Of :func:`covers_and_hidden`.
        hidden: Likewise.
    """
    regions = evidence.regions
    inverse_depth = 1.0 / matched.depth
    far = FAR * float(np.median(inverse_depth))
    weight = np.maximum(matched.reliability, 1e-3)
    depth = regions.mean(inverse_depth * weight) / regions.mean(weight)
    scale = LAYER * np.maximum(depth, far)
    # What lies across an edge has the depth of neither side, and would join the two.
    across = regions.mean(np.abs(inverse_depth - depth[regions.labels])) / (0.5 * scale)
    sure = np.minimum(regions.mean(matched.reliability) / ENOUGH, 1.0) * evidence.flow_trust * np.exp(-(across**2))

    def alike(pairs: Int[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
        a, b = pairs.T
        step = (depth[a] - depth[b]) / np.maximum(scale[a], scale[b])
        return np.minimum(sure[a], sure[b]) * np.exp(-(step**2))

    in_space, in_time = HOLD
    hold = np.concatenate(
        [
            in_space * np.sqrt(regions.edge_length) * alike(regions.edges),
            in_time * evidence.link_share * alike(evidence.links),
        ]
    )
    first, second = np.concatenate([regions.edges, evidence.links]).T
    graph = coo_matrix((hold, (first, second)), shape=(regions.count, regions.count)).tocsr()
    speaks = regions.mean(covers) * regions.size
    of_seen, of_hidden = NOISE
    known = speaks + (of_hidden * regions.mean(hidden) + of_seen) * regions.size
    system = (diags(known) + laplacian(graph + graph.T)).tocsr()
    share, _ = cg(system, speaks, rtol=1e-4, maxiter=1000, M=diags(1 / system.diagonal()))
    return np.clip(share, 0, 1)


def _together(
    evidence: EvidenceMaps, member: Bool[np.ndarray, " S"], amount: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """The sum of an amount over all members that touch one another, in a frame or along the flow; 0 elsewhere."""
    count, label = evidence.together(member)
    return np.where(member, np.bincount(label, amount, count)[label], 0.0)
