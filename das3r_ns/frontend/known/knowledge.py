"""What the user knows of a video: masks, a focal, cameras. Every front end takes it from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.cameras import CameraFile, LensFile, read_cameras, read_lens
from das3r_ns.frontend.known.masks import GivenMasks, find_masks, masks_beside, read_fixed, read_masks
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens
from das3r_ns.video.clip import Clip
from das3r_ns.video.image_folder import file_digest
from das3r_ns.video.selection import MIN_FRAMES

FOCAL_RANGE = (0.2, 20.0)
"""Focals over the longer side of the picture that can be meant: fields of view from 136 to 3 degrees."""

COLMAP_VERSION = 1
"""Of how COLMAP is run and what is made of its cameras: raised whenever results change. Part of the cache key."""

MAX_MISSING = 0.1
"""Share of the frames that may be without a known pose; they are left out."""


@dataclass(frozen=True)
class Known:
    """What is known of the N frames, at the working resolution (H x W); what is None is to be found."""

    masks: Float[np.ndarray, "N H W"] | None = None
    """Dynamic probability as given; NaN in frames without a mask."""
    joins: bool = False
    """The masks add to what is found to move, instead of taking its place."""
    intrinsics: Float[np.ndarray, "N 3 3"] | None = None
    """Camera matrices. Without poses all are alike, with square pixels (of the video) and a central principal point."""
    c2w_cv: Float[np.ndarray, "N 4 4"] | None = None
    """Poses in their own unit, the camera frame of frame 0 as world; the intrinsics are known too then."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the working resolution."""
    undistorted: bool = False
    """The frames are known to be pinhole pictures, of a straight lens or undistorted already: no lens is to be found.
    """
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where it comes from; empty where nothing is known."""
    fixed: Bool[np.ndarray, "H W"] | None = None
    """What is fixed to the camera, found or given; None = nothing."""
    times: Float[np.ndarray, " N"] | None = None
    """When each frame was taken, in frame times of the video; None = one after the other."""
    readout: float | None = None
    """Share of the frame time in which a rolling shutter reads a frame; 0 = a global shutter. The frames are level
    already where it is 0; None = to be found."""

    def static_weight(self, size: tuple[int, int], count: int) -> Float[np.ndarray, "N h w"] | None:
        """1 - dynamic probability of the masks of N = ``count`` frames at another size (width, height), and 0 for what
        is fixed to the camera; None where nothing is known of either."""
        if self.masks is None:
            return self.fixed_weight(size, count)
        return static_weight(self.not_static(np.nan_to_num(self.masks, nan=0.0)), size)

    def fixed_weight(self, size: tuple[int, int], count: int) -> Float[np.ndarray, "N h w"] | None:
        """0 for what is fixed to the camera, else 1, for N = ``count`` frames at another size (width, height)."""
        if self.fixed is None:
            return None
        return np.repeat(static_weight(self.fixed[None].astype(np.float32), size), count, axis=0)

    def not_static(self, dynamic: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
        """A dynamic probability, with 1 for what is fixed to the camera."""
        return dynamic if self.fixed is None else np.maximum(dynamic, self.fixed.astype(np.float32))

    def with_masks(self, predicted: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
        """Dynamic probability: the larger of the given and the predicted one, where both are wanted; 0 for what is
        fixed to the camera."""
        if self.masks is not None:
            predicted = np.fmax(predicted, self.masks) if self.joins else self.masks
        return predicted if self.fixed is None else np.where(self.fixed, np.float32(0), predicted)

    def bundle_settings(self, size: tuple[int, int]) -> dict[str, Any]:
        """Keyword arguments of ``bundle_adjust`` for flow of this size (width, height)."""
        if self.intrinsics is None:
            return {}
        intrinsics = self.scaled_intrinsics(size)
        if self.c2w_cv is None:
            return {"known_focal": float(intrinsics[0, 0, 0])}
        return {"known_c2w_cv": self.c2w_cv, "known_intrinsics": intrinsics}

    def section(self, frames: range) -> Known:
        """What is known of a run of frames; the first of them is the world of their poses."""
        part = slice(frames.start, frames.stop)
        c2w_cv = self.c2w_cv
        if c2w_cv is not None:
            c2w_cv = geo.invert_rigid(c2w_cv[frames.start]) @ c2w_cv[part]
            c2w_cv[0] = np.eye(4)
        return replace(
            self,
            masks=None if self.masks is None else self.masks[part],
            intrinsics=None if self.intrinsics is None else self.intrinsics[part],
            c2w_cv=c2w_cv,
            times=None if self.times is None else self.times[part],
        )

    def scaled_intrinsics(self, size: tuple[int, int]) -> Float[np.ndarray, "N 3 3"]:
        """Camera matrices at another size (width, height)."""
        assert self.intrinsics is not None
        return geo.resize_intrinsics(self.intrinsics, self.size, size)


def static_weight(dynamic: Float[np.ndarray, "N H W"], size: tuple[int, int]) -> Float[np.ndarray, "N h w"]:
    """1 - dynamic probability, averaged over the pixels of another size (width, height)."""
    return np.stack([cv2.resize(1 - p, size, interpolation=cv2.INTER_AREA) for p in dynamic])


@dataclass(frozen=True)
class Knowledge:
    """What the user's settings name, found and matched to the frames but not read yet."""

    clip: Clip
    """The frames, less those left out for want of a pose."""
    config: FrontEndConfig
    masks: GivenMasks | None = None
    cameras: CameraFile | None = None
    left_out: tuple[str, ...] = ()
    """Names of frames that have no known pose."""
    lens_file: LensFile | None = None
    lens: Lens | None = None
    """Of the frames, at the size of the video, where it is known and distorts."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """For the cache key: empty where nothing of this is used; contents instead of paths."""
        settings: dict[str, Any] = {}
        if self.masks is not None:
            settings["masks"] = [self.config.masks, self.masks.content_hash]
        if self.config.fixed_mask is not None:
            settings["fixed_mask"] = file_digest(self.config.fixed_mask).hex()
        if self.config.known_focal is not None:
            settings["known_focal"] = self.config.known_focal
        if self.cameras is not None:
            settings["known_poses"] = [file_digest(file).hex() for file in self.cameras.files]
        if self.lens_file is not None:
            settings["known_lens"] = [file_digest(file).hex() for file in self.lens_file.files]
        if self.config.readout is not None:
            settings["readout"] = self.config.readout
        if self.config.cameras == "colmap":
            settings["cameras"] = ["colmap", COLMAP_VERSION]
        if self.refines:
            settings |= {"refine_masks": self.config.refine_masks, "sam2_model": self.config.sam2_model}
        return settings

    @property
    def refines(self) -> bool:
        """Whether the masks are to be refined: those of the user's own never are."""
        return self.config.refine_masks != "none" and self.config.masks != "given"

    def unrefined(self) -> Knowledge:
        """The same where masks cannot be refined."""
        return replace(self, config=replace(self.config, refine_masks="none"))

    def with_lens(self, lens: Lens | None) -> Knowledge:
        """The same with a lens that the front end has found; as it is where one is known."""
        return self if lens is None or self.lens is not None else replace(self, lens=lens.at(self.clip.size))

    @property
    def known_focal(self) -> float | None:
        """Focal without poses, in pixels of the pinhole pictures at the size of the video."""
        if self.cameras is not None:
            return None
        if self.lens_file is not None:
            return self.lens_file.focal if self.lens is None else float(self.lens.pinhole[0, 0])
        if self.config.known_focal is None or self.lens is None:
            return self.config.known_focal
        return self.config.known_focal * float(self.lens.pinhole[0, 0]) / self.lens.fx

    def with_own_cameras(self) -> Knowledge:
        """The same before COLMAP has run."""
        return replace(self, config=replace(self.config, cameras="own"))

    @property
    def messages(self) -> list[str]:
        """What is used, a line each; and masks that lie there and are not."""
        lines = []
        if self.masks is not None:
            how = "taken in place of" if self.config.masks == "given" else "joined with"
            lines.append(f"Masks: {self.masks.described}, {how} what is found to move.")
        else:
            unused = masks_beside(self.clip)
            if unused is not None:
                lines.append(
                    f"{unused} is not used. If it holds masks (white = moves), --masks given puts them in place of "
                    "what is found to move, and --masks joined adds them to it."
                )
        if self.config.fixed_mask is not None:
            lines.append(f"Fixed to the camera: what is white in {self.config.fixed_mask}.")
        if self.config.refine_masks != "none" and not self.refines:
            lines.append("Given masks are used as they are: --refine-masks is for those that are found.")
        if self.cameras is not None:
            lines.append(f"Cameras: those of {self.cameras.source} are used as they are.")
        if self.lens_file is not None:
            lines.append(f"Lens: that of {self.lens_file.source} is used as it is.")
        if self.lens is not None:
            lines.append(lens_message(self.lens))
        if self.left_out:
            lines.append(f"Left out, for {self.config.known_poses} has no pose for them: {', '.join(self.left_out)}.")
        return lines

    def load(self, names: list[str], size: tuple[int, int], say: Callable[[str], None]) -> Known:
        """Read everything.

        Args:
            names: The frames of the clip that could be decoded.
            size: Width and height of the video at the working resolution.
            say: Tells the user what looks odd.

        Returns:
            What is known of the frames as the front end gets them: of the pinhole pictures, where the lens distorts.
        """
        provenance: dict[str, Any] = {}
        masks = intrinsics = c2w_cv = None
        lens = None if self.lens is None else self.lens.at(size)
        # Of the pictures that the front end gets, and of the same at the size of the video.
        pinhole_size = size if lens is None else lens.pinhole_size
        full_size = self.clip.size if self.lens is None else self.lens.pinhole_size
        if self.masks is not None:
            there = set(names)
            masks = read_masks(self.masks, size, say)[[name in there for name in self.clip.names]]
            masks = masks if lens is None else lens.undistorted(masks)
            provenance["masks"] = {"folder": str(self.masks.folder), "how": self.config.masks}
        fixed = None
        if self.config.fixed_mask is not None:
            fixed = read_fixed(self.config.fixed_mask, size)
            fixed = fixed if lens is None else lens.undistorted_picture(fixed)
            provenance["fixed"] = str(self.config.fixed_mask)
        if self.known_focal is not None:
            intrinsics = geo.pinhole(self.known_focal, *full_size)
            if self.lens is not None and self.lens_file is not None:
                intrinsics = self.lens.pinhole
            intrinsics = np.repeat(intrinsics[None], len(names), axis=0)
        if self.config.known_focal is not None:
            provenance["focal"] = self.config.known_focal
        if self.lens_file is not None:
            provenance["lens"] = {"source": str(self.lens_file.source), "focal": self.lens_file.focal}
        if self.cameras is not None:
            if self.lens is None:
                intrinsics = self.cameras.intrinsics(names, self.clip.size, self.config.known_focal)
            else:
                intrinsics = np.repeat(self.lens.pinhole[None], len(names), axis=0)
            world = self.cameras.c2w_cv(names)
            c2w_cv = geo.invert_rigid(world[0]) @ world
            c2w_cv[0] = np.eye(4)
            provenance["poses"] = {
                "source": str(self.cameras.source),
                "left_out": list(self.left_out),
                "frame_0_c2w_cv": world[0].tolist(),
            }
        if intrinsics is not None:
            intrinsics = geo.resize_intrinsics(intrinsics, full_size, pinhole_size)
        undistorted = self.lens is not None or self.lens_file is not None or self.cameras is not None
        return Known(
            masks=masks,
            joins=self.config.masks == "joined",
            intrinsics=intrinsics,
            c2w_cv=c2w_cv,
            size=pinhole_size,
            undistorted=undistorted,
            provenance=provenance,
            readout=self.config.readout,
            fixed=fixed >= 0.5 if fixed is not None and (fixed >= 0.5).any() else None,
        )


