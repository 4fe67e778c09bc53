"""The trainer: checkpoints that open and resume, a Ctrl-C that saves, and defaults that suit the machine."""

from __future__ import annotations

import gc
import os
import resource
import signal
import weakref
from pathlib import Path
from typing import cast

import pytest
import torch
import yaml
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from torch.amp.grad_scaler import GradScaler

from das3r_ns.data.dataset import Das3rDataManagerConfig
from das3r_ns.errors import Das3rError, Das3rExit
from das3r_ns.presets import trainer_config
from das3r_ns.rasterization import backend
from das3r_ns.splats.checkpoints import save_atomically
from das3r_ns.splats.optimizers import GatedOptimizers, das3r_optimizers, fit_schedules, scale_positions
from das3r_ns.splats.schedulers import PlainDecayConfig, SettlingConfig
from das3r_ns.splats.trainer import Das3rTrainer, Das3rTrainerConfig

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


def test_a_full_disk_is_told_from_a_gpu_that_failed(tmp_path, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Das3rExit, match=r"cannot be written \(\[Errno 27\].*Free some disk space"):
            save_atomically({"a": torch.ones(1_000_000)}, tmp_path / "models" / "step.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def failed(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", failed)
    with pytest.raises(RuntimeError, match="CUDA error"):
        save_atomically({"a": torch.ones(2)}, tmp_path / "models" / "step.ckpt")
    assert [item.name for item in tmp_path.rglob("*")] == ["models"]


def test_several_gpus_are_refused_before_nerfstudio_starts_a_process_for_each(tmp_path):
    config = Das3rTrainerConfig(method_name="das3r", data=tmp_path, output_dir=tmp_path / "out")
    config.machine.num_devices = 2
    with pytest.raises(Das3rExit, match="on one device, not on 2"):
        config.save_config()
    assert not (tmp_path / "out").exists()
    with pytest.raises(Das3rExit, match="on one device, not on 2"):
        Das3rTrainer(config, world_size=2).setup()


@pytest.fixture()
def gpu_without_kernels(monkeypatch):
    """A machine with a GPU on which gsplat's kernels turn out to be broken when they are compiled."""
    monkeypatch.setattr(backend, "_said", [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend, "expected_obstacle", lambda: None)
    monkeypatch.setattr(backend, "obstacle", lambda: "No compiler.")


def device_of(trainer: Das3rTrainer, monkeypatch) -> str:
    """Where the trainer is when the data would be loaded."""

    def stop(*_: object, **__: object) -> None:
        raise Das3rExit("the data")

    monkeypatch.setattr("nerfstudio.engine.trainer.Trainer.setup", stop)
    with pytest.raises(Das3rExit, match="the data"):
        trainer.setup()
    return str(trainer.device)


def test_a_failed_build_moves_the_training_to_the_cpu_before_the_front_end(
    gpu_without_kernels, tmp_path, monkeypatch, capsys
):
    config = Das3rTrainerConfig(method_name="das3r", data=tmp_path, experiment_name="x", timestamp="now")
    assert config.machine.device_type == "cuda"
    assert device_of(Das3rTrainer(config), monkeypatch) == "cpu"
    assert config.machine.device_type == "cpu"
    assert "No compiler. Training runs on the CPU." in capsys.readouterr().err


def test_a_gpu_that_was_named_is_kept(gpu_without_kernels, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ns-train", "das3r", "--machine.device_type", "cuda"])
    config = Das3rTrainerConfig(
        method_name="das3r", machine=MachineConfig(device_type="cuda"), experiment_name="x", timestamp="now"
    )
    assert device_of(Das3rTrainer(config), monkeypatch) == "cuda:0"
    assert "No compiler. das3r's CPU kernels render, and copy from the GPU and back." in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Das3rExit, match=r"No compiler\. Leave out --machine\.device-type"):
        Das3rTrainer(config).setup()


def test_where_no_kernels_are_to_be_had_the_cpu_is_the_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(backend, "_nvcc", lambda: None)
    assert Das3rTrainerConfig(method_name="das3r").machine.device_type == "cpu"
    monkeypatch.setattr(backend, "_nvcc", lambda: Path("/opt/cuda/bin/nvcc"))
    assert Das3rTrainerConfig(method_name="das3r").machine.device_type == "cuda"


def test_defaults_suit_the_machine_and_keep_to_it():
    config = Das3rTrainerConfig(method_name="das3r")
    assert config.machine.device_type == ("cpu" if backend.expected_obstacle() else "cuda")
    assert config.viewer.websocket_host == "127.0.0.1"
    config.viewer = ViewerConfig()  # as ns-viewer does
    assert config.viewer.websocket_host == "127.0.0.1"


def test_config_yml_names_whole_paths_so_that_the_run_opens_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = trainer_config("das3r-light")
    config.timestamp, config.output_dir = "now", Path("out")
    config.data = config.pipeline.datamanager.data = Path("video")
    manager = cast(Das3rDataManagerConfig, config.pipeline.datamanager)
    manager.dataparser.front_end.masks_dir = Path("masks")
    config.save_config()
    stored = yaml.load(next(tmp_path.glob("out/*/*/now/config.yml")).read_text(), yaml.Loader)
    manager = stored.pipeline.datamanager
    assert (stored.output_dir, stored.data, manager.data) == (tmp_path / "out", tmp_path / "video", tmp_path / "video")
    assert manager.dataparser.front_end.masks_dir == tmp_path / "masks"
    assert manager.dataparser.data == Path()
    assert not stored.relative_model_dir.is_absolute()


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


def test_cameras_come_to_rest_before_the_end():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-2)
    scheduler = SettlingConfig(until=0.6, max_steps=10).setup().get_scheduler(optimizer, 1e-2)
    rates = []
    for _ in range(12):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1e-2) and rates[3] == pytest.approx(5e-3)
    assert rates == sorted(rates, reverse=True) and rates[6:] == [0.0] * 6
    assert all(type(value) in (int, float, list, bool, type(None)) for value in scheduler.state_dict().values())


def test_schedules_last_as_long_as_the_run():
    fitted = fit_schedules(das3r_optimizers(), 123)
    assert fitted["means"]["scheduler"].max_steps == fitted["camera_opt"]["scheduler"].max_steps == 123
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
