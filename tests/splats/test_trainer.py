"""The trainer: checkpoints that open and resume, a Ctrl-C that saves, and defaults that suit the machine."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from pathlib import Path

import pytest
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from torch.amp.grad_scaler import GradScaler

from das3r_ns.errors import Das3rError, Das3rExit
from das3r_ns.splats.checkpoints import save_atomically
from das3r_ns.splats.optimizers import GatedOptimizers, das3r_optimizers, fit_schedules, scale_positions
from das3r_ns.splats.schedulers import PlainDecayConfig
from das3r_ns.splats.trainer import Das3rTrainerConfig

DENSIFYING = {"warmup_length": 2, "refine_every": 4, "densify_grad_thresh": 1e-9}


def checkpoint(trainer) -> Path:
    """The only checkpoint there is."""
    (path,) = trainer.checkpoint_dir.iterdir()
    return path


def test_training_resumed_after_a_densification_goes_on(make_trainer):
    first = make_trainer(steps=10, max_gaussians=4000, **DENSIFYING)
    before = first.pipeline.model.num_points
    first.train()
    grown = first.pipeline.model.num_points
    assert grown > before
    path = checkpoint(first)
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert not any("lpips" in key for key in state["pipeline"])

    second = make_trainer(steps=1, config={"load_checkpoint": path}, max_gaussians=4100, **DENSIFYING)
    model = second.pipeline.model
    assert model.num_points == grown
    for name, parameter in model.gauss_params.items():
        torch.testing.assert_close(parameter, first.pipeline.model.gauss_params[name])
        optimizer = second.optimizers.optimizers[name]
        assert optimizer.param_groups[0]["params"][0] is parameter
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
    start = {name: parameter.detach().clone() for name, parameter in model.gauss_params.items()}
    second.train()  # step 10
    assert all((model.gauss_params[name] != value).any() for name, value in start.items() if name != "features_rest")
    second._start_step, second.config.max_num_iterations = 11, 3
    second.train()  # through the densification of step 12
    assert model.num_points > grown


def test_a_checkpoint_that_does_not_fit_is_refused(make_trainer):
    trainer = make_trainer(steps=2)
    state = trainer.pipeline.state_dict()
    del state["_model.gauss_params.staticness"]
    state["_model.gauss_params.colours"] = torch.zeros(3)
    with pytest.raises(Das3rExit, match=r"Missing: gauss_params\.staticness; unknown: gauss_params\.colours"):
        trainer.pipeline.load_pipeline(state, 2)


def test_ctrl_c_saves_after_the_step_and_leaves(make_trainer, monkeypatch):
    trainer = make_trainer(steps=1000)
    step = trainer.train_iteration

    def interrupted_at_three(number: int):
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(number)

    monkeypatch.setattr(trainer, "train_iteration", interrupted_at_three)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    path = checkpoint(trainer)
    assert path.name == "step-000000003.ckpt"
    resumed = make_trainer(steps=2, config={"load_dir": path.parent})
    resumed.train()
    assert checkpoint(resumed).name == "step-000000005.ckpt"


def test_ctrl_c_before_the_first_step_leaves_at_once(make_trainer, monkeypatch):
    trainer = make_trainer(steps=5)

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer, "_init_viewer_state", interrupted)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 130


def test_errors_of_the_data_leave_with_one_paragraph(make_trainer):
    with pytest.raises(SystemExit) as left:
        make_trainer(data=Path("/nowhere/at/all"))
    assert "/nowhere/at/all" in str(left.value)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "models" / "step.ckpt"
    save_atomically({"a": torch.ones(2)}, path)
    assert [item.name for item in tmp_path.iterdir()] == ["models"]
    (tmp_path / "file").write_text("")
    with pytest.raises(Das3rError, match="cannot be written"):
        save_atomically({"a": 1}, tmp_path / "file" / "models" / "step.ckpt")


def test_defaults_suit_the_machine_and_keep_to_it():
    config = Das3rTrainerConfig(method_name="das3r")
    assert config.machine.device_type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert config.viewer.websocket_host == "127.0.0.1"
    config.viewer = ViewerConfig()  # as ns-viewer does
    assert config.viewer.websocket_host == "127.0.0.1"


def test_a_host_that_was_asked_for_is_kept(monkeypatch):
    monkeypatch.setattr("sys.argv", ["ns-viewer", "--viewer.websocket-host", "0.0.0.0"])
    config = Das3rTrainerConfig(method_name="das3r")
    config.viewer = ViewerConfig()
    assert config.viewer.websocket_host == "0.0.0.0"


def test_schedules_leave_plain_numbers():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-2)
    scheduler = PlainDecayConfig(lr_final=1e-4, max_steps=10).setup().get_scheduler(optimizer, 1e-2)
    rates = []
    for _ in range(12):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[5] == pytest.approx(1e-3)
    assert rates[10:] == pytest.approx([1e-4, 1e-4])
    assert all(type(rate) is float for rate in rates)
    assert all(type(value) in (int, float, list, bool, type(None)) for value in scheduler.state_dict().values())


def test_schedules_last_as_long_as_the_run():
    fitted = fit_schedules(das3r_optimizers(), 123)
    assert fitted["means"]["scheduler"].max_steps == 123
    assert fit_schedules(das3r_optimizers(50), 123)["means"]["scheduler"].max_steps == 50


def test_positions_step_in_units_of_the_scene():
    groups = das3r_optimizers(100)
    scaled = scale_positions(groups, 3.0)
    assert scaled["means"]["optimizer"].lr == pytest.approx(3 * groups["means"]["optimizer"].lr)
    assert scaled["means"]["scheduler"].lr_final == pytest.approx(3 * groups["means"]["scheduler"].lr_final)
    assert groups["means"]["optimizer"].lr == 1.6e-4


def test_what_a_densification_replaced_is_let_go(make_trainer):
    trainer = make_trainer(steps=10, max_gaussians=4000, **DENSIFYING)
    first = weakref.ref(trainer.pipeline.model.gauss_params["means"])
    trainer.train()
    model = trainer.pipeline.model
    assert trainer.optimizers.parameters["means"][0] is model.gauss_params["means"]
    gc.collect()
    assert first() is None


def test_the_switch_on_the_device_is_a_closed_gate():
    """What GatedOptimizers relies on where it cannot look: a fused Adam told of infinities does nothing at all."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
    for closed, expected in ((0.0, -0.1), (1.0, -0.1), (0.0, -0.2)):
        parameter.grad = torch.ones(2)
        optimizer.found_inf = torch.tensor(closed)  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        assert parameter[0].item() == pytest.approx(expected)
    assert optimizer.state[parameter]["step"] == 2


def test_a_closed_gate_stops_the_momentum_too():
    parameters = {name: torch.nn.Parameter(torch.zeros(2)) for name in ("camera_opt", "means")}
    config = {name: {"optimizer": AdamOptimizerConfig(lr=0.1), "scheduler": None} for name in parameters}
    is_open = True
    optimizers = GatedOptimizers(
        config, {name: [value] for name, value in parameters.items()}, {"camera_opt": lambda: is_open}
    )
    scaler = GradScaler("cpu", enabled=False)

    def step() -> tuple[float, float]:
        for parameter in parameters.values():
            parameter.grad = torch.ones(2)
        optimizers.optimizer_scaler_step_some(scaler, list(parameters))
        return parameters["camera_opt"][0].item(), parameters["means"][0].item()

    assert step() == pytest.approx((-0.1, -0.1))
    is_open = False
    assert step() == pytest.approx((-0.1, -0.2))
    is_open = True
    assert step()[0] < -0.15