def lens_message(lens: Lens) -> str:
    """What is done about a lens that distorts."""
    (width, height), bend = lens.pinhole_size, 100 * lens.displacement()
    return (
        f"The lens distorts ({lens.described}; pixels move by up to {bend:.1f} % of the longer side): pinhole pictures "
        f"of {width} x {height} pixels are made of the frames."
    )


def find_knowledge(clip: Clip, config: FrontEndConfig) -> Knowledge:
    """Find what the settings name and match it to the frames.

    Raises:
        Das3rError: Something is not there, or does not fit the frames.
    """
    if config.masks == "predicted" and config.masks_dir is not None:
        raise Das3rError(
            f"Masks were named ({config.masks_dir}) but are not to be used. Add --masks given to put them in place of "
            "what is found to move, or --masks joined to add them to it."
        )
    if config.fixed_mask is not None:
        read_fixed(config.fixed_mask, clip.size)  # said before anything slow runs
    if config.known_focal is not None:
        _check_focal(config.known_focal, clip.size, "--known-focal")
    if config.readout is not None and not 0.0 <= config.readout <= 1.0:
        raise Das3rError(
            f"A read-out of {config.readout:g} frame times cannot be meant (--readout): a frame is read before the "
            "next one begins, so it lies between 0 (a global shutter) and 1. From milliseconds: times frames per "
            "second, over 1000."
        )
    if config.known_poses is not None and config.cameras == "colmap":
        raise Das3rError(
            f"Cameras cannot be both those of {config.known_poses} (--known-poses) and COLMAP's (--cameras colmap): "
            "leave out one of the two."
        )
    if config.known_poses is not None and config.known_lens is not None:
        raise Das3rError(
            f"{config.known_poses} (--known-poses) has lenses with its poses: leave out --known-lens, or put the lens "
            f"of {config.known_lens} into that file."
        )
    cameras, left_out, lens_file, lens = None, (), None, None
    if config.known_lens is not None:
        lens_file = read_lens(config.known_lens, clip.size, config.known_focal)
        lens = lens_file.lens
        _check_focal(lens_file.focal, clip.size, f"in {lens_file.source}")
    if config.known_poses is not None:
        cameras = read_cameras(config.known_poses)
        clip, left_out = _with_poses(clip, cameras)
        # Before anything slow runs: whether there are focals, a lens that we know, and pictures of this shape.
        lens = cameras.lens(clip.names, clip.size, config.known_focal)
    masks = None
    if config.masks != "predicted":
        masks = find_masks(clip, config.masks_dir, all_frames=config.masks == "given")
    return Knowledge(clip, config, masks, cameras, left_out, lens_file, lens)


def _check_focal(focal: float, size: tuple[int, int], where: str) -> None:
    low, high = (factor * max(size) for factor in FOCAL_RANGE)
    if not low <= focal <= high:
        raise Das3rError(
            f"A focal of {focal:g} pixels cannot be meant for a video of {size[0]} x {size[1]} pixels ({where}): "
            f"between {low:.0f} and {high:.0f} is possible. From millimetres of a 35 mm camera: f / 36 x {max(size)}."
        )


def _with_poses(clip: Clip, cameras: CameraFile) -> tuple[Clip, tuple[str, ...]]:
    """The clip less the few frames that have no pose, and their names."""
    missing = tuple(name for name in clip.names if cameras.find(name) is None)
    if not missing:
        return clip, ()
    left = len(clip.names) - len(missing)
    if len(missing) >= MAX_MISSING * len(clip.names) or left < MIN_FRAMES:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise Das3rError(
            f"{cameras.source} has no pose for {len(missing)} of the {len(clip.names)} frames of {clip.path}: {shown}. "
            f"It has some for {', '.join(sorted(cameras.cameras)[:3])}, ...; poses and frames belong together by file "
            "name."
        )
    return clip.without(set(missing)), missing
