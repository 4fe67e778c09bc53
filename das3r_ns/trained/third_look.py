"""A third look at what moves: by the trained scene, which has seen every static place from many frames.

After training, static things that the masks took in some frames are rendered as they are in the frames, and movers that
the masks missed in some are not. Both is decided region by region: a pixel may look like another thing by chance, and
at the edges of things no two pictures agree. Where no other frame shows the scene, it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.dynamic_probability import drop_specks, smooth, soften
from das3r_ns.frontend.geometric.estimate import FLOW_LONG_SIDE, shrink
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.motion.frame_cues import COLOUR_NOISE, STRIDES
from das3r_ns.frontend.geometric.motion.look_behind import mean_around
from das3r_ns.frontend.known.knowledge import static_weight
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.cache import read_frame
from das3r_ns.trained.scene import TrainedScene
from das3r_ns.workers import workers

ASKED = 40
"""Other frames at most, evenly over the clip, that are asked whether they show the scene at a place."""

SAME_DEPTH = 0.1
"""Relative difference up to which two rendered depths are of one surface."""

ENOUGH = 2.0
"""Frames that have to show the scene at a place for its word to count in full."""

SHIFT = 2
"""Pixels, at the resolution of the flow, by which the render may lie beside the frame without that it differs."""

MOST = 0.7
"""Share of the static pixels of a frame by which it is judged what static surroundings show at most."""

FAR_OFF = 2.0
"""Residual, in units of what static surroundings show, that counts half for another thing."""

ALONE = 3.0
"""How fast the word of what looks like the scene falls as what is around it differs."""

LIMB = 0.03
"""Distance from what moves, as a share of the longer side, at which a pixel that differs is a part of it."""

PRIOR = 0.2
"""What the word of the front end is worth against that of the scene where it is sure."""


@dataclass(frozen=True)
class SceneViews:
    """The trained scene beside the frames, at one resolution."""

    images: UInt8[np.ndarray, "N h w 3"]
    """The frames, RGB."""
    renders: UInt8[np.ndarray, "N h w 3"]
    """The static scene at their cameras."""
    accumulation: Float[np.ndarray, "N h w"]
    """How much of a pixel the splats cover, 0 to 1."""
    depth: Float[np.ndarray, "N h w"]
    """Rendered camera z; positive."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """In pixels of this resolution."""
    c2w_cv: Float[np.ndarray, "N 4 4"]
    """As training has refined them."""


def look_by_scene(scene: TrainedScene, progress: Progress) -> PreparedScene:
    """The video with the masks that a trained scene implies; all else as the front end has it.

    Args:
        scene: The run.
        progress: Where to report.
    """
    estimate, count = scene.video.estimate, scene.num_frames
    images = np.stack([read_frame(path) for path in scene.video.image_paths])
    with progress.stage("Rendering the scene", count) as advance:
        views = views_of(scene, images, advance)
    with progress.stage("Third look", 2 * count) as advance:
        dynamic = third_look(views, estimate.not_static, advance)
    if estimate.fixed is not None:
        dynamic = np.where(estimate.fixed, np.float32(0), dynamic)
    marked = [100 * float((maps >= MOVES).mean()) for maps in (estimate.dynamic_probability, dynamic)]
    progress.say(f"Marked as moving: {marked[0]:.1f} % of the video by the front end, {marked[1]:.1f} % by the scene.")
    provenance = {**estimate.provenance, "third_look": {"scene": scene.name, "marked_percent": marked}}
    looked_at = replace(estimate, dynamic_probability=dynamic, provenance=provenance)
    return replace(scene.video, entry=replace(scene.video.entry, estimate=looked_at))


def views_of(
    scene: TrainedScene, images: UInt8[np.ndarray, "N H W 3"], on_frame: Callable[[], None] = lambda: None
) -> SceneViews:
    """Render every frame of a run, for flow to be computed beside it.

    Args:
        scene: The run.
        images: Its frames at the working resolution.
        on_frame: Called after each frame, for progress bars.
    """
    small = shrink(images, FLOW_LONG_SIDE)
    size = (small.shape[2], small.shape[1])
    renders, accumulation, depth = [], [], []
    for frame in range(scene.num_frames):
        outputs = scene.render_at_working_size(frame)
        picture = cv2.resize(outputs["rgb"], size, interpolation=cv2.INTER_AREA)
        renders.append(np.rint(255 * picture.clip(0, 1)).astype(np.uint8))
        accumulation.append(cv2.resize(outputs["accumulation"], size, interpolation=cv2.INTER_AREA).clip(0, 1))
        depth.append(cv2.resize(outputs["depth"], size, interpolation=cv2.INTER_NEAREST).clip(geo.MIN_DEPTH))
        on_frame()
    return SceneViews(
        small, np.stack(renders), np.stack(accumulation), np.stack(depth), scene.intrinsics(size), scene.c2w_cv()
    )


def third_look(
    views: SceneViews,
    dynamic: Float[np.ndarray, "N H W"],
    on_frame: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "N H W"]:
    """Decide once more what moves, by what the trained scene shows in place of it.

    Args:
        views: The scene and the frames at the resolution of the flow.
        dynamic: Dynamic probability that the scene was trained with, at the working resolution.
        on_frame: Called twice for each frame, for progress bars.

    Returns:
        Dynamic probability by the scene, float32; that of before where the scene has nothing to say.
    """
    count, height, width = views.depth.shape
    before = 1.0 - static_weight(dynamic.astype(np.float32), (width, height))
    flows = dis_flow(views.images, strided_pairs(count, STRIDES))
    rigid = RigidPrediction(views.depth, views.accumulation, views.intrinsics, views.c2w_cv)
    evidence = motion_evidence(views.images, flows, rigid, on_frame)

    def one(t: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        said = scene_says(views, before, t)
        on_frame()
        return said

    with ThreadPoolExecutor(max_workers=workers()) as pool:
        differs, worth = (np.stack(maps) for maps in zip(*pool.map(one, range(count)), strict=True))
    prior, moves = regions_move(evidence, before, differs, worth)
    labels = evidence.regions.labels
    return np.stack(
        [_decided(dynamic[t], prior[labels[t]], moves[labels[t]], differs[t], worth[t]) for t in range(count)]
    )


def _decided(
    dynamic: Float[np.ndarray, "H W"],
    prior: Float[np.ndarray, "h w"],
    moves: Float[np.ndarray, "h w"],
    differs: Float[np.ndarray, "h w"],
    worth: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "H W"]:
    """The dynamic probability of a frame: what its regions have become, and at a mover each pixel by itself."""
    size = (dynamic.shape[1], dynamic.shape[0])
    reach = 2 * round(LIMB * max(moves.shape)) + 1
    near = cv2.dilate((moves > 0.5).astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    more, own = (
        cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        for m in (moves - prior, near * worth * differs)
    )
    relative = np.clip(dynamic + more, 0.0, 1.0)
    relative = (relative + np.maximum(own - relative, 0.0)).astype(np.float32)
    return soften(drop_specks(relative), relative)


def scene_says(
    views: SceneViews, before: Float[np.ndarray, "N h w"], frame: int
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """How much a frame differs from the scene, and what that is worth, each 0 to 1.

    A difference counts beyond what the static surroundings show, which is much where cameras are off or the scene is
    blurred, and relative to the contrast of the place, since a wrong place costs most there.
    """
    residual, contrast = differences(views.images[frame], views.renders[frame])
    static = (1.0 - before[frame]) * views.accumulation[frame]
    relative = residual / (COLOUR_NOISE + 0.1 * contrast)
    # What moves unknown to the front end is not to be taken for its own surroundings.
    most = float(np.quantile(relative[static > 0.5], MOST)) if (static > 0.5).any() else 0.0
    usual = mean_around(np.minimum(relative, most), static)
    off = (relative / (0.5 + usual) / FAR_OFF) ** 2
    differs = off / (off + 1)
    seen = witnessed(views, before, frame) * views.accumulation[frame]
    # What looks like the scene may be a mover of its colour, unless it has a texture to be told by.
    distinct = contrast / (contrast + 2 * COLOUR_NOISE)
    # And what looks like the scene amid what does not is a part of it that does so by chance.
    beside = mean_around(differs, np.maximum(before[frame], differs))
    return differs, seen * (differs + (1 - differs) * distinct * (1 - beside) ** ALONE)


def differences(
    image: UInt8[np.ndarray, "h w 3"], render: UInt8[np.ndarray, "h w 3"]
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Colour of a frame outside what the render has about the place, and the contrast about it; grey levels, summed
    over L, a and b."""
    lab = [
        cv2.cvtColor(cv2.GaussianBlur(picture, (3, 3), 0), cv2.COLOR_RGB2LAB).astype(np.float32)
        for picture in (image, render)
    ]
    place = np.ones((2 * SHIFT + 1, 2 * SHIFT + 1), np.uint8)
    low, high = ([op(picture, place) for picture in lab] for op in (cv2.erode, cv2.dilate))
    beyond = np.maximum(np.maximum(lab[0] - high[1], low[1] - lab[0]), 0.0).sum(axis=-1)
    missing = np.maximum(np.maximum(lab[1] - high[0], low[0] - lab[1]), 0.0).sum(axis=-1)
    contrast = np.maximum(high[0] - low[0], high[1] - low[1]).sum(axis=-1)
    return np.maximum(beyond, missing), contrast


