"""nerfstudio's trainer, made to work without a GPU or a network, to resume, and to stop cleanly."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import writer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE

from das3r_ns.errors import Das3rError, Das3rExit
from das3r_ns.files import make_paths_whole
from das3r_ns.rasterization import backend
from das3r_ns.rasterization.cpu_settings import cpu_settings
from das3r_ns.splats.checkpoints import save_atomically
from das3r_ns.splats.optimizers import GatedOptimizers, fit_schedules, scale_positions

if TYPE_CHECKING:
    from das3r_ns.splats.model import Das3rModel

LOCALHOST = "127.0.0.1"
KEPT = "scene"
"""Folder of a run with what is needed to open it without the video."""
INTERRUPTED = 130
"""Exit code of a program that Ctrl-C stopped, by the shell's convention."""


def default_machine() -> MachineConfig:
    """CUDA where gsplat's kernels may be had, else the CPU; nerfstudio's default is CUDA everywhere."""
    return MachineConfig(device_type="cuda" if backend.expected_obstacle() is None else "cpu")


@dataclass
class Das3rTrainerConfig(TrainerConfig):
    """Training of a das3r method."""

    _target: type = field(default_factory=lambda: Das3rTrainer)
    """target class to instantiate"""
    machine: MachineConfig = field(default_factory=default_machine)
    """Machine configuration"""
    viewer: ViewerConfig = field(default_factory=lambda: ViewerConfig(websocket_host=LOCALHOST))
    """Viewer configuration"""

    def __setattr__(self, name: str, value: Any) -> None:
        # ns-viewer puts its own viewer settings here, which listen on every network of the machine by default.
        if name == "viewer" and value.websocket_host == "0.0.0.0" and not _host_was_named():
            value.websocket_host = LOCALHOST
        super().__setattr__(name, value)

    def save_config(self) -> None:
        """Write config.yml, the first thing that ns-train does.

        Raises:
            Das3rExit: The folder cannot be made or written, or several GPUs are asked for.
        """
        # Here, before nerfstudio starts a process for each of them, in which a refusal would be a traceback.
        _refuse_several_devices(self.machine.num_devices * self.machine.num_machines)
        make_paths_whole(self)
        try:
            super().save_config()
        except OSError as error:
            raise Das3rExit(
                f"Nothing can be written to {self.get_base_dir()} ({error}). Choose another folder with --output-dir."
            ) from None


def _host_was_named() -> bool:
    return _was_named("websocket-host")


def _was_named(option: str) -> bool:
    return any(option in argument.replace("_", "-") for argument in sys.argv[1:])


def _refuse_several_devices(number: int) -> None:
    if number > 1:
        raise Das3rExit(
            f"das3r trains on one device, not on {number}: each would densify by its own frames, and after that their "
            "Gaussians no longer correspond. Leave out --machine.num-devices and --machine.num-machines."
        )


