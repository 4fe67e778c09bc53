"""What a camera sees of a trained scene: everything that a viewer can show."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from das3r_ns.rasterization import rasterization
from das3r_ns.splats.camera import picture_size, scaled_intrinsics, splat_variance


class DrawnModel(Protocol):
    """What is asked of a model: :class:`das3r_ns.splats.model.Das3rModel`."""

    config: Any
    gauss_params: nn.ParameterDict
    crop_box: Any
    trained_focal: float | None

    @property
    def device(self) -> torch.device: ...

    @property
    def means(self) -> Float[Tensor, "N 3"]: ...

    @property
    def staticness(self) -> Float[Tensor, "N 1"]: ...

    def view_matrix(self, camera: Cameras) -> Float[Tensor, "C 4 4"]: ...

    def in_light_of_frame(self, rgb: Float[Tensor, "H W 3"], camera: Cameras) -> Float[Tensor, "H W 3"]: ...

    def _get_background_color(self) -> Float[Tensor, "3"]: ...

    def render(
        self,
        camera: Cameras,
        chosen: Bool[Tensor, " N"] | slice = slice(None),
        with_aux: bool = False,
        with_depth: bool = False,
        raw: bool = False,
    ) -> tuple[Float[Tensor, "1 H W C"], Float[Tensor, "1 H W 1"], dict[str, Any]]: ...


def evaluation_outputs(
    model: DrawnModel, camera: Cameras, shown: Bool[Tensor, " N"] | None, raw: bool
) -> dict[str, Tensor]:
    """Everything a viewer can show.

    ``staticness`` is the mean staticness of what is drawn. ``dynamic_probability`` is 1 minus the mean staticness
    of what *would* be drawn at the raw opacities: movers are transparent in the former and show in the latter. It
    is about the whole video, since a scene of Gaussians has no time: 1 where, seen from here, something moved at
    some moment. It is 0 where nothing is drawn, and everywhere once the movers have been pruned.

    Args:
        model: The scene.
        camera: One camera.
        shown: Which Gaussians to show; all where None.
        raw: Draw them with their raw opacities, as if all were static.
    """
    chosen = _cropped(model, shown)
    background = model._get_background_color()
    if not isinstance(chosen, slice) and not chosen.any():
        return _empty_outputs(camera, background)
    render, alpha, _ = model.render(camera, chosen, with_aux=True, raw=raw)
    rgb = model.in_light_of_frame((render[..., :3] + (1 - alpha) * background)[0], camera).clamp(0.0, 1.0)
    shown = alpha[0].clamp_min(1e-6)
    staticness = torch.where(alpha[0] > 0, render[0, ..., 3:4] / shown, 0.0)
    depth = render[0, ..., 4:5]
    return {
        "rgb": rgb,
        "depth": torch.where(alpha[0] > 0, depth, depth.max()),
        "accumulation": alpha[0],
        "staticness": staticness,
        "dynamic_probability": _dynamic_probability(model, camera, chosen, staticness, alpha[0]),
        "background": background.expand_as(rgb),
    }


def _dynamic_probability(
    model: DrawnModel,
    camera: Cameras,
    chosen: Bool[Tensor, " N"] | slice,
    staticness: Float[Tensor, "H W 1"],
    accumulation: Float[Tensor, "H W 1"],
) -> Float[Tensor, "H W 1"]:
    params = model.gauss_params
    staticness_of = model.staticness[chosen].clamp(0, 1)
    if not (staticness_of < 0.5).any():  # nothing would change but the price of a second render
        return torch.where(accumulation > 0, 1 - staticness, 0.0)
    k, width, height = scaled_intrinsics(camera, 1)
    render, alpha, _ = rasterization(
        means=params["means"][chosen],
        quats=params["quats"][chosen],
        scales=torch.exp(params["scales"][chosen]),
        opacities=torch.sigmoid(params["opacities"][chosen]).squeeze(-1),
        colors=1 - staticness_of,
        viewmats=model.view_matrix(camera),
        Ks=k.to(model.device),
        width=width,
        height=height,
        eps2d=splat_variance(float(k[0, 0, 0]), model.trained_focal),
        rasterize_mode=model.config.rasterize_mode,
    )
    return torch.where(alpha > 0, render / alpha.clamp_min(1e-6), 0.0)[0].clamp(0.0, 1.0)


def _cropped(model: DrawnModel, shown: Bool[Tensor, " N"] | None) -> Bool[Tensor, " N"] | slice:
    if model.crop_box is None:
        return slice(None) if shown is None else shown
    within = model.crop_box.within(model.means).reshape(-1)
    return within if shown is None else within & shown


def _empty_outputs(camera: Cameras, background: Float[Tensor, "3"]) -> dict[str, Tensor]:
    width, height = picture_size(camera)
    rgb, nothing = background.expand(height, width, 3), background.new_zeros(height, width, 1)
    names = ("depth", "accumulation", "staticness", "dynamic_probability")
    return {"rgb": rgb, "background": rgb} | dict.fromkeys(names, nothing)