def witnessed(views: SceneViews, before: Float[np.ndarray, "N h w"], frame: int) -> Float[np.ndarray, "h w"]:
    """Whether enough other frames show the scene, and nothing that moves before it, where a frame would; 0 to 1."""
    count, height, width = views.depth.shape
    centres = geo.pixel_centres(height, width)
    points = geo.unproject(centres, views.depth[frame], views.intrinsics[frame])
    seen = np.zeros((height, width), np.float32)
    for other in sorted(set(np.rint(np.linspace(0, count - 1, ASKED)).astype(int).tolist()) - {frame}):
        motion = geo.invert_rigid(views.c2w_cv[other]) @ views.c2w_cv[frame]
        xy, z = geo.project(geo.transform_points(motion, points), views.intrinsics[other])
        x, y = (xy[..., 0] - 0.5).astype(np.float32), (xy[..., 1] - 0.5).astype(np.float32)
        static = cv2.remap((1.0 - before[other]) * views.accumulation[other], x, y, cv2.INTER_LINEAR)
        there = cv2.remap(views.depth[other].astype(np.float32), x, y, cv2.INTER_NEAREST)
        seen += np.where((z > 0) & (np.abs(there - z) < SAME_DEPTH * z), static, 0.0)
    return np.minimum(seen / ENOUGH, 1.0)


def regions_move(
    evidence: EvidenceMaps,
    before: Float[np.ndarray, "N h w"],
    differs: Float[np.ndarray, "N h w"],
    worth: Float[np.ndarray, "N h w"],
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """How surely each superpixel moves: as the front end had it, and as the scene has it, over space and time."""
    regions = evidence.regions
    weight = regions.mean(worth)
    value = regions.mean(differs * worth) / np.maximum(weight, 1e-6)
    prior = regions.mean(before)
    confidence = weight + PRIOR
    return prior, smooth(evidence, (weight * value + PRIOR * prior) / confidence, confidence)
