"""The baselines: what they train on, and that they train without CUDA and a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.models import splatfacto
from nerfstudio.models.splatfacto import SplatfactoModel

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.baselines import RobustSplatfactoModel, robust_mask, splatfacto_anywhere
from das3r_ns.evaluation.measured_training import train
from das3r_ns.evaluation.methods import METHODS, check_methods, method_config


def test_what_moves_is_trimmed_and_thin_structure_is_kept() -> None:
    residual = torch.zeros(64, 96)
    residual[16:48, 32:64] = 1.0  # a mover
    residual[5, :] = 1.0  # a wire that is not learnt yet
    mask = robust_mask(residual, 0.5)
    assert mask[5].all()
    assert not mask[24:40, 40:56].any()
    assert mask[:, :24].all() and mask[:, 72:].all() and mask[56:].all()


def test_robust_mask_by_hand() -> None:
    residual = torch.ones(16, 16)
    assert not robust_mask(residual, 0.5).any() and robust_mask(residual, 1.0).all()
    residual[::2] = 0  # every second row fits: half of the pixels, which is not enough for a patch
    mask = robust_mask(residual, 0.5)
    assert mask[::2].all()
    # A row that does not fit lies between two that do: 6 of 9. The last has one: 3 of 6.
    assert mask[1:15].all() and not mask[15].any()


@pytest.mark.parametrize("shape", [(37, 53), (8, 8), (17, 90)])
def test_robust_mask_at_any_size(shape: tuple[int, int]) -> None:
    residual = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    mask = robust_mask(residual, 0.5)
    assert mask.shape == shape and mask[residual <= 0.5].all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_a_configuration(name: str) -> None:
    config = method_config(name, "das3r-light", 77)
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    assert config.method_name == name and config.max_num_iterations == 77
    assert parser.keep_dynamic_points == (name in ("splatfacto", "robust"))
    assert parser.use_masks == (name not in ("splatfacto", "robust", "das3r-no-masks"))
    light = method_config("das3r-light", "das3r-light")
    if METHODS[name].preset is None:
        expected = light.pipeline.datamanager.dataparser.front_end  # pyright: ignore[reportAttributeAccessIssue]
        assert parser.front_end == expected


def test_ablations_change_what_they_are_named_after_and_nothing_else() -> None:
    light = method_config("das3r-light", "das3r-light").pipeline.model
    changed = {}
    for name in ("das3r-no-masks", "das3r-no-staticness", "das3r-no-refinement", "das3r-no-depth"):
        model = method_config(name, "das3r-light").pipeline.model
        fields = (f.name for f in dataclasses.fields(light))
        changed[name] = [f for f in fields if getattr(model, f) != getattr(light, f)]
    assert changed == {
        "das3r-no-masks": [],
        "das3r-no-staticness": ["staticness_prior_weight"],
        "das3r-no-refinement": ["refine_static_weight"],
        "das3r-no-depth": ["depth_weight"],
    }
    assert method_config("das3r-no-staticness", "das3r").optimizers["staticness"]["optimizer"].lr == 0
    assert method_config("das3r", "das3r").optimizers["staticness"]["optimizer"].lr > 0


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(Das3rError, match=r"no method 'splatfacts'.*splatfacto"):
        check_methods(("das3r", "splatfacts"))


@pytest.mark.parametrize("name", ["splatfacto", "splatfacto-masks", "robust"])
def test_baselines_train(name: str, demo_video, oracle_front_end, tmp_path: Path, monkeypatch) -> None:
    from das3r_ns.scene import cache

    monkeypatch.setattr(cache, "cache_roots", lambda _: [tmp_path / "cache"])
    config = method_config(name, "das3r-light", 3)
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.data, parser.max_points, parser.eval_split = demo_video.folder / "frames", 1500, "paper"
    config.output_dir = tmp_path / "runs"
    untouched = vars(splatfacto)["rasterization"]
    with splatfacto_anywhere():
        pipeline, cost = train(config)
        assert isinstance(pipeline.model, SplatfactoModel)
        pipeline.model.train()
        camera, batch = pipeline.datamanager.next_train(5)
        outputs = pipeline.model.get_outputs(camera)  # pyright: ignore[reportArgumentType]
        loss = pipeline.model.get_loss_dict(outputs, batch)["main_loss"]
    assert vars(splatfacto)["rasterization"] is untouched
    assert torch.isfinite(loss) and cost["wall_s"] > 0
    assert len(pipeline.datamanager.train_dataset) == 11  # pyright: ignore[reportArgumentType]
    masks = batch["mask"].float().mean()
    assert masks < 1 if name == "splatfacto-masks" else masks == 1
    assert isinstance(pipeline.model, RobustSplatfactoModel) == (name == "robust")
    if isinstance(pipeline.model, RobustSplatfactoModel):
        assert pipeline.model.threshold is not None and pipeline.model.threshold > 0
    assert np.isfinite(pipeline.model.means.detach().cpu().numpy()).all()
