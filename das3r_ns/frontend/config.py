"""Settings of the front end. Only light imports: every ns-* command loads this module."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FrontEndName = Literal["auto", "geometric", "monst3r"]

Cameras = Literal["own", "colmap"]

Stopped = Literal["leave", "keep"]

Motion = Literal["rules", "head"]

Kernels = Literal["auto", "numba", "torch"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass
class FrontEndConfig:
    """How cameras, depth and what moves are found in a video."""

    front_end: FrontEndName = "auto"
    """'geometric' needs no trained weights: optical flow, bundle adjustment, motion evidence. 'monst3r' shows pairs of
    frames to the DAS3R, MonST3R or DUSt3R network. 'auto' takes monst3r where a checkpoint is named or downloaded, else
    geometric, and says which and why."""
    max_frames: int = 150
    """Most frames to use; a longer video is thinned, by how far its picture has moved, to the sharpest ones. 0 takes
    all, in overlapping windows."""
    shot: int = 0
    """Which shot of a video with cuts to use, counted from 1; 0 is the longest, -1 takes all frames as one shot."""
    long_side: int = 512
    """Longer side, in pixels, at which the front end works (and trains, unless told otherwise); never enlarged."""
    points: bool = True
    """Adjust the cameras at last on points that are found again to a fraction of a pixel at the size of the video
    ('geometric' only). Taken only where matches held back from it bear it out."""
    stereo: bool = True
    """Measure depth by multi-view stereo once the cameras are known, and look again at what moves by it ('geometric'
    only). Without, both are what the optical flow says: quicker to have, but coarser at the edges of things."""
    stopped: Stopped = "leave"
    """What becomes of a mover in frames in which it stands still, before it starts or after it stops ('geometric' with
    stereo only): 'leave' takes it out of the scene there too, where another frame sees its place without it; 'keep'
    has it in the scene while it stands. What moves in no frame stays either way."""
    motion: Motion = "rules"
    """What decides from the evidence what moves ('geometric' only): 'rules' are made by hand; 'head' has a small
    network, trained on drawn clips, correct them."""
    motion_weights: Path | None = None
    """Weights of that network, as `das3r train-motion` writes them; if None, those that came with das3r."""
    checkpoint: str = "auto"
    """Weights of the network: a folder (config.json and model.safetensors), a .pth file, or a published one by its name
    (das3r, monst3r, dust3r; downloaded if need be, for non-commercial use only). 'auto' takes what `das3r weights` has
    downloaded."""
    network_size: int = 512
    """Longer side, in pixels, of what the network sees. It was trained on 512; less is quicker and coarser."""
    pair_graph: str = "swinstride-5-noncyclic"
    """Which frames the network sees together: KIND-WINDOW[-noncyclic] of swin, swinstride, swin2stride, swinskip_start
    or logwin; oneref-FRAME; or complete. Windows are fitted to the length of the clip."""
    focal: Literal["shared", "per_frame"] = "shared"
    """One focal for all frames, or with the network one for each (a lens that zooms)."""
    window: int = 100
    """Frames that are predicted and aligned together; longer videos are done in overlapping windows, which bounds the
    memory they take."""
    window_overlap: float = 0.5
    """Share of a window that the next one has in common with it."""
    precision: Precision = "auto"
    """Precision of the network; 'auto' is float16 on a GPU (bfloat16 where that overflows), float32 on a CPU."""
    batch_size: int = 0
    """Directed pairs of frames that go through the network at once; 0 = as many as memory allows."""
    device: str = "auto"
    """Where the network, SAM 2 and the dense steps of 'geometric' run: auto, cpu, cuda, cuda:1, ..."""
    kernels: Kernels = "auto"
    """What the dense steps of 'geometric' are computed by: 'torch' on the device, 'numba' always on the CPU; 'auto' is
    torch on a GPU and numba on a CPU. Results are the same but for rounding."""
    masks: Literal["predicted", "given", "joined"] = "predicted"
    """What moves: 'predicted' finds it; 'given' takes your masks instead (white = moves); 'joined' takes both together.
    """
    masks_dir: Path | None = None
    """Folder of your masks, named like the frames, or one picture for all frames; if None, the folder masks in or
    beside that of the frames."""
    fixed_mask: Path | None = None
    """Picture of what is fixed to the camera (white: the car's bonnet, a logo), of the shape of the frames; a black one
    where nothing is. If None, it is found."""
    known_focal: float | None = None
    """Focal in pixels of the video, where you know it; it is kept."""
    known_poses: Path | None = None
    """Cameras where you have them: a transforms.json or the folder of a COLMAP model. They are kept, their lens with
    them, and only depth and what moves are found."""
    known_lens: Path | None = None
    """The lens where you have it without poses: a transforms.json or a COLMAP model of the same camera, for pictures of
    any size and this shape. Its focal and distortion (k1, k2, p1, p2; of a fisheye k1 to k4) are kept."""
    readout: float | None = None
    """Time from the first row of a frame to the last one of a rolling shutter, as a share of the frame time, where you
    know it; 0 is a global shutter. If None, it is found ('geometric' only)."""
    cameras: Cameras = "own"
    """'own' finds the cameras with the front end. 'colmap' then runs COLMAP (das3r-ns[colmap]) on what does not move,
    keeps its cameras and finds depth and what moves anew for them; frames that it does not register follow our own
    cameras, which stay altogether where it registers less than half of the video."""
    refine_masks: Literal["none", "sam2"] = "none"
    """'sam2' sharpens what was found to move with SAM 2 (das3r-ns[sam2]); left out where it is not to be had."""
    sam2_model: str | None = None
    """Folder or hub name of its weights, downloaded if need be; if None, facebook/sam2.1-hiera-small where it is in the
    hub cache."""


def unset_front_end() -> FrontEndConfig:
    """Settings of a command that has a preset: what is left as it is here changes nothing of the preset's."""
    return FrontEndConfig(long_side=0)


def given(settings: FrontEndConfig) -> dict[str, Any]:
    """Which fields of :func:`unset_front_end` the user has set, and to what."""
    default = unset_front_end()
    names = (field.name for field in dataclasses.fields(default))
    return {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(default, name)}
