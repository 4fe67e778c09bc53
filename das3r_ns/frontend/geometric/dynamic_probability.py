"""From motion evidence to the dynamic probability of every pixel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix, diags
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import cg

from das3r_ns.frontend.geometric.motion import EvidenceMaps, SecondLook
from das3r_ns.frontend.geometric.motion.objects import objects
from das3r_ns.workers import workers

MOTION_ALONE = 0.6
"""What motion that no colour confirms counts for: on plain ground optical flow drags the surroundings of a mover."""

CHANGE_CONFIDENCE = 0.7
"""What the colours of all other frames together are worth against those of the near ones under the flow."""

STATIC_PRIOR = 0.2
"""Confidence in that a superpixel stands still before anything is known of it, against 1 where both flow and colours
speak: what nothing sure speaks of does not move."""

LOOK_WEIGHT = 0.5
"""What a pixel at an object that moves counts for against its superpixel, where it differs from what other frames show
behind it."""

SPATIAL_STRENGTH = 2.0
TEMPORAL_STRENGTH = 12.0

SOME = 0.125
"""Evidence from which superpixels that touch, or that flow carries onto one another, are parts of one object."""

REACH = 2
"""Rings of superpixels around an object that may be part of it."""

MOVES = (0.15, 0.2)
"""Evidence in the middle of an object from which it begins to move, and surely does. It is of one scale in every clip:
what still scenes show by noise and doubtful depth stays in patches that hardly exceed :data:`SOME`."""

ON_TRIPOD = 0.8
"""What of both is enough before a camera that stands still: no depth is in doubt there."""

BAND = (0.2, 0.5, 0.65)
"""Relative evidence from which a pixel is undecided, more likely moving than not, and surely moving."""

MIN_COMPONENT = 0.2
"""Parts of a frame's mask smaller than this share of its largest one are left out."""

EDGE_BLUR = 0.8
"""Standard deviation, in pixels, of the soft edge of the dynamic probability."""


COLOUR_STEP, LEAST_COLOURS = 2, 20
"""Every so many rows and columns GrabCut learns the colours from, and pixels of either side that it takes at least."""

BESIDE = 8
"""Pixels around what is undecided among which the cut is made."""


@dataclass(frozen=True)
class Ruled:
    """What the rules make of the evidence of a clip."""

    value: Float[np.ndarray, " S"]
    """Evidence of motion of each superpixel, smoothed, 0 to 1."""
    confidence: Float[np.ndarray, " S"]
    """What is known of it, before smoothing."""
    certain: Float[np.ndarray, " S"]
    """How certainly the object moves that it is part of or close to."""
    relative: Float[np.ndarray, "N h w"]
    """Relative evidence of every pixel, float32, 0 static to 1 moving and more; 0.5 is the decision."""


def dynamic_probability(
    images: UInt8[np.ndarray, "N H W 3"], evidence: EvidenceMaps, look: SecondLook | None = None
) -> Float[np.ndarray, "N H W"]:
    """Dynamic probability of every pixel of a clip by the rules, from optical flow and colours alone.

    Args:
        images: RGB frames at the working resolution.
        evidence: What speaks for and against motion, at its own (smaller) resolution.
        look: What the depth of the static world says besides of every pixel, at that resolution, where it has been
            measured; the evidence has to know of it (:meth:`~das3r_ns.frontend.geometric.motion.SecondLook.added_to`).

    Returns:
        Probability that what the pixel shows moves, float32; 0.5 is the decision, and edges follow the image.
    """
    return probability_of(images, by_rules(evidence, look).relative, look is None)


def by_rules(evidence: EvidenceMaps, look: SecondLook | None = None) -> Ruled:
    """Weigh, smooth and rescale the evidence of a clip.

    Args:
        evidence: As of :func:`dynamic_probability`.
        look: Likewise.
    """
    value, confidence = fuse(evidence)
    value = smooth(evidence, value, confidence)
    relative, certain = relative_evidence(evidence, value)
    regions = evidence.regions

    def one(t: int) -> Float[np.ndarray, "h w"]:
        small = relative[regions.labels[t]].astype(np.float32)
        if look is not None:
            # No change proves nothing: a slow mover of one colour leaves itself behind.
            more = np.maximum(look.change[t] - small, 0.0)
            near = certain[regions.labels[t]].astype(np.float32)
            small += LOOK_WEIGHT * look.witnessed[t] * more * near
            small *= 1.0 + look.missing[t] * near
            # A gap between arm and body lies amid superpixels that move, and hardly any other frame may see its place.
            at_rest = look.at_rest[t] if look.gone is None else look.at_rest[t] * (1.0 - look.gone[t])
            if evidence.covers is not None:
                at_rest = at_rest * (1.0 - evidence.covers[regions.labels[t]])
            small *= 1.0 - at_rest
        return small

    return Ruled(value, confidence, certain, np.stack([one(t) for t in range(len(regions.labels))]))


