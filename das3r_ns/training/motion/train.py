"""The training of the motion head, from drawn clips to a file of weights that the front end takes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from das3r_ns import __version__
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.machine import commit, describe_machine
from das3r_ns.files import check_output_directory, write_json
from das3r_ns.frontend.choice import FRONT_ENDS
from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.frontend.geometric.head.weights import FORMAT, save_head
from das3r_ns.progress import Progress
from das3r_ns.training.motion.batches import PICTURE, Batch, load_batch
from das3r_ns.training.motion.clips import gather_records, split
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.evaluate import evaluate, of_head, of_rules
from das3r_ns.training.motion.loss import loss_of
from das3r_ns.training.motion.record import Record
from das3r_ns.training.state import TrainingState, begun_with, check_settings

MARKER = "motion_training.json"
"""Says what an output folder was started with."""
WEIGHTS, CURVES = "motion_head.safetensors", "curves.json"
WARM_UP = 100
"""Steps over which the learning rate rises from nothing."""
AVERAGED = 0.998
"""Share of the averaged weights that a step keeps, once many are done: they are what is measured and written."""
DECAY = 1e-2
"""Weight decay of AdamW."""
STEEPEST = 1.0
"""Longest gradient of a step."""
SOME = 3
"""Every so many frames of the held-out clips are looked at while it trains; at last all are."""


def train_motion(config: MotionTrainingConfig, progress: Progress) -> Path:
    """Draw clips, show them to the front end and train the head on what it saw, or go on where that was interrupted.

    Args:
        config: What to train on, how, and where to write it.
        progress: Where to report.

    Returns:
        The file of the weights.

    Raises:
        Das3rError: The output folder or a file in it cannot be used, or the numbers overflow.
    """
    config.check()
    check_output_directory(config.output_dir, MARKER)
    begun = begun_with(config, MARKER)
    if begun is not None:
        check_settings(config, begun)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    write_json(config.output_dir / MARKER, {"head": FORMAT, "settings": config.decisive()})
    training, held_out = split(gather_records(config, progress), config.held_out, config.seed)
    return _Training(training, held_out, config, progress).run()


class _Training:
    """One run of :func:`train_motion`, once its clips are recorded."""

    def __init__(
        self, training: list[Record], held_out: list[Record], config: MotionTrainingConfig, progress: Progress
    ) -> None:
        self.training, self.held_out = training, held_out
        self.config, self.progress = config, progress
        torch.manual_seed(config.seed)
        self.head = MotionHead(len(MAPS), len(CONTEXT))
        if not config.colours:
            with torch.no_grad():  # maps that say nothing leave no gradient: it stays zero
                self.head.first.weight[:, [2 + number for number in PICTURE]] = 0.0
        self.average = copy.deepcopy(self.head).eval()
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=config.learning_rate, weight_decay=DECAY)
        self.state = TrainingState.load(config.output_dir) or TrainingState()
        if self.state.heads:
            self.head.load_state_dict(self.state.heads["now"])
            self.average.load_state_dict(self.state.heads["average"])
            self.optimizer.load_state_dict(self.state.optimizer)
        self.saved = time.monotonic()

    def run(self) -> Path:
        """All steps that are left; writes the weights."""
        state, config = self.state, self.config
        self.progress.say(
            f"Training on {len(self.training)} clips, {len(self.held_out)} held out: "
            f"{sum(value.numel() for value in self.head.parameters()) / 1000:.0f} thousand weights."
        )
        if state.step:
            self.progress.say(f"Goes on after {state.step} steps.")
        else:
            self._measure(self.average)
        with self.progress.stage("Training the head", config.steps) as advance:
            for _ in range(state.step):
                advance()
            try:
                for batch in self._batches():
                    state.losses.append(self._step(batch))
                    state.step += 1
                    advance()
                    if state.step % config.measure_every == 0 and state.step < config.steps:
                        self._measure(self.average)
                    if time.monotonic() - self.saved > 60.0 * config.save_minutes:
                        self._save()
            except KeyboardInterrupt:
                self.progress.say("The state that was saved last is kept; the same command goes on from it.")
                raise
        self._save()
        written = copy.deepcopy(self.average)
        with torch.no_grad():
            for part in written.last.parameters():
                part.mul_(config.strength)
        figures = self._measure(written, every=1)
        self._save()
        target = config.output_dir / WEIGHTS
        save_head(written.state_dict(), self._provenance(figures), target)
        return target

    def _batches(self) -> Iterator[Batch]:
        """Those that are left; the next one is read while one is computed."""
        first, last = self.state.step, self.config.steps
        with ThreadPoolExecutor(1) as pool:
            coming = [pool.submit(load_batch, self.training, self.config, first)] if first < last else []
            for step in range(first, last):
                batch = coming.pop().result()
                if step + 1 < last:
                    coming.append(pool.submit(load_batch, self.training, self.config, step + 1))
                yield batch

    def _step(self, batch: Batch) -> float:
        step, config = self.state.step, self.config
        rate = 0.5 * (1.0 + math.cos(math.pi * step / config.steps)) * min(1.0, (step + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * config.learning_rate
        self.head.train()
        loss = loss_of(self.head, batch, config.caution, config.jaccard)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), STEEPEST)
        self.optimizer.step()
        kept = min(AVERAGED, (1.0 + step) / (10.0 + step))
        with torch.no_grad():
            for own, now in zip(self.average.parameters(), self.head.parameters(), strict=True):
                own.lerp_(now, 1.0 - kept)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise Das3rError(
                f"The loss is no number in step {step + 1}. Train at a lower rate (--learning-rate); the state before "
                "is kept."
            )
        return value

    def _measure(self, head: MotionHead, every: int = SOME) -> dict[str, float]:
        state = self.state
        found, rules = (evaluate(self.held_out, of, every) for of in (of_head(head), of_rules))
        before = next((old["loss"] for old in state.curves if old["step"] == state.step), 0.0)
        loss = float(np.mean(state.losses)) if state.losses else before
        row = {"step": state.step, "loss": loss, **found.as_row("head"), **rules.as_row("rules")}
        state.losses = []
        state.curves = [*(old for old in state.curves if old["step"] < state.step), row]
        write_json(self.config.output_dir / CURVES, state.curves)
        self.progress.say(
            f"Step {state.step}: loss {loss:.4f}, J {found.j:.3f} on held-out clips (rules {rules.j:.3f}), "
            f"false alarms {100 * found.false_alarms:.2f} % ({100 * rules.false_alarms:.2f} %), where nothing moves "
            f"{100 * found.still:.2f} % ({100 * rules.still:.2f} %)."
        )
        return row

    def _save(self) -> None:
        state = self.state
        state.heads = {"now": self.head.state_dict(), "average": self.average.state_dict()}
        state.optimizer = self.optimizer.state_dict()
        state.save(self.config.output_dir)
        self.saved = time.monotonic()

    def _provenance(self, figures: dict[str, float]) -> dict[str, Any]:
        """What is written beside the weights."""
        return {
            "das3r": __version__,
            "commit": commit(),
            "date": date.today().isoformat(),
            "front_end_version": FRONT_ENDS["geometric"].version,
            "packages": describe_machine()["packages"],
            "settings": {**self.config.decisive(), "strength": self.config.strength},
            "recorded_by": sorted({record.commit for record in (*self.training, *self.held_out)}),
            "training_clips": len(self.training),
            "held_out_clips": len(self.held_out),
            "figures": figures,
        }
