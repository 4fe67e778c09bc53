"""Settings of the das3r models."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import tyro
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.models.splatfacto import SplatfactoModelConfig


def _class_at_first_use(module: str, name: str) -> Callable[[], type]:
    """The class that is built, named rather than imported: it imports this module, and is heavy."""
    return lambda: getattr(importlib.import_module(module), name)


@dataclass
class Das3rModelConfig(SplatfactoModelConfig):
    """Splatfacto for casual videos: what moves is left out."""

    _target: type = field(default_factory=_class_at_first_use("das3r_ns.splats.model", "Das3rModel"))
    """target class to instantiate"""
    warmup_length: int = 400
    """Steps before the first densification."""
    refine_every: int = 100
    """Steps between densifications, and between prunings."""
    stop_split_at: int = 2500
    """Step at which Gaussians stop being added."""
    densify: bool = True
    """Whether Gaussians are added where the picture lacks detail."""
    max_gaussians: int = 1_000_000
    """Most Gaussians that densification may lead to where the training images have the working size. Larger ones may
    have more, in proportion to their pixels, up to 3,000,000."""
    cull_alpha_thresh: float = 0.01
    """Gaussians of lower effective opacity (opacity times staticness) are removed."""
    prune_staticness: float = 0.1
    """Gaussians of lower staticness are removed, after prune_staticness_from; 0 keeps them, undrawn."""
    prune_staticness_from: int = 1000
    """Step from which Gaussians of low staticness are removed."""
    num_downscales: int = 0
    """Training starts at 1/2^d of the working size and doubles it every resolution_schedule steps, up to that of the
    training images."""
    resolution_schedule: int = 500
    """Steps between two sizes of a training that starts at less than the size of its images."""
    initial_opacity: float = 0.5
    """Raw opacity of a seed. Seeds lie on measured surfaces, so they start as such rather than as fog."""
    staticness_prior_weight: float = 0.02
    """Weight of the prior that pulls staticness to 0 or 1: roughly a tenth of the mean colour error over a Gaussian's
    pixels that proves it a mover."""
    depth_weight: float = 0.2
    """Weight of the front end's depth, where it is measured: what the render is off by beyond the tolerance of that
    depth, as a logarithm. Keeps Gaussians out of the air where few frames see the ground; 0 leaves depth to the
    colours."""
    refine_static_weight: bool = True
    """Re-weigh the front end's static weight in every step by how well the render explains the pixel. That wins back
    what masks that take in gaps and outlines of a mover hide, and part of what masks that miss some of it cost."""
    refine_static_weight_from: int = 1000
    """Step from which refine_static_weight acts: a residual means nothing before the picture is good."""
    learn_light: bool = True
    """Learn a gain and an offset of the colours for every frame, where the front end found that the light changes, and
    take off how the lens darkens its corners, where it found that. The scene has the middle light of the video and no
    dark corners; clean plates have those of their frames."""
    camera_optimizer: CameraOptimizerConfig = field(
        default_factory=lambda: CameraOptimizerConfig(mode="SO3xR3", trans_l2_penalty=0.0, rot_l2_penalty=0.0)
    )
    """Refinement of the camera poses. nerfstudio's penalties are added to camera-prior-weight where they are not 0."""
    camera_prior_weight: float = 1e-2
    """Weight of the prior that keeps a camera where the front end has put it, for each squared pixel by which
    refinement moves the picture; 0 leaves it to the colours alone."""
    camera_gate_psnr: float = 0.0
    """A camera moves only in steps whose frame is reproduced better than this over its static pixels (dB); 0 keeps none
    still, for bad cameras are what makes pictures bad."""
    measure_lpips: bool = False
    """Also measure LPIPS in evaluations; torchvision downloads AlexNet's weights for it at first use."""
    reset_alpha_every: tyro.conf.Suppress[int] = 0
    """Unused: opacities are never reset (see StaticSceneStrategy)."""
    stop_screen_size_at: tyro.conf.Suppress[int] = 0
    """Unused: sizes are judged in the scene, not on the screen."""
    cull_screen_size: tyro.conf.Suppress[float] = 0.0
    """Unused, like stop_screen_size_at."""
    split_screen_size: tyro.conf.Suppress[float] = 0.0
    """Unused, like stop_screen_size_at."""
    n_split_samples: tyro.conf.Suppress[int] = 2
    """Unused: gsplat splits in two."""
    output_depth_during_training: tyro.conf.Suppress[bool] = False
    """Unused: depth is rendered where there is any to learn from (depth_weight)."""
    color_corrected_metrics: tyro.conf.Suppress[bool] = False
    """Unused: colours are measured as they are."""


@dataclass
class PaperModelConfig(Das3rModelConfig):
    """DAS3R's Gaussian stage as published."""

    _target: type = field(default_factory=_class_at_first_use("das3r_ns.splats.paper", "PaperModel"))
    """target class to instantiate"""
    background_color: Literal["random", "black", "white"] = "black"
    """What is seen where there are no Gaussians."""
    sh_degree_interval: int = 3000
    """Steps after which the degree of the spherical harmonics rises by one."""
    camera_prior_weight: tyro.conf.Suppress[float] = 0.0
    """The paper has no prior."""
    camera_gate_psnr: float = 26.0
    """A camera moves only in steps whose frame is reproduced better than this (dB)."""
    refine_poses: bool = True
    """Whether the poses are refined."""
    densify: tyro.conf.Suppress[bool] = False
    """The paper adds no Gaussians."""
    cull_alpha_thresh: tyro.conf.Suppress[float] = 0.0
    """The paper removes no Gaussians."""
    cull_scale_thresh: tyro.conf.Suppress[float] = float("inf")
    """The paper removes no Gaussians."""
    prune_staticness: tyro.conf.Suppress[float] = 0.0
    """The paper removes no Gaussians."""
    staticness_prior_weight: tyro.conf.Suppress[float] = 0.0
    """The paper has no prior."""
    depth_weight: tyro.conf.Suppress[float] = 0.0
    """The paper has no depth term."""
    learn_light: tyro.conf.Suppress[bool] = False
    """The paper takes the light for steady."""
    camera_optimizer: tyro.conf.Suppress[CameraOptimizerConfig] = field(
        default_factory=lambda: CameraOptimizerConfig(mode="off")
    )
    """Replaced by refine_poses."""