def probability_of(
    images: UInt8[np.ndarray, "N H W 3"], relative: Float[np.ndarray, "N h w"], by_colours: bool
) -> Float[np.ndarray, "N H W"]:
    """Dynamic probability at the working resolution.

    Args:
        images: RGB frames there.
        relative: Relative evidence of every pixel, at its own (smaller) resolution.
        by_colours: Move the edges to where the colours change. Where every pixel has spoken for itself, GrabCut would
            only move them away again.
    """

    def one(t: int) -> Float[np.ndarray, "H W"]:
        size = (images.shape[2], images.shape[1])
        here = cv2.resize(relative[t], size, interpolation=cv2.INTER_LINEAR)
        mask = segment_frame(images[t], here) if by_colours else drop_specks(here)
        return soften(mask, here)

    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        return np.stack(list(pool.map(one, range(len(images)))))


def moving_superpixels(evidence: EvidenceMaps) -> Float[np.ndarray, " S"]:
    """How surely each superpixel is part of something that moves, 0 where it is more likely static."""
    relative, _ = relative_evidence(evidence, smooth(evidence, *fuse(evidence)))
    return np.where(relative > BAND[1], np.minimum(relative, 1.0), 0.0)


def fuse(evidence: EvidenceMaps) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Weigh the cues of each superpixel by what they are worth there.

    Where the picture has texture, its colours tell motion from a static world by themselves, and sharply. Elsewhere the
    flow has to do, for less. What looks different in nearly all other frames moves too, unless good flow says that it
    does not; that needs no flow of its own, so it speaks where fast movers and the ends of the clip leave none. Before
    a camera on a tripod, what looks like the median image of the clip hardly moves, and what does not may be a mover
    that has stopped; before one that travels, it is what other frames look past. What nothing sure is known of stands
    still.

    That stereo has matched a superpixel at one depth is no further witness: flow and colours have been measured against
    that depth, and a mover that the camera follows is matched too.

    Returns:
        Evidence of motion, 0 to 1, and the confidence in it.
    """
    weight = evidence.colour_weight
    value = weight * evidence.colour + (1 - weight) * MOTION_ALONE * evidence.moved
    # Flow that agrees with a static world is proof enough of it, texture or not.
    confidence = (weight + (1 - weight) * (1 - evidence.motion)) * evidence.flow_trust
    # Once stereo has measured what lies behind, flow has no say in that: a slow mover's leads home to itself.
    doubt = 0.0 if evidence.looks_behind else evidence.static_by_flow
    change = evidence.change * (1 - doubt)
    # Colours that agree prove nothing where a mover would leave them as they are.
    known = CHANGE_CONFIDENCE * evidence.change_weight * np.maximum(weight * evidence.flow_trust, evidence.change)
    value = (confidence * value + known * change) / np.maximum(confidence + known, 1e-6)
    confidence = confidence + known
    if evidence.plate is not None:
        value = value * np.sqrt(evidence.plate)
        confidence = confidence * (1 - evidence.plate * (1 - value))
    for sure in (evidence.gone, evidence.covers):  # whatever flow and colours say, which agree with one depth there
        if sure is not None:
            value = value + (1 - value) * sure
            confidence = np.maximum(confidence, sure)
    return value * confidence / (confidence + STATIC_PRIOR), confidence + STATIC_PRIOR


def smooth(
    evidence: EvidenceMaps, value: Float[np.ndarray, " S"], confidence: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """Evidence that varies little between superpixels that look alike and move together, in space and time.

    Minimises sum c (x - u)^2 + sum w (x_i - x_j)^2 over the whole clip, a sparse linear system.
    """
    regions = evidence.regions
    distance = _colour_distance(regions.colour, regions.edges)
    typical = float(distance.sum()) / max(len(distance), 1)  # noise may be one superpixel a frame, without neighbours
    likeness = np.exp(-distance / max(typical, 1e-6) - 2 * evidence.boundary)
    spatial = SPATIAL_STRENGTH * np.sqrt(regions.edge_length) / 4 * likeness
    temporal = evidence.link_share * np.exp(-_colour_distance(regions.colour, evidence.links) / 200)
    first, second = np.concatenate([regions.edges, evidence.links]).T
    weights = np.concatenate([spatial, TEMPORAL_STRENGTH * temporal])
    graph = coo_matrix((weights, (first, second)), shape=(regions.count, regions.count)).tocsr()
    system = (diags(confidence) + laplacian(graph + graph.T)).tocsr()
    solution, _ = cg(
        system, confidence * value, x0=value, rtol=1e-4, maxiter=300, M=diags(1 / np.maximum(system.diagonal(), 1e-9))
    )
    return np.clip(solution, 0, 1)


def _colour_distance(colour: Float[np.ndarray, "S 3"], edges: Int[np.ndarray, "E 2"]) -> Float[np.ndarray, " E"]:
    return ((colour[edges[:, 0]] - colour[edges[:, 1]]) ** 2).sum(axis=1)


def relative_evidence(
    evidence: EvidenceMaps, value: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Rescale so that what is static lies at 0 and what moves at 1, object by object.

    Whether an object moves is decided on the scale that all clips share, by what it shows over all frames together; how
    far it reaches, by what most of it shows: a slow or plain mover leaves less evidence than another, all over.

    Args:
        evidence: Of the clip.
        value: Its smoothed evidence of motion.

    Returns:
        Evidence relative to the object that a superpixel is part of or close to, and how certainly that moves, 0 to 1.
    """
    enough = 1.0 if evidence.plate is None else ON_TRIPOD
    if evidence.looks_behind:
        count, label = objects(value, evidence.touching, enough * SOME)
    else:  # the depth by flow errs in large places, which would be mountains of their own
        count, label = evidence.together(value > enough * SOME)
    middle, most = (_quantile_of_each(value, evidence.regions.size, label, count, share) for share in (0.5, 0.8))
    begins, surely = (enough * bound for bound in MOVES)
    certain = np.clip((middle - begins) / (surely - begins), 0, 1)
    certain, scale = certain[label], (certain / np.maximum(most, 2 * enough * SOME))[label]
    # What lies next to an object may be a limb of it that shows less.
    first, second = np.concatenate([evidence.regions.edges, evidence.regions.edges[:, ::-1]]).T
    for _ in range(REACH):
        free = certain[second] == 0
        for of_each in (certain, scale):
            reached = of_each.copy()
            np.maximum.at(reached, second[free], of_each[first[free]])
            of_each[:] = reached
    return value * scale, certain


