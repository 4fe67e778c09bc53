"""Everything that ``das3r bench`` can train: das3r's presets, its ablations, and the baselines. Only light imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from das3r_ns.errors import Das3rError

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


@dataclass(frozen=True)
class BenchMethod:
    """A method by the name that it has in tables."""

    description: str
    preset: str | None = None
    """das3r's preset; None for the one that the whole run follows."""
    baseline: bool = False
    """Whether it is splatfacto rather than das3r."""
    use_masks: bool = True
    """Whether das3r (a baseline says for itself) knows what the front end found to move."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model that an ablation changes."""
    learns_staticness: bool = True


METHODS = {
    "das3r": BenchMethod("das3r as it is", "das3r"),
    "das3r-light": BenchMethod("das3r for CPUs and laptops", "das3r-light"),
    "das3r-paper": BenchMethod("the recipe of the DAS3R paper", "das3r-paper"),
    "das3r-no-masks": BenchMethod("ablation: staticness alone, every pixel trains", use_masks=False),
    "das3r-no-staticness": BenchMethod(
        "ablation: masks alone, every Gaussian is static",
        overrides={"staticness_prior_weight": 0.0},
        learns_staticness=False,
    ),
    "das3r-no-refinement": BenchMethod(
        "ablation: the static weight stays as the front end gave it", overrides={"refine_static_weight": False}
    ),
    "das3r-no-depth": BenchMethod(
        "ablation: colours alone decide on depth, the front end's does not train", overrides={"depth_weight": 0.0}
    ),
    "das3r-no-camera-refinement": BenchMethod(
        "ablation: training leaves the cameras as they were given", overrides={"camera_optimizer": {"mode": "off"}}
    ),
    "das3r-many-gaussians": BenchMethod(
        "ablation: as many Gaussians as densification asks for", overrides={"max_gaussians": 1_000_000}
    ),
    "das3r-degree-3": BenchMethod("ablation: spherical harmonics of degree 3", overrides={"sh_degree": 3}),
    "splatfacto": BenchMethod("nerfstudio's splatfacto on das3r's cameras, without masks", baseline=True),
    "splatfacto-masks": BenchMethod("the same with das3r's masks as hard masks", baseline=True),
    "robust": BenchMethod("the same with RobustNeRF's trimmed residuals instead of masks", baseline=True),
}


def check_methods(names: tuple[str, ...]) -> None:
    """Raise a :class:`Das3rError` for a name that is none of METHODS."""
    for name in names:
        if name not in METHODS:
            raise Das3rError(f"There is no method '{name}' (--methods). There are: {', '.join(METHODS)}.")


def method_config(name: str, base: str, iterations: int | None = None) -> TrainerConfig:
    """Configuration of a method, with a :class:`BenchDataParserConfig` for its data.

    Args:
        name: One of METHODS.
        base: The preset that ablations and baselines follow.
        iterations: Length of the run; the preset's where None.
    """
    from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

    from das3r_ns.data.dataset import Das3rDataManagerConfig
    from das3r_ns.evaluation.baselines import baseline_config
    from das3r_ns.evaluation.bench_data import BenchDataParserConfig
    from das3r_ns.presets import apply_overrides, trainer_config

    method = METHODS[name]
    if method.baseline:
        return baseline_config(name, base, iterations)  # pyright: ignore[reportArgumentType]
    config = trainer_config(method.preset or base)
    assert isinstance(config.pipeline, VanillaPipelineConfig)
    data = config.pipeline.datamanager
    assert isinstance(data, Das3rDataManagerConfig)
    data.dataparser = BenchDataParserConfig.like(data.dataparser, use_masks=method.use_masks)
    apply_overrides(config.pipeline.model, method.overrides, f"The method {name}")
    if not method.learns_staticness:
        config.optimizers["staticness"]["optimizer"].lr = 0.0
    if iterations is not None:
        config.max_num_iterations = iterations
    config.method_name = name
    return config
