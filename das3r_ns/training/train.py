"""The training of the mask heads, from what is on disk to a checkpoint that the front end takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from das3r_ns.errors import Das3rError
from das3r_ns.files import check_output_directory, write_json
from das3r_ns.frontend.network.monst3r import hub
from das3r_ns.frontend.network.monst3r.checkpoints import load_network
from das3r_ns.frontend.network.monst3r.compute import Compute, choose_compute
from das3r_ns.frontend.network.monst3r.identity import checkpoint_identity
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.progress import Progress
from das3r_ns.training.clips import TrainingClip, find_folders, gather_clips
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.evaluate import Scores, evaluate
from das3r_ns.training.groups import Batch, Group, load_batch, plan_epoch, split
from das3r_ns.training.heads import mask_heads, with_mask_heads
from das3r_ns.training.loss import loss_of
from das3r_ns.training.state import (
    CHECKPOINT,
    MARKER,
    TrainingState,
    begin,
    check_resumable,
    check_room,
    write_checkpoint,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

WARM_UP = 100
"""Steps over which the learning rate rises from nothing: AdamW knows no scale of the gradients at first."""


def train_network(config: TrainingConfig, progress: Progress) -> Path:
    """Train the mask heads on top of a checkpoint, or go on where that was interrupted.

    Args:
        config: What to train on, how, and where to write it.
        progress: Where to report.

    Returns:
        The folder of the checkpoint with the highest J.

    Raises:
        Das3rError: Data, checkpoint, output folder or device cannot be used, or the numbers overflow.
    """
    config.check()
    check_output_directory(config.output_dir, MARKER)
    hub.local_checkpoint(config.checkpoint)  # a path that does not exist says so before anything else is done
    folders = find_folders(config)
    compute = choose_compute(config.device, config.precision)
    path = hub.find_checkpoint(config.checkpoint, progress)
    identity = checkpoint_identity(path)
    check_resumable(config, identity)
    with progress.stage("Loading the network"):
        network = with_mask_heads(load_network(path), config.seed, progress)
    check_room(network, config.output_dir)
    begin(config, identity)
    training, held_out = split(gather_clips(folders, config, progress), config.held_out, config.seed)
    _Training(network, training, held_out, compute, config, progress).run()
    return config.output_dir / CHECKPOINT


class _Training:
    """One run of :func:`train_network`."""

    def __init__(
        self,
        network: PairNetwork,
        training: Sequence[TrainingClip],
        held_out: Sequence[TrainingClip],
        compute: Compute,
        config: TrainingConfig,
        progress: Progress,
    ) -> None:
        self.network, self.compute = network.to(compute.device), compute
        self.training, self.held_out = list(training), list(held_out)
        self.config, self.progress = config, progress
        self.heads = torch.nn.ModuleList(mask_heads(network))
        self.optimizer = torch.optim.AdamW(self.heads.parameters(), lr=config.learning_rate)
        # Gradients in float16 would vanish; where the precision is another one this does nothing.
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.autocast == torch.float16)
        self.state = TrainingState.load(config.output_dir) or TrainingState()
        if self.state.heads:
            self.heads.load_state_dict(self.state.heads)
            self.optimizer.load_state_dict(self.state.optimizer)
            self.scaler.load_state_dict(self.state.scaler)
        self.saved, self.saved_step = time.monotonic(), self.state.step

    def run(self) -> None:
        """All epochs that are left."""
        state, config = self.state, self.config
        clips = {kind: len({clip.name for clip in part}) for kind, part in self._parts().items()}
        self.progress.say(
            f"Training on {clips['training']} clips ({sum(len(clip.frames) for clip in self.training)} frames), "
            f"{clips['held out']} held out, on {self.compute.device} in {self.compute.precision}: "
            f"{sum(value.numel() for value in self.heads.parameters()) / 1e6:.1f} million weights of the mask heads."
        )
        if state.step:
            self.progress.say(f"Goes on in epoch {state.epoch + 1}, after {state.step} steps.")
        # Imported late: TensorBoard takes seconds.
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(config.output_dir / "logs"), purge_step=state.step) as log:
            if not state.step:
                self._measure(log, 0.0)
            while state.epoch < config.epochs:
                self._epoch(log)
                loss = float(np.mean(state.losses))
                state.epoch, state.batch, state.losses = state.epoch + 1, 0, []
                self._measure(log, loss)
                self._save()

    def _parts(self) -> dict[str, list[TrainingClip]]:
        return {"training": self.training, "held out": self.held_out}

    def _epoch(self, log: SummaryWriter) -> None:
        state = self.state
        plan = plan_epoch(self.training, self.config, state.epoch)
        with self.progress.stage(f"Epoch {state.epoch + 1} of {self.config.epochs}", len(plan)) as advance:
            for _ in range(state.batch):
                advance()
            try:
                for batch in self._batches(plan):
                    loss = self._step(batch)
                    state.losses.append(loss)
                    state.batch, state.step = state.batch + 1, state.step + 1
                    log.add_scalar("loss", loss, state.step)
                    advance()
                    if time.monotonic() - self.saved > 60.0 * self.config.save_minutes:
                        self._save()
            except KeyboardInterrupt:  # perhaps in the middle of a step: what was saved before it is whole
                self.progress.say(f"The state after step {self.saved_step} is kept; the same command goes on from it.")
                raise

    def _batches(self, plan: list[list[Group]]) -> Iterator[Batch]:
        """What is left of an epoch; the next batch is read while one is computed."""

        def read(number: int) -> Batch:
            return load_batch(plan[number], self.config.seed, epoch, number)

        epoch = self.state.epoch
        first = self.state.batch
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(read, first) if first < len(plan) else None
            for number in range(first, len(plan)):
                assert coming is not None
                batch = coming.result()
                coming = pool.submit(read, number + 1) if number + 1 < len(plan) else None
                yield batch

    def _step(self, batch: Batch) -> float:
        """One step of AdamW; the same for the same state, whatever came before."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.state.step)
        device = self.compute.device
        self.heads.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (self.state.step + 1) / WARM_UP)
        try:
            loss = loss_of(self.network, Batch(batch.images.to(device), batch.masks.to(device)), self.compute.autocast)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        except torch.cuda.OutOfMemoryError:
            height, width = batch.masks.shape[-2:]
            raise Das3rError(
                f"The GPU has too little memory for {len(batch.masks)} groups of {batch.masks.shape[1]} frames of "
                f"{width} x {height} pixels. Take fewer (--batch-size 1), smaller groups (--group-size 2) or smaller "
                "frames (--network-size 384)."
            ) from None
        value = float(loss.detach())
        if not np.isfinite(value):
            raise Das3rError(
                f"The loss is no number in step {self.state.step + 1} ({self.compute.precision}). Train in float32 "
                "or bfloat16 (--precision), at a lower rate (--learning-rate), or from another checkpoint; the state "
                "before is kept."
            )
        return value

    def _measure(self, log: SummaryWriter, loss: float) -> None:
        """J on the held-out clips; the checkpoint is written where none before was higher."""
        state = self.state
        self.heads.eval()
        with self.progress.stage("Held-out clips"):
            scores = evaluate(self.network, self.held_out, self.compute)
        if not scores.j_everything:
            raise Das3rError(
                f"Nothing moves in the clips that are held out ({self.held_out[0].name}, ...): their masks are black, "
                "and J cannot be measured. Hold out more of them (--held-out), others (--seed), or add clips."
            )
        self._record(log, loss, scores)
        if scores.j >= state.best and state.step:
            state.best = scores.j
            write_checkpoint(self.network, self.config.output_dir / CHECKPOINT)

    def _record(self, log: SummaryWriter, loss: float, scores: Scores) -> None:
        state = self.state
        measured = {
            "epoch": state.epoch,
            "step": state.step,
            "loss": loss,
            "j": scores.j,
            "j_everything": scores.j_everything,
            "false_alarms": scores.false_alarms,
        }
        state.curves.append(measured)
        write_json(self.config.output_dir / "curves.json", state.curves)
        for name in ("j", "j_everything", "false_alarms"):
            log.add_scalar(f"held out/{name}", measured[name], state.step)
        for number, picture in enumerate(scores.shown):
            log.add_image(f"held out/{number}", picture, state.step, dataformats="HWC")
        said = f"loss {loss:.4f}, " if state.step else "before training: "
        self.progress.say(
            f"Epoch {state.epoch}: {said}J {scores.j:.3f} on held-out clips (marking everything: "
            f"{scores.j_everything:.3f}), false alarms {100 * scores.false_alarms:.1f} %."
        )

    def _save(self) -> None:
        state = self.state
        state.heads = self.heads.state_dict()
        state.optimizer, state.scaler = self.optimizer.state_dict(), self.scaler.state_dict()
        state.save(self.config.output_dir)
        self.saved, self.saved_step = time.monotonic(), state.step