class Das3rTrainer(Trainer):
    """Trainer with a gate for the cameras, learning rates in units of the scene, and a Ctrl-C that saves.

    The first Ctrl-C ends the training after the step that is running, so that the checkpoint never holds half a
    densification; the second stops at once.
    """

    config: Das3rTrainerConfig

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Choose the device, load the data (running the front end if need be), build the model and its optimizers.

        Raises:
            Das3rExit: The device, the data or the checkpoint cannot be used.
            SystemExit: Ctrl-C.
        """
        _refuse_several_devices(self.world_size)
        try:
            self._choose_device()
            self._choose_size()
            super().setup(test_mode)
            if test_mode == "val":
                self._keep_scene()
                self.config.save_config()  # which now says which front end "auto" was, and what is kept
        except Das3rExit:
            raise
        except Das3rError as error:
            raise Das3rExit(str(error)) from None
        except KeyboardInterrupt:
            _leave("Interrupted before the first step; there is no checkpoint.")

    def _keep_scene(self) -> None:
        """Have the run keep what is needed to open it without the video, where its data can."""
        keep = getattr(getattr(self.pipeline.datamanager, "dataparser", None), "keep", None)
        if keep is not None:
            keep(self.config.get_base_dir().absolute() / KEPT)

    def _choose_device(self) -> None:
        """Compile gsplat's kernels if need be; without them, train on the CPU unless the user named the device."""
        on_cuda, named = torch.device(self.device).type == "cuda", _was_named("device-type")
        reason = backend.obstacle() if on_cuda else backend.expected_obstacle()
        if reason is None or (named and not on_cuda):
            return
        if named and not torch.cuda.is_available():
            raise Das3rExit(f"{reason} Leave out --machine.device-type.")
        if named:
            backend.uses_cuda_kernels(self.device)  # says that every step copies
            return
        backend.say_once(f"{reason} Training runs on the CPU.")
        self.config.machine.device_type = "cpu"
        self.device, self.mixed_precision = "cpu", False  # as nerfstudio's trainer has it on a CPU

    def _choose_size(self) -> None:
        """Resolve the train-size 'auto', if the data have one: on a CPU the video's own size takes hours."""
        parser = getattr(getattr(self.config.pipeline, "datamanager", None), "dataparser", None)
        if torch.device(self.device).type == "cpu" and getattr(parser, "train_size", None) == "auto":
            parser.train_size = "working"  # pyright: ignore[reportOptionalMemberAccess]

    def setup_optimizers(self) -> Optimizers:
        """Optimizers of all parameter groups; the cameras' is gated."""

        model = cast("Das3rModel", self.pipeline.model)
        scale = model.position_scale(self.pipeline.datamanager.train_dataset.cameras)  # pyright: ignore[reportOptionalMemberAccess]
        return GatedOptimizers(
            scale_positions(fit_schedules(self.config.optimizers, self.config.max_num_iterations), scale),
            self.pipeline.get_param_groups(),
            gates={"camera_opt": model.camera_gate_open},
        )

    def train(self) -> None:
        """Train the model.

        Raises:
            SystemExit: Ctrl-C; the checkpoint has been written, if a step was done.
        """
        self._last_step: int | None = None
        self._interrupted = False
        try:
            on_cuda = backend.uses_cuda_kernels(self.device)
            with self._deferred_interrupt(), nullcontext() if on_cuda else cpu_settings():
                super().train()
        except KeyboardInterrupt:
            _leave("Interrupted at once; the last checkpoint, if any, is the one of the last save.")

    def train_iteration(self, step: int) -> Any:
        """Run one step; see nerfstudio."""
        result = super().train_iteration(step)
        self._last_step = step
        return result

    @contextmanager
    def _deferred_interrupt(self) -> Iterator[None]:
        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if self._interrupted or self._last_step is None or self.training_state == "completed":
                raise KeyboardInterrupt
            self._interrupted = self.stop_training = True
            CONSOLE.print("\nStopping after this step; Ctrl-C again stops at once.")

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        previous = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _after_train(self) -> None:
        if not self._interrupted:
            super()._after_train()
            return
        assert self._last_step is not None
        self.step = self._last_step
        self.save_checkpoint(self.step)
        writer.write_out_storage()
        _leave(
            f"Stopped after step {self.step}; the checkpoint is in {self.checkpoint_dir}. Go on with the same command "
            f"and --load-dir {self.checkpoint_dir}: that trains {self.config.max_num_iterations} steps more."
        )

    def _train_complete_viewer(self) -> None:
        try:
            super()._train_complete_viewer()
        except KeyboardInterrupt:
            CONSOLE.print("Viewer closed.")

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Write the checkpoint of ``step``, then delete the older ones if so configured.

        Raises:
            Das3rExit: It cannot be written.
        """
        pipeline = getattr(self.pipeline, "module", self.pipeline)
        path = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        contents = {
            "step": step,
            "pipeline": pipeline.state_dict(),
            "optimizers": {name: item.state_dict() for name, item in self.optimizers.optimizers.items()},
            "schedulers": {name: item.state_dict() for name, item in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        save_atomically(contents, path)
        if self.config.save_only_latest_checkpoint:
            for other in self.checkpoint_dir.glob("*.ckpt"):
                if other != path:
                    other.unlink()


def _leave(message: str) -> NoReturn:
    CONSOLE.print(message)
    raise SystemExit(INTERRUPTED)
