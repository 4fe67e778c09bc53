"""The front end that needs no trained weights: optical flow, bundle adjustment, motion evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.bundle.adjustment import bundle_adjust
from das3r_ns.frontend.geometric.bundle.departures import Departure
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.decision import decide
from das3r_ns.frontend.geometric.dense_depth import dense_depth
from das3r_ns.frontend.geometric.falloff import falloff_message, lens_falloff
from das3r_ns.frontend.geometric.film import Film, FullSize
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.level import BLURRED, close_in_time, near_bend, near_message, shutter_of
from das3r_ns.frontend.geometric.light import described, evenly_lit, frame_light
from das3r_ns.frontend.geometric.long.windows import Bends, estimate_in_windows
from das3r_ns.frontend.geometric.motion import RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.points.adjustment import ROUNDS as POINT_ROUNDS
from das3r_ns.frontend.geometric.points.adjustment import adjust_on_points
from das3r_ns.frontend.geometric.second_look import ROUNDS, look_again
from das3r_ns.frontend.geometric.stereo import match_frames, resized
from das3r_ns.frontend.geometric.torch_kernels.choice import dense_device, described_device
from das3r_ns.frontend.known.knowledge import Known, static_weight
from das3r_ns.frontend.painted import painted_over
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.frontend.sam2 import refine_masks
from das3r_ns.frontend.windows import AT_ONCE
from das3r_ns.memory import release_memory
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter, rolling_message

if TYPE_CHECKING:
    import torch

FLOW_LONG_SIDE = 427
"""Longer side, in pixels, at which optical flow is computed: DAVIS's 854 halved, where its cost and its blunders are
both small. Cameras are solved and motion is judged at this size; depth and masks then follow the picture's edges."""

STRIDES = (1, 2, 4, 8, 16)
"""Distances in frames between which flow is computed: the short ones show what moves, the long ones have parallax."""


# The linear systems are small and many: BLAS threads wait for each other longer than they work (five times slower).
@threadpool_limits.wrap(limits=1, user_api="blas")
def estimate(
    images: UInt8[np.ndarray, "N H W 3"],
    names: list[str],
    config: FrontEndConfig,
    progress: Progress,
    known: Known | None = None,
    full_size: FullSize | None = None,
) -> SceneEstimate:
    """Cameras, depth and dynamic probability of a video from its optical flow alone.

    More than ``AT_ONCE`` frames are solved in overlapping windows, which are joined.

    Cameras are solved twice: first with robust weights only, which suffices to say what a static world would look like;
    then without what moves. Masks of the user's own leave out what moves from the start; where they alone count, one
    pass is enough. A last adjustment on points makes them exact to a fraction of a pixel of the video, where matches
    held back bear that out. With the cameras settled, stereo measures the depth of what stays, and what moves before it
    shows. A lens that bends is found with the first cameras, with the second where movers hide it from those, or by the
    points where it bends little; then all begins anew with the pictures of a pinhole, or likewise with level pictures
    where the shutter rolls (not looked for in windows), or with both, the lens first. Known cameras stay as they are,
    in their own unit of length.

    Args:
        images: RGB frames at the working resolution, at least two.
        names: Name of each frame.
        config: Settings of the front end.
        progress: Where to report.
        known: What the user knows of the video.
        full_size: Gives the same frames at the size of the video, one after the other; None = ``images`` have it.

    Returns:
        The scene estimate at the resolution of ``images``, or of their pinhole pictures where it has a lens; its
        messages say what the camera did.
    """
    return _estimate(Film(images, names, known or Known(), full_size), config, progress)


