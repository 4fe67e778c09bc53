"""The front end from a video to a cached SceneEstimate."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns import __version__
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.choice import FRONT_ENDS, Choice, choose_front_end, other_choices, result_key
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.fixed import SIDE, find_fixed
from das3r_ns.frontend.frames import find_frames
from das3r_ns.frontend.known.colmap import check_pycolmap, register
from das3r_ns.frontend.known.knowledge import Knowledge, Known, find_knowledge, lens_message
from das3r_ns.frontend.known.registered import hold
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.signs import signs_of
from das3r_ns.frontend.undistorted import as_pinhole
from das3r_ns.frontend.verdict import judge
from das3r_ns.frontend.windows import AT_ONCE
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.video.clip import MIN_SIDE, Clip, working_size
from das3r_ns.video.selection import listed

LEAST_ACROSS = 18
"""Shorter side, in pixels, of the pictures for optical flow: in narrower ones there is no room for its patches."""


def load_or_estimate(
    data: Path, config: FrontEndConfig, progress: Progress | None = None, require_cache: bool = False
) -> PreparedScene:
    """The scene estimate of a video: from the cache, or computed and stored there.

    Args:
        data: Folder of images or video file.
        config: Settings of the front end.
        progress: Where to report; to stderr if None.
        require_cache: Fail instead of computing anything.

    Returns:
        What is in the cache, also in the run that computed it.

    Raises:
        Das3rError: The video or a setting is unusable, the disk is full, or nothing is cached although it must be.
    """
    progress = progress or Progress()
    if config.long_side < 2 * MIN_SIDE:
        raise Das3rError(
            f"A long side of {config.long_side} pixels is too small (--long-side): take 512, or 256 at least."
        )
    clip = find_frames(data, config, progress)
    _check_shape(clip, config)
    knowledge = find_knowledge(clip, config)
    clip = knowledge.clip
    for message in [] if require_cache else knowledge.messages:
        progress.say(message)
    choice = choose_front_end(config, progress, may_download=not require_cache)
    roots = cache.cache_roots(clip.path)
    choices = [choice, *(other_choices(choice, config, roots) if require_cache else [])]
    entry = _find(roots, knowledge, choices, progress)
    if entry is None and knowledge.refines and (require_cache or not _can_refine(config, progress)):
        knowledge = knowledge.unrefined()
        entry = _find(roots, knowledge, choices, progress)
    if entry is not None:
        progress.say(f"Front end: read from {entry.directory}.")
    elif require_cache:
        raise Das3rError(
            f"No result of the front end for {data} with these settings is stored in {roots[0]} or {roots[1]}, and "
            "computing it anew would give other cameras than the checkpoint was trained with. Put the video and its "
            f"{cache.FOLDER} folder back as they were, or train again."
        )
    else:
        entry = _compute(knowledge, choice, roots, progress)
    scene = PreparedScene(data, entry, clip)
    if scene.verdict is not None and not require_cache:
        progress.say(scene.verdict.message)
    return scene


def _check_shape(clip: Clip, config: FrontEndConfig) -> None:
    """Refuse strips so narrow that nothing is left across where optical flow works."""
    side = min(config.long_side, SIDE, max(clip.size))
    across = min(working_size(clip.size, side))
    if across < LEAST_ACROSS:
        raise Das3rError(
            f"The frames of {clip.path} are {clip.size[0]} x {clip.size[1]} pixels: with {side} along the longer side, "
            f"as optical flow has them, {across} are left across, where {LEAST_ACROSS} are needed. Cut the video to a "
            f"less extreme shape{', or take a larger --long-side' if config.long_side < SIDE else ''}."
        )


def _find(
    roots: list[Path], knowledge: Knowledge, choices: list[Choice], progress: Progress
) -> cache.CacheEntry | None:
    found = (cache.find_entry(roots, result_key(knowledge, choice), progress.say) for choice in choices)
    return next((entry for entry in found if entry is not None), None)


def _can_refine(config: FrontEndConfig, progress: Progress) -> bool:
    from das3r_ns.frontend.sam2 import unavailable

    reason = unavailable(config.sam2_model)
    if reason is not None:
        progress.say(f"Masks are not refined with SAM 2: {reason}.")
    return reason is None


def _compute(knowledge: Knowledge, choice: Choice, roots: list[Path], progress: Progress) -> cache.CacheEntry:
    """Run the front end; for COLMAP's cameras once with its own, which are stored too, and once with COLMAP's."""
    own = None
    if knowledge.config.cameras == "colmap":
        check_pycolmap()
    progress.say(choice.message)
    for remark in knowledge.clip.remarks:
        progress.say(remark)
    root = cache.writable_root(roots)
    if root != roots[0]:
        progress.say(f"{roots[0]} cannot be written; results are kept in {root}.")
    if knowledge.config.cameras == "colmap":
        first = knowledge.with_own_cameras()
        own = _find(roots, first, [choice], progress) or _estimate(first, choice, root, progress)
    entry = _estimate(knowledge, choice, root, progress, own)
    progress.print_seconds()
    return entry


def _estimate(
    knowledge: Knowledge, choice: Choice, root: Path, progress: Progress, own: cache.CacheEntry | None = None
) -> cache.CacheEntry:
    """Run the front end and store its result.

    Args:
        knowledge: What the user knows and wants.
        choice: Which front end.
        root: Folder to store in.
        progress: Where to report.
        own: The same with our own cameras, where COLMAP's are to take their place.
    """
    config = knowledge.config
    knowledge = knowledge if own is None else knowledge.with_lens(own.estimate.lens)
    shutter = None if own is None else own.estimate.shutter
    clip = as_pinhole(knowledge.clip, knowledge.lens, shutter)
    names = clip.names
    size = working_size(knowledge.clip.size, config.long_side)
    cache.check_space(root, cache.estimate_bytes(len(names), size[1], size[0]))
    with progress.stage("Decoding frames", len(names)) as advance:
        images = clip.working_images(config.long_side, advance)
    if clip.lost:
        progress.say(f"{clip.path} is damaged: frames that cannot be decoded are left out ({listed(clip.lost)}).")
        names = [name for index, name in zip(clip.indices, names, strict=True) if index not in clip.lost]
    known = _with_fixed(knowledge.load(names, size, progress.say), images, config, progress)
    times = np.array([float(i) for i in clip.indices if i not in clip.lost])
    known = dataclasses.replace(known, times=times, readout=known.readout if shutter is None else 0.0)
    if own is not None:
        registered = register(clip, own.estimate.not_static, knowledge.known_focal, root, progress)
        known = hold(known, registered, own.estimate, clip.size, progress.say)
        known = dataclasses.replace(known, undistorted=True)
    front_end = FRONT_ENDS[choice.name]
    if own is not None and known.c2w_cv is None:
        estimate = own.estimate
    else:
        module = importlib.import_module(front_end.module)
        path = config.checkpoint if choice.checkpoint is None else str(choice.checkpoint)
        settings = dataclasses.replace(config, checkpoint=path)
        estimate: SceneEstimate = module.estimate(images, names, settings, progress, known, clip.original_images)
    if knowledge.lens is not None:
        estimate = dataclasses.replace(estimate, lens=knowledge.lens)
    elif estimate.lens is not None:  # the front end has found it, and looked at pictures undistorted by itself
        lens = estimate.lens.at(clip.size)
        estimate = dataclasses.replace(estimate, lens=lens)
        progress.say(lens_message(lens))
        images = lens.at(size).undistorted(images, cv2.INTER_CUBIC)
        if known.fixed is not None:
            fixed = lens.at(size).undistorted_picture(known.fixed.astype(np.float32)) >= 0.5
            known = dataclasses.replace(known, fixed=fixed)
    if config.readout and shutter is None and estimate.shutter is None:
        progress.say(
            f"--readout is not used: only 'geometric' looks at it, where it finds how a camera moves, in {AT_ONCE} "
            "frames at most."
        )
    if shutter is not None:
        estimate = dataclasses.replace(estimate, shutter=shutter)
    elif estimate.shutter is not None:  # likewise
        images = estimate.shutter.level_pictures(images, cv2.INTER_CUBIC)
        known = dataclasses.replace(known, fixed=estimate.fixed)
    estimate = dataclasses.replace(estimate, fixed=known.fixed)
    provenance = {
        **estimate.provenance,
        "front_end": choice.name,
        "front_end_version": front_end.version,
        "checkpoint": choice.identity,
        "das3r_version": __version__,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()},
        **({"known": known.provenance} if known.provenance else {}),
        **({} if known.fixed is None else {"fixed_share": round(float(known.fixed.mean()), 4)}),
        "seconds": {stage: round(seconds, 2) for stage, seconds in progress.seconds.items()},
        "messages": list(progress.messages),
    }
    estimate = dataclasses.replace(estimate, provenance=provenance)
    provenance["verdict"] = judge(signs_of(estimate)).record()
    if knowledge.refines and not estimate.provenance.get("refined"):
        knowledge = knowledge.unrefined()  # SAM 2 did not load after all
    key = result_key(knowledge, choice)
    folder = cache.store_entry(root, key, estimate, images, clip.fps, knowledge.clip.size)
    del estimate, images, known  # a long video's would lie in memory twice
    return cache.load_entry(folder, key)


def _with_fixed(
    known: Known, images: UInt8[np.ndarray, "N H W 3"], config: FrontEndConfig, progress: Progress
) -> Known:
    """What is known, and what is fixed to the camera, found where the user has not said it."""
    if config.fixed_mask is None:
        with progress.stage("What is fixed to the camera"):
            known = dataclasses.replace(known, fixed=find_fixed(images))
    if known.fixed is not None:
        wrong = " If that is wrong, give a picture of it (--fixed-mask), black where nothing is fixed."
        progress.say(
            f"{100 * known.fixed.mean():.1f} % of the picture is fixed to the camera (a bonnet, a logo, a clock): it "
            f"is left out of cameras and training, and does not count as moving.{'' if config.fixed_mask else wrong}"
        )
    return known
