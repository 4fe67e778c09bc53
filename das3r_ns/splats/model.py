"""The das3r model: splatfacto with a staticness per Gaussian and a loss that leaves out what moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components.lib_bilagrid import BilateralGrid, total_variation_loss
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.colors import get_color
from torch import Tensor, nn

from das3r_ns.errors import Das3rExit
from das3r_ns.rasterization import rasterization
from das3r_ns.splats.camera import (
    SPLAT_VARIANCE,
    keep_world,
    refined_c2w,
    scaled_intrinsics,
    splat_variance,
    view_matrix,
)
from das3r_ns.splats.checkpoints import load_resized
from das3r_ns.splats.config import Das3rModelConfig
from das3r_ns.splats.density import StaticSceneStrategy
from das3r_ns.splats.evaluation_outputs import evaluation_outputs
from das3r_ns.splats.image_metrics import ImageMetrics
from das3r_ns.splats.initialization import initial_gaussians, scene_scale
from das3r_ns.splats.light import FrameLight
from das3r_ns.splats.losses import camera_prior, depth_loss, dynamics_aware_loss, weighted_psnr
from das3r_ns.splats.staticness import (
    effective_opacity,
    effective_opacity_logit,
    seed_staticness_logit,
    static_weight_posterior,
    staticness_prior,
)
from das3r_ns.splats.viewer import ViewerPanel

__all__ = ["Das3rModel", "Das3rModelConfig"]

NO_RAYS = (
    "Gaussians are drawn as pictures, not ray by ray as `ns-export pointcloud`, `poisson` and `tsdf` want it. Take "
    "`das3r export --format points` for a point cloud, `ns-export gaussian-splat` for the splats."
)

MOST_GAUSSIANS = 3_000_000
"""To which images larger than the working size may lead by themselves: 3 GB of parameters, gradients and moments."""

METRICS_EVERY = 10
"""Steps between two looks at how far the cameras have moved: those of which nerfstudio's log tells, by default."""


