"""Sharper masks with SAM 2 (Ravi et al., 2024), where the user has it; left out with a line where it cannot be had.

What was found to move says where to look and SAM 2, through transformers, where its outlines are. transformers and the
weights are the user's: nothing here imports or downloads them unless asked to.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress

DEFAULT_MODEL = "facebook/sam2.1-hiera-small"
WEIGHTS, CONFIG = "model.safetensors", "config.json"

ROUNDS = 3
"""Key frames: the second and third are for what is not in the first."""
MAX_OBJECTS = 6
"""Most things followed from one key frame."""
LEAST_AREA = 5e-4
"""Share of the picture from which something is worth following."""
SAME_THING = 0.4
"""Overlap (IoU) with what was found, in the key frame, from which SAM 2 has taken the thing that was meant."""
MOVES_THROUGHOUT = 0.3
"""Mean dynamic probability inside a track from which the whole of it is believed to move."""
CLAIMED = 0.5
"""Share of a moving region that tracks must cover to redraw its outline."""
FRINGE = 5
"""Pixels around such a region that are redrawn too."""


@dataclass
class Prompts:
    """Things to follow from one frame, in pixels (x, y)."""

    frame: int
    boxes: list[list[float]]
    """Left, top, right, bottom of each."""
    points: list[list[float]]
    """The point deepest inside each."""
    masks: Bool[np.ndarray, "O H W"]


def unavailable(model: str | None) -> str | None:
    """Why SAM 2 cannot be had here, as far as that shows without loading it; None where it can."""
    from huggingface_hub import constants, try_to_load_from_cache

    if importlib.util.find_spec("transformers") is None:
        return "the package transformers is not installed (pip install das3r-ns[sam2])"
    name = model or DEFAULT_MODEL
    if (Path(name).expanduser() / CONFIG).is_file():
        return None
    try:
        if all(isinstance(try_to_load_from_cache(name, file), str) for file in (CONFIG, WEIGHTS)):
            return None
    except ValueError:  # not a name that the hub could have
        return f"there is no folder {name} with {CONFIG} in it"
    if model is None:
        return f"{name} is not in the hub cache; name it with --sam2-model to have it downloaded, or name a folder"
    if constants.HF_HUB_OFFLINE:
        return f"{name} is not in the hub cache, and the hub is not to be used (HF_HUB_OFFLINE is set)"
    return None


def refine_masks(
    images: UInt8[np.ndarray, "N H W 3"],
    dynamic: Float[np.ndarray, "N H W"],
    config: FrontEndConfig,
    progress: Progress,
) -> tuple[Float[np.ndarray, "N H W"], bool]:
    """Redraw what moves with SAM 2, if the settings ask for it and it can be had.

    Args:
        images: RGB frames.
        dynamic: Dynamic probability found without it.
        config: Settings of the front end.
        progress: Where to report.

    Returns:
        The dynamic probability, and whether SAM 2 made it.
    """
    if config.refine_masks == "none":
        return dynamic, False
    try:
        reason = unavailable(config.sam2_model)
        tracker = load_tracker(config.sam2_model, config.device) if reason is None else None
    except Exception as error:  # of whatever transformers, its version or the weights have to complain about
        reason, tracker = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", None
    if tracker is None:
        progress.say(f"Masks are not refined with SAM 2: {reason}.")
        return dynamic, False
    import torch

    try:
        with progress.stage("SAM 2", None) as advance:
            return refine_with(tracker, images, dynamic, advance), True
    except torch.cuda.OutOfMemoryError:
        progress.say(f"Masks are not refined with SAM 2: {tracker.device} has no memory left for it.")
        return dynamic, False


def refine_with(
    tracker: Tracker,
    images: UInt8[np.ndarray, "N H W 3"],
    dynamic: Float[np.ndarray, "N H W"],
    on_round: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "N H W"]:
    """Follow what moves from up to :data:`ROUNDS` key frames, and redraw it where the tracks agree with it."""
    tracks = np.zeros_like(dynamic)
    tried = np.zeros(len(images), dtype=bool)
    for _ in range(ROUNDS):
        prompts = find_prompts(np.where(tracks > 0.5, 0.0, dynamic), tried)
        if prompts is None:
            break
        tried[prompts.frame] = True
        for track, mask in zip(tracker.follow(images, prompts), prompts.masks, strict=True):
            inside = track > 0.5
            here = inside[prompts.frame]
            overlap = (here & mask).sum() / max(int((here | mask).sum()), 1)
            if overlap >= SAME_THING and dynamic[inside].mean() >= MOVES_THROUGHOUT:
                tracks = np.maximum(tracks, track)
        on_round()
    return np.stack([merge(one, track) for one, track in zip(dynamic, tracks, strict=True)])


def find_prompts(dynamic: Float[np.ndarray, "N H W"], tried: Bool[np.ndarray, " N"]) -> Prompts | None:
    """The largest moving regions of the frame that has most of them; None where no frame has any.

    Args:
        dynamic: Dynamic probability of what is not followed yet.
        tried: Frames that have been key frames.
    """
    certain = np.clip(2 * dynamic - 1, 0, 1).sum(axis=(1, 2))
    frame = int(np.where(tried, -1.0, certain).argmax())
    count, labels, stats, _ = cv2.connectedComponentsWithStats((dynamic[frame] > 0.5).astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    order = [k for k in np.argsort(-area[1:]) + 1 if area[k] >= LEAST_AREA * labels.size][:MAX_OBJECTS]
    if tried[frame] or count == 1 or not order:
        return None
    prompts = Prompts(frame, [], [], np.stack([labels == k for k in order]))
    for k, mask in zip(order, prompts.masks, strict=True):
        left, top, width, height = (float(v) for v in stats[k, : cv2.CC_STAT_AREA])
        padded = np.pad(mask.astype(np.uint8), 1)
        row, column = np.unravel_index(cv2.distanceTransform(padded, cv2.DIST_L2, 5).argmax(), padded.shape)
        prompts.boxes.append([left, top, left + width, top + height])
        prompts.points.append([float(column) - 0.5, float(row) - 0.5])
    return prompts


def merge(dynamic: Float[np.ndarray, "H W"], track: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Dynamic probability with tracks drawn in.

    Moving regions that the tracks mostly cover get the outline of the tracks; the others stay as they were found.
    """
    count, labels = cv2.connectedComponents((dynamic > 0.5).astype(np.uint8), connectivity=8)
    labels = np.asarray(labels, dtype=np.int64)
    covered = np.bincount(labels.ravel(), weights=(track > 0.5).ravel(), minlength=count)
    claimed = covered >= CLAIMED * np.bincount(labels.ravel(), minlength=count)
    claimed[0] = False
    redrawn = cv2.dilate(claimed[labels].astype(np.uint8), np.ones((2 * FRINGE + 1, 2 * FRINGE + 1), np.uint8)) > 0
    # The fringe of one region must not eat into another that stays.
    redrawn &= (labels == 0) | claimed[labels]
    return np.maximum(track, np.where(redrawn, 0.0, dynamic)).astype(np.float32)