def _quantile_of_each(
    value: Float[np.ndarray, " S"],
    weight: Float[np.ndarray, " S"],
    label: Int[np.ndarray, " S"],
    count: int,
    share: float,
) -> Float[np.ndarray, " count"]:
    """Weighted quantile of the values of each of ``count`` labels, none of which is empty."""
    order = np.lexsort((value, label))
    total = np.bincount(label, weight, count)
    passed = np.cumsum(weight[order]) >= (np.cumsum(total) - (1 - share) * total)[label[order]] - 1e-6
    _, first = np.unique(label[order][passed], return_index=True)
    return value[order][passed][first]


def segment_frame(image: UInt8[np.ndarray, "H W 3"], relative: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The mask of one frame, its edge moved to where the colours change (GrabCut; Rother et al., SIGGRAPH 2004).

    Only what is nearly undecided may change; a wide band would let the colours carry away whole objects. Colours are
    learned from a part of the pixels, and the cut is made where something is undecided.

    Args:
        image: RGB.
        relative: Relative evidence, 0 static to 1 moving.
    """
    undecided, likely, sure = BAND
    mask = drop_specks(relative)
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    labels[(relative >= undecided) & (relative <= likely)] = cv2.GC_PR_BGD
    labels[mask] = cv2.GC_PR_FGD
    labels[mask & (relative > sure)] = cv2.GC_FGD
    coarse = np.ascontiguousarray(labels[::COLOUR_STEP, ::COLOUR_STEP])
    if min(np.count_nonzero(coarse & 1), np.count_nonzero(~coarse & 1)) < LEAST_COLOURS:
        return mask
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(image[..., ::-1])
    colours = np.zeros((1, 65)), np.zeros((1, 65))
    few = np.ascontiguousarray(bgr[::COLOUR_STEP, ::COLOUR_STEP])
    _grab_cut(few, coarse, colours, cv2.GC_INIT_WITH_MASK)
    rows, columns = (np.flatnonzero((labels >= cv2.GC_PR_BGD).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return mask
    part = tuple(slice(max(int(at[0]) - BESIDE, 0), int(at[-1]) + 1 + BESIDE) for at in (rows, columns))
    decided = np.ascontiguousarray(labels[part])
    _grab_cut(np.ascontiguousarray(bgr[part]), decided, colours, cv2.GC_EVAL_FREEZE_MODEL)
    labels[part] = decided
    return (labels & 1).astype(bool)


def _grab_cut(
    bgr: UInt8[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    colours: tuple[Float[np.ndarray, "1 65"], Float[np.ndarray, "1 65"]],
    mode: int,
) -> None:
    """One round of GrabCut on labels and the colours of background and foreground, in place."""
    cv2.grabCut(bgr, labels, None, *colours, 1, mode)  # pyright: ignore[reportCallIssue, reportArgumentType]


def soften(mask: Bool[np.ndarray, "H W"], relative: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Dynamic probability with the decision of a mask, as certain as the evidence is.

    What the colours alone have put on one side of an edge (a gap between arm and body, say) stays near 0.5, where
    training can still make up its mind.

    Args:
        mask: What moves.
        relative: Relative evidence, 0 static to 1 moving.
    """
    decided = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), EDGE_BLUR) - 0.5
    undecided, _, sure = BAND
    moving = np.clip((relative - undecided) / (sure - undecided), 0, 1)
    return 0.5 + decided * np.where(decided > 0, moving, 1 - moving)


def drop_specks(relative: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The mask of one frame, without parts that are small against the largest and nowhere sure.

    Args:
        relative: Relative evidence, 0 static to 1 moving.
    """
    _, likely, sure = BAND
    mask = relative > likely
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA]
    keep = area >= MIN_COMPONENT * area[1:].max()
    keep[labels[relative > sure]] = True
    keep[0] = False
    return keep[labels]