class Das3rModel(SplatfactoModel):
    """Splatfacto whose Gaussians carry a staticness, and whose loss leaves out what moves.

    ``gauss_params["staticness"]`` is a logit [N, 1] like ``gauss_params["opacities"]``; the property ``opacities`` is
    the logit of their product, so that the render, the viewer and the exported PLY agree by construction and what moves
    is in none of them. See :mod:`das3r_ns.splats.staticness` for how it is learnt.

    Where no frame ever saw the static scene there is no loss at all: nothing is grown there, movers seeded there start
    transparent, and the random background makes any paint a loss in whichever frame does see through. The render stays
    empty: accumulation 0 and the background's colour.
    """

    config: Das3rModelConfig

    def populate_modules(self) -> None:
        """Build Gaussians, camera optimizer, strategy and metrics.

        Splatfacto's own version is not called: it needs CUDA, and the network for LPIPS's weights.
        """
        config = self.config
        metadata: Mapping[str, Any] = self.kwargs.get("metadata") or {}
        seeds = None if config.random_init else self.seed_points
        gaussians = initial_gaussians(seeds, config, sized=not metadata.get("checkpoint_follows", False))
        staticness = None if config.random_init else metadata.get("points3D_staticness")
        gaussians |= self.initial_opacities(len(gaussians["means"]), staticness)
        self.gauss_params = nn.ParameterDict({name: nn.Parameter(value) for name, value in gaussians.items()})
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        # Nerfstudio's viewer and metrics look these up by name.
        self.image_metrics = ImageMetrics(config.measure_lpips)
        self.step = 0
        self.crop_box = None
        self.background_color = (
            torch.tensor([0.1490, 0.1647, 0.2157])  # the viewer's own background
            if config.background_color == "random"
            else get_color(config.background_color)
        )
        if config.use_bilateral_grid:
            x, y, w = config.grid_shape
            self.bil_grids = BilateralGrid(num=self.num_train_data, grid_X=x, grid_Y=y, grid_W=w)
        light, falloff = metadata.get("light"), metadata.get("falloff")
        learned = config.learn_light and not (light is None and falloff is None)
        self.light = FrameLight(light, metadata["frame_indices"].tolist(), falloff) if learned else None
        self.enlarged: float = metadata.get("enlarged", 1.0)
        self.strategy = self.build_strategy()
        self.scene_scale = scene_scale(gaussians["means"])
        self.strategy_state = self.strategy.initialize_state(scene_scale=self.scene_scale)
        self.static_psnr = torch.tensor(-torch.inf)
        self._compared: tuple[Mapping[str, Any], int, Tensor, Tensor] | None = None
        self.trained_focal: float | None = metadata.get("focal")
        measured = metadata.get("measured_depth")
        self.learns_depth = config.depth_weight > 0 and measured is not None and bool(measured[..., 1].any())
        self.viewer_panel = ViewerPanel()  # nerfstudio's viewer looks for it among the model's attributes

    def initial_opacities(self, count: int, staticness: Float[Tensor, "N 1"] | None) -> dict[str, Tensor]:
        """Raw opacity and staticness logits of the seeds; a seed without a known staticness is static.

        Args:
            count: Number of seeds.
            staticness: Of each seed, in [0, 1].
        """
        if staticness is None or len(staticness) != count:
            staticness = torch.ones(count, 1)
        opacity = torch.full((count, 1), self.config.initial_opacity)
        return {"opacities": torch.logit(opacity), "staticness": seed_staticness_logit(staticness.float())}

    def build_strategy(self) -> StaticSceneStrategy:
        """Strategy of densification and pruning, from the config."""
        config = self.config
        return StaticSceneStrategy(
            prune_opa=config.cull_alpha_thresh,
            grow_grad2d=config.densify_grad_thresh,
            grow_scale3d=config.densify_size_thresh,
            prune_scale3d=config.cull_scale_thresh,
            refine_start_iter=config.warmup_length,
            refine_stop_iter=config.stop_split_at,
            refine_every=config.refine_every,
            absgrad=config.use_absgrad,
            grow=config.densify,
            max_gaussians=self.gaussian_limit(),
            prune_staticness=config.prune_staticness,
            prune_staticness_from=config.prune_staticness_from,
        )

    def gaussian_limit(self) -> int:
        """Most Gaussians that densification may lead to: of the config, or more where the images are enlarged."""
        given = self.config.max_gaussians
        return max(given, min(round(given * self.enlarged**2), MOST_GAUSSIANS))

    def _get_downscale_factor(self) -> int:
        """By how much the images of this step are smaller than the training images, a power of two."""
        if not self.training:
            return 1
        # Seeds lie as densely as pixels of the working size: what is finer begins once these are explained.
        downscales = self.config.num_downscales + max(round(math.log2(self.enlarged)), 0)
        return 2 ** max(downscales - self.step // self.config.resolution_schedule, 0)

    @property
    def opacities(self) -> Float[Tensor, "N 1"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Logit of the effective opacity, sigmoid(opacity) * sigmoid(staticness)."""
        return effective_opacity_logit(self.gauss_params["opacities"], self.gauss_params["staticness"])

    def effective_opacity(self) -> Float[Tensor, "N 1"]:
        """Opacity in [0, 1] that the Gaussians are drawn with."""
        return effective_opacity(self.gauss_params["opacities"], self.gauss_params["staticness"])

    @property
    def staticness(self) -> Float[Tensor, "N 1"]:
        """Staticness in [0, 1]: probability that the Gaussian belongs to the static scene."""
        return torch.sigmoid(self.gauss_params["staticness"])

    def get_gaussian_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Splatfacto's groups and ``staticness``."""
        return {name: [parameter] for name, parameter in self.gauss_params.items()}

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Splatfacto's groups, and ``light`` where it changes."""
        groups = super().get_param_groups()
        return groups | {"light": self.light.learned()} if self.light is not None and self.light.changes else groups

    def in_light_of_frame(self, rgb: Float[Tensor, "H W 3"], camera: Cameras) -> Float[Tensor, "H W 3"]:
        """The colours in the light of the frame that the metadata name, if any, and through its lens: a training frame
        by its index (``cam_idx``), any other by its number in the video (``frame``)."""
        metadata = camera.metadata or {}
        if self.light is None or not metadata.keys() & {"cam_idx", "frame"}:
            return rgb
        rgb = self.light.through_lens(rgb, camera)
        if "cam_idx" in metadata:
            return self.light(rgb, metadata["cam_idx"])
        return self.light.at_frame(rgb, metadata["frame"])

    def camera_gate_open(self) -> Bool[Tensor, ""]:
        """Whether the poses may move in this step: the frame just rendered is good enough to say where it was taken.

        Left on the device: whoever reads it waits for the render.
        """
        return self.static_psnr > self.config.camera_gate_psnr

    def step_post_backward(self, step: int) -> None:
        """After the optimizers have stepped: densify and prune, and keep the world where it is."""
        super().step_post_backward(step)
        keep_world(self.camera_optimizer)

    def position_scale(self, cameras: Cameras) -> float:
        """The length that the learning rate of the positions is relative to: the size of the scene.

        Args:
            cameras: The training cameras.
        """
        del cameras
        return self.scene_scale

    def view_matrix(self, camera: Cameras) -> Float[Tensor, "C 4 4"]:
        """World-to-camera matrix (OpenCV), refined if the metadata name the training frame (``cam_idx``)."""
        return view_matrix(refined_c2w(self.camera_optimizer, camera))

    def load_state_dict(self, dict: Mapping[str, Any], **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load a checkpoint with any number of Gaussians.

        Raises:
            Das3rExit: The checkpoint lacks a parameter or holds a foreign one.
        """
        del kwargs
        return load_resized(self, dict, "gauss_params")

    def update_to_step(self, step: int) -> None:
        """Continue at ``step``: it decides the degree of the spherical harmonics."""
        self.step = step

    def render(
        self,
        camera: Cameras,
        chosen: Bool[Tensor, " N"] | slice = slice(None),
        with_aux: bool = False,
        with_depth: bool = False,
        raw: bool = False,
    ) -> tuple[Float[Tensor, "1 H W C"], Float[Tensor, "1 H W 1"], dict[str, Any]]:
        """Rasterise from one camera at the resolution of this step.

        Args:
            camera: One camera.
            chosen: Which Gaussians to draw.
            with_aux: Also render staticness and expected depth.
            with_depth: Also render expected depth.
            raw: Draw with the raw opacities, as if all were static.

        Returns:
            Channels RGB [| staticness] [| depth] before the background, accumulation, and the rasteriser's info.
        """
        config, params = self.config, self.gauss_params
        k, width, height = scaled_intrinsics(camera, self._get_downscale_factor())
        if config.sh_degree > 0:
            colors = torch.cat((params["features_dc"][:, None], params["features_rest"]), dim=1)
            degree = min(self.step // config.sh_degree_interval, config.sh_degree)
        else:
            colors, degree = torch.sigmoid(params["features_dc"]), None
        opacity = torch.sigmoid(params["opacities"]) if raw else self.effective_opacity()
        return rasterization(
            means=params["means"][chosen],
            quats=params["quats"][chosen],
            scales=torch.exp(params["scales"][chosen]),
            opacities=opacity[chosen].squeeze(-1),
            colors=colors[chosen],
            viewmats=self.view_matrix(camera),
            Ks=k.to(self.device),
            width=width,
            height=height,
            # In training no picture is larger than the training pictures, and asking would wait for the device.
            eps2d=SPLAT_VARIANCE if self.training else splat_variance(float(k[0, 0, 0]), self.trained_focal),
            packed=False,
            render_mode="RGB+ED" if with_aux or with_depth else "RGB",
            sh_degree=degree,
            absgrad=config.use_absgrad,
            rasterize_mode=config.rasterize_mode,
            extra=self.staticness[chosen].clamp(0, 1) if with_aux else None,
        )

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Outputs of one camera; of those that the viewer asks for, what its controls say (das3r_ns.splats.viewer).

        Args:
            camera: One camera.
            obb_box: Gaussians outside are left out.
        """
        self.set_crop(obb_box)
        camera = camera.to(self.device)
        return self.viewer_panel.outputs(self, camera) if self.viewer_panel.is_rendering() else self.get_outputs(camera)

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Render one camera.

        Returns:
            ``rgb`` [H, W, 3], ``accumulation`` [H, W, 1] and ``background``; in training also ``depth`` where there is
            any to learn from, in evaluation everything of :meth:`evaluation_outputs`.

        Raises:
            Das3rExit: What is given is no camera: `ns-export pointcloud`, `poisson` and `tsdf` want single rays.
        """
        if not isinstance(camera, Cameras):
            raise Das3rExit(NO_RAYS)
        if not self.training:
            return self.evaluation_outputs(camera)
        render, alpha, self.info = self.render(camera, with_depth=self.learns_depth)
        if self.info["means2d"].requires_grad:
            self.strategy.step_pre_backward(
                self.gauss_params, self.optimizers, self.strategy_state, self.step, self.info
            )
        background = self._get_background_color()
        # Not clamped: a clamp stops the gradient of colours that are too bright.
        rgb, *depth = render[0].split((3, 1) if self.learns_depth else 3, dim=-1)
        rgb = rgb + (1 - alpha[0]) * background
        if self.config.use_bilateral_grid and camera.metadata is not None and "cam_idx" in camera.metadata:
            height, width = rgb.shape[:2]
            rgb = self._apply_bilateral_grid(rgb[None], camera.metadata["cam_idx"], height, width).squeeze(0)
        rgb = self.in_light_of_frame(rgb, camera)
        outputs = {"rgb": rgb, "accumulation": alpha[0], "background": background}
        return outputs | ({"depth": depth[0]} if self.learns_depth else {})

    def evaluation_outputs(
        self, camera: Cameras, shown: Bool[Tensor, " N"] | None = None, raw: bool = False
    ) -> dict[str, Tensor]:
        """Everything a viewer can show; see :func:`das3r_ns.splats.evaluation_outputs.evaluation_outputs`."""
        return evaluation_outputs(self, camera, shown, raw)

    def static_weight(self, batch: Mapping[str, Any]) -> Float[Tensor, "H W 1"]:
        """Static weight of a batch at the resolution of this step."""
        return self._downscale_if_required(self.given_static_weight(batch))

    def given_static_weight(self, batch: Mapping[str, Any]) -> Float[Tensor, "H W 1"]:
        """Static weight that the data give: soft if there is one, else the mask, else 1."""
        if "static_weight" in batch:
            weight = batch["static_weight"].to(self.device)
            return weight.float() / 255 if weight.dtype == torch.uint8 else weight
        if "mask" in batch:
            return batch["mask"].float().to(self.device)
        return torch.ones(*batch["image"].shape[:2], 1, device=self.device)

    def compared_with(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]
    ) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"]]:
        """Frame and static weight at the resolution of this step, which metrics and loss of a step both ask for."""
        kept = self._compared
        if not self.training or kept is None or kept[0] is not batch or kept[1] != self.step:
            target = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
            self._compared = kept = (batch, self.step, target, self.static_weight(batch))
        return kept[2:]

    def get_metrics_dict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Any]:
        """PSNR over the static weight, the number of Gaussians and how far the cameras have moved."""
        psnr = weighted_psnr(outputs["rgb"], *self.compared_with(outputs, batch))
        if self.training:
            self.static_psnr = psnr
        metrics: dict[str, Any] = {"psnr": psnr, "gaussian_count": self.num_points}
        if not self.training or self.step % METRICS_EVERY == 0:  # they make the host wait for the device
            with torch.no_grad():
                self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    def get_loss_dict(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], metrics_dict: Any = None
    ) -> dict[str, Tensor]:
        """The dynamics-aware loss and the priors."""
        del metrics_dict
        config = self.config
        rendered = outputs["rgb"]
        target, given = self.compared_with(outputs, batch)
        weight = given
        if self.training and config.refine_static_weight and self.step >= config.refine_static_weight_from:
            # Noise and outlines are as wide in a larger picture as in what the front end saw, and cover more pixels.
            pixel = max(1.0, self.enlarged / self._get_downscale_factor())
            window = 2 * round(2 * pixel) + 1
            weight = static_weight_posterior(weight, rendered, target, window, play=round(pixel))
        losses = {"main_loss": dynamics_aware_loss(rendered, target, weight, config.ssim_lambda)}
        if not self.training:
            return losses
        if self.learns_depth and "measured_depth" in batch:
            measured = batch["measured_depth"].to(self.device)
            losses["depth_loss"] = config.depth_weight * depth_loss(outputs["depth"], measured, given)
        if config.staticness_prior_weight > 0:
            prior = staticness_prior(self.gauss_params["staticness"])
            losses["staticness_prior"] = config.staticness_prior_weight * prior
        if config.use_scale_regularization and self.step % 10 == 0:
            scales = torch.exp(self.scales)
            ratio = (scales.amax(dim=-1) / scales.amin(dim=-1)).clamp_min(config.max_gauss_ratio)
            losses["scale_reg"] = 0.1 * (ratio - config.max_gauss_ratio).mean()
        if config.use_bilateral_grid:
            losses["tv_loss"] = 10 * total_variation_loss(self.bil_grids.grids)
        if self.light is not None and self.light.changes:
            losses["light_prior"] = self.light.prior()
        if config.camera_optimizer.trans_l2_penalty or config.camera_optimizer.rot_l2_penalty:
            self.camera_optimizer.get_loss_dict(losses)
        if config.camera_prior_weight > 0 and self.camera_optimizer.config.mode != "off":
            correction = self.camera_optimizer.pose_adjustment[batch["image_idx"]]
            losses["camera_prior"] = config.camera_prior_weight * camera_prior(correction, self.trained_focal or 1.0)
        return losses

    def get_image_metrics_and_images(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of an evaluation image, and the pictures frame | render | staticness side by side."""
        target, weight = self.compared_with(outputs, batch)
        metrics = self.image_metrics(outputs["rgb"], target, weight)
        staticness = outputs["staticness"].expand_as(target)
        return metrics, {"img": torch.cat([target, outputs["rgb"], staticness], dim=1)}