@dataclass
class Tracker:
    """transformers' Sam2VideoModel and Sam2VideoProcessor, or what has their interface."""

    model: Any
    processor: Any
    device: str = "cpu"
    dtype: Any = None

    def follow(self, images: UInt8[np.ndarray, "N H W 3"], prompts: Prompts) -> Float[np.ndarray, "O N H W"]:
        """Probability that each pixel belongs to each thing, from the key frame forwards and then backwards."""
        settings = {} if self.dtype is None else {"dtype": self.dtype}
        session = self.processor.init_video_session(video=list(images), inference_device=self.device, **settings)
        self.processor.add_inputs_to_inference_session(
            inference_session=session,
            frame_idx=prompts.frame,
            obj_ids=list(range(1, len(prompts.boxes) + 1)),
            input_boxes=[prompts.boxes],
            input_points=[[[point] for point in prompts.points]],
            input_labels=[[[1] for _ in prompts.points]],
        )
        self.model(inference_session=session, frame_idx=prompts.frame)
        tracks = np.zeros((len(prompts.boxes), *images.shape[:3]), dtype=np.float32)
        for reverse in (False, True):
            for output in self.model.propagate_in_video_iterator(
                inference_session=session, start_frame_idx=prompts.frame, reverse=reverse
            ):
                size = [[images.shape[1], images.shape[2]]]
                logits = self.processor.post_process_masks([output.pred_masks], original_sizes=size, binarize=False)[0]
                values = logits.float().cpu().numpy().reshape(len(tracks), *images.shape[1:3])
                tracks[:, output.frame_idx] = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
        return tracks


def load_tracker(model: str | None, wanted: str = "auto") -> Tracker:
    """SAM 2 in evaluation mode.

    Args:
        model: Its folder or hub name.
        wanted: auto (a GPU that works, else the CPU), cpu, cuda, cuda:1, ...

    Raises:
        Exception: Whatever transformers raises where it or the weights are not right; the device does not work.
    """
    import torch
    from transformers import Sam2VideoModel, Sam2VideoProcessor  # pyright: ignore[reportMissingImports]

    from das3r_ns.frontend.device import usable_device  # here, for without SAM 2 no torch is needed

    source = model or DEFAULT_MODEL
    folder = Path(source).expanduser()
    source = str(folder) if folder.is_dir() else source
    local = {"local_files_only": model is None}
    device = str(usable_device(wanted))
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    network = Sam2VideoModel.from_pretrained(source, **local).to(device, dtype=dtype).eval()
    return Tracker(network, Sam2VideoProcessor.from_pretrained(source, **local), device, dtype)