def _estimate(film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """:func:`estimate` of a film of any length."""
    if len(film.images) <= AT_ONCE:
        return _estimate_at_once(film, config, progress)
    film = replace(film, known=replace(film.known, readout=0.0))
    try:
        return estimate_in_windows(_estimate_at_once, film, config, progress)
    except Bends as bends:
        return _of_pinhole(bends.lens, film, config, progress)


def _estimate_at_once(film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """:func:`estimate` of as many frames as fit into memory at once."""
    device = dense_device(config.device, config.kernels, progress.say)
    known = film.known
    if known.fixed is not None:
        film = replace(film, images=painted_over(film.images, known.fixed))
    images = film.images
    count, height, width = images.shape[:3]
    pairs = strided_pairs(count, STRIDES)
    flow_images = shrink(images, FLOW_LONG_SIDE)
    with progress.stage("Optical flow", len(pairs)) as advance:
        flows = dis_flow(flow_images, pairs, advance)
    flow_size = (flows.width, flows.height)
    light, falloff = frame_light(flow_images, flows), lens_falloff(flow_images, flows)
    if light is not None:
        progress.say(described(light))
        images, flow_images = evenly_lit(images, light), evenly_lit(flow_images, light)
    cameras = known.bundle_settings(flow_size)
    cameras |= {"times": known.times, "readout": known.readout}
    world = known.fixed_weight(flow_size, count)
    departures: list[Departure] = ["zooms"] if known.undistorted else ["zooms", "bends"]
    if known.readout is None and close_in_time(known):
        departures.append("rolls")
    stays = known.static_weight(flow_size, count)
    with progress.stage("Cameras"):
        first = bundle_adjust(flows, stays, departures=departures, **cameras)
    if first.bend is not None:
        return _straightened(first, flows, stays, film, config, progress)
    if first.readout is not None:
        return _levelled(first, film, config, progress)
    refined, case = False, None
    if known.masks is not None and not known.joins:
        dynamic, result = known.with_masks(known.masks), first
    else:
        with progress.stage("Depth", 2 * count) as advance:
            rigid = _rigid_prediction(first, flows, flow_images, world, advance, device)
        with progress.stage("What moves", count) as advance:
            evidence = motion_evidence(images, flows, rigid, advance)
        case = Case(images, flow_images, flows, evidence, rigid)
        # The head speaks last; what the cameras leave out is found by the rules.
        dynamic = decide(case) if config.refine_masks == "none" else decide(case, config.motion, config.motion_weights)
        dynamic, refined = refine_masks(images, dynamic, config, progress)
        dynamic = known.with_masks(dynamic)
        result = None
    stays = static_weight(known.not_static(dynamic), flow_size)
    if result is None:
        with progress.stage("Cameras"):
            result = bundle_adjust(flows, stays, initial=first, departures=departures, **cameras)
        if result.bend is not None:
            return _straightened(result, flows, stays, film, config, progress)
        if result.readout is not None:
            return _levelled(result, film, config, progress)
    provenance: dict[str, Any] = {}
    if config.points and result.camera_kind == "general" and known.c2w_cv is None:
        with progress.stage("Points", count + POINT_ROUNDS + 2) as advance:
            # What is left of a rolling shutter in level pictures would pass for a slight bend.
            straight = known.undistorted or known.intrinsics is not None or film.filmed is not None
            focal = cameras.get("known_focal")
            points = adjust_on_points(
                result, flows, film.large(), stays, focal, advance, may_bend=not straight, may_focus=not film.part
            )
        progress.say(points.message)
        if points.result.bend is not None:
            return _of_pinhole(_lens_of(points.result, film), film, config, progress)
        result, provenance = points.result, {"points": points.provenance}
    with progress.stage("Depth", 2 * count) as advance:
        depth, confidence = dense_depth(flows, result, images, stays, advance, device)
    intrinsics = geo.resize_intrinsics(result.frame_intrinsics, flow_size, (width, height))
    for message in [*result.messages, *([] if falloff is None else [falloff_message(falloff)])]:
        progress.say(message)
    scene = SceneEstimate(
        frame_names=film.names,
        c2w_cv=result.c2w_cv if known.c2w_cv is None else known.c2w_cv,
        intrinsics=intrinsics if known.intrinsics is None else known.intrinsics,
        depth=(depth * result.unit).astype(np.float32),
        confidence=confidence,
        dynamic_probability=dynamic,
        camera_kind=result.camera_kind,
        light=light,
        falloff=falloff,
        provenance={
            "flow_residual": result.residual,
            "focal_std": result.focal_std,
            "refined": refined,
            "kernels": described_device(device),
            **provenance,
        },
    )
    if config.stereo and result.camera_kind == "general":
        with_stereo = _with_stereo(scene, images, flow_images, flows, case, config, known, progress, device)
        if with_stereo is not None:
            return with_stereo
    if case is None or refined or config.motion == "rules":
        return scene
    dynamic = known.with_masks(decide(case, config.motion, config.motion_weights))
    return replace(scene, dynamic_probability=dynamic)


def _straightened(
    bent: BundleResult,
    flows: PairFlows,
    stays: Float[np.ndarray, "N h w"] | None,
    film: Film,
    config: FrontEndConfig,
    progress: Progress,
) -> SceneEstimate:
    """The estimate of the pinhole pictures of a lens that was found; flow of them takes less than a second a frame.

    Args:
        bent: The cameras with that lens, which points make exact first, where they can.
        flows: What it was found by.
        stays: Probability that each pixel is static, at the resolution of the flow; None = not known.
        film: As it was taken.
        config: Settings of the front end.
        progress: Where to report.
    """
    if config.points:
        with progress.stage("Lens", len(film.images) + POINT_ROUNDS + 2) as advance:
            times = film.known.times
            bent = adjust_on_points(bent, flows, film.large(), stays, on_step=advance, times=times).result
    lens = _lens_of(bent, film)
    if bent.readout is None:
        return _of_pinhole(lens, film, config, progress)
    shutter = replace(shutter_of(bent, film.known.times), view=lens.view)
    return replace(_of_level(shutter, film.straight(lens), config, progress), lens=lens)


def _lens_of(bent: BundleResult, film: Film) -> Lens:
    """The lens that was found with some cameras, at the working resolution."""
    assert bent.bend is not None
    return Lens.central((bent.width, bent.height), bent.focal, *bent.bend).at(film.size)


def _of_pinhole(lens: Lens, film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """The estimate of the pinhole pictures of a lens at the working resolution."""
    # Level pictures of a lens that nobody knew are not quite level: a row of its video is none of a pinhole's.
    return replace(_estimate((film.filmed or film).straight(lens), config, progress), lens=lens)


def _levelled(rolled: BundleResult, film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """The estimate of the pictures that a global shutter would have taken.

    Args:
        rolled: The cameras with the rolling shutter.
        film: As it was taken.
        config: Settings of the front end.
        progress: Where to report.
    """
    return _of_level(shutter_of(rolled, film.known.times), film, config, progress)


def _of_level(shutter: Shutter, film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
    """The estimate of level pictures; of those of pinhole pictures, where a lens is found in them."""
    shutter = replace(shutter, lens=film.lens)
    progress.say(rolling_message(shutter, found=film.known.readout is None))
    level = film.level(shutter)
    scene = _estimate_at_once(level, config, progress)
    if scene.lens is not None:
        return scene  # of the film as it was taken, with a shutter of its own
    bend = near_bend(shutter, scene)
    if scene.camera_kind == "general" and bend > BLURRED:
        progress.say(near_message(bend))
    return replace(scene, shutter=shutter, fixed=level.known.fixed)


def _with_stereo(
    scene: SceneEstimate,
    images: UInt8[np.ndarray, "N H W 3"],
    flow_images: UInt8[np.ndarray, "N h w 3"],
    flows: PairFlows,
    case: Case | None,
    config: FrontEndConfig,
    known: Known,
    progress: Progress,
    device: torch.device | None,
) -> SceneEstimate | None:
    """The scene with its depth from stereo and, by that, a second look at what moves.

    Args:
        scene: Cameras, depth and dynamic probability as optical flow tells them.
        images: RGB frames at the working resolution.
        flow_images: The same at the resolution of the flow.
        flows: Optical flow between them.
        case: What the first look saw; None where the user's masks alone count.
        config: Settings of the front end.
        known: Whose masks may have to be joined in.
        progress: Where to report.
        device: Where the dense loops run in torch; None = in numba, on the CPU.

    Returns:
        None where there is too little parallax for stereo.
    """
    count, flow_size = scene.num_frames, (flow_images.shape[2], flow_images.shape[1])
    dynamic, cameras = scene.dynamic_probability, (scene.intrinsics, scene.c2w_cv)
    world = known.fixed_weight((scene.width, scene.height), count)
    with progress.stage("Stereo", count) as advance:
        certain = world if case is not None else 1.0 - known.not_static(dynamic)
        matches = match_frames(images, *cameras, scene.depth, scene.confidence, certain, advance, device)
    if matches is None:
        return None
    if case is not None and not scene.provenance["refined"]:
        with progress.stage("Depth", count) as advance:
            depth, confidence = matches.depth(world, advance, device)
        matched = RigidPrediction(
            depth=1.0 / resized(1.0 / depth, flow_size),
            reliability=resized(confidence, flow_size),
            intrinsics=geo.resize_intrinsics(scene.intrinsics, (scene.width, scene.height), flow_size),
            c2w_cv=scene.c2w_cv,
        )
        hidden = known.not_static(dynamic)
        release_memory()  # nothing takes more than what follows
        with progress.stage("Second look", ROUNDS * count) as advance:
            dynamic = look_again(
                images,
                flow_images,
                flows,
                case.evidence,
                matched,
                hidden,
                config.stopped,
                advance,
                device,
                config.motion,
                config.motion_weights,
            )
        dynamic = known.with_masks(dynamic)
    with progress.stage("Depth", count) as advance:
        depth, confidence = matches.depth(1.0 - known.not_static(dynamic), advance, device)
    return replace(scene, depth=depth, confidence=confidence, dynamic_probability=dynamic)


def _rigid_prediction(
    bundle: BundleResult,
    flows: PairFlows,
    flow_images: UInt8[np.ndarray, "N H W 3"],
    world: Float[np.ndarray, "N H W"] | None,
    on_frame: Callable[[], None],
    device: torch.device | None,
) -> RigidPrediction:
    """What a static world would look like, at the resolution of the flow."""
    depth, confidence = dense_depth(flows, bundle, flow_images, world, on_frame, device)
    return RigidPrediction(
        depth=depth,
        reliability=confidence,
        intrinsics=bundle.frame_intrinsics,
        c2w_cv=bundle.c2w_cv,
        camera_kind=bundle.camera_kind,
    )


def shrink(images: UInt8[np.ndarray, "N H W 3"], long_side: int) -> UInt8[np.ndarray, "N h w 3"]:
    """The frames with their longer side at most ``long_side``."""
    height, width = images.shape[1:3]
    scale = min(1.0, long_side / max(height, width))
    size = (round(width * scale), round(height * scale))
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
