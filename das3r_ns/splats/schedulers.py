"""Learning-rate schedule whose state is plain numbers.

nerfstudio's ExponentialDecayScheduler leaves numpy scalars in the checkpoint, which torch >= 2.6 refuses to read
(``weights_only``): ns-eval, ns-export, ns-viewer and a resumed training then all fail (nerfstudio issue 3683).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer, lr_scheduler


@dataclass
class PlainDecayConfig(SchedulerConfig):
    """Log-linear decay of the learning rate."""

    _target: type = field(default_factory=lambda: PlainDecay)
    """target class to instantiate"""
    lr_final: float = 1e-6
    """Learning rate reached after max_steps, and kept from there on."""
    max_steps: int = 0
    """Steps over which it decays; 0 for the length of the run."""


@dataclass
class SettlingConfig(SchedulerConfig):
    """A learning rate that falls to 0 before the end, so that what depends on the parameters can settle."""

    _target: type = field(default_factory=lambda: Settling)
    """target class to instantiate"""
    until: float = 0.6
    """Share of max_steps after which it is 0."""
    max_steps: int = 0
    """Length of the run; 0 for what it turns out to be."""


class Settling(Scheduler):
    """Half a cosine from the optimizer's learning rate to 0, which it keeps."""

    config: SettlingConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> lr_scheduler.LRScheduler:
        """The torch scheduler.

        Args:
            optimizer: Whose learning rate to set.
            lr_init: Its learning rate at step 0.
        """
        del lr_init
        last = max(self.config.until * self.config.max_steps, 1.0)
        return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * min(step / last, 1.0)))


class PlainDecay(Scheduler):
    """Log-linear interpolation from the optimizer's learning rate to ``lr_final``, as in 3D Gaussian Splatting."""

    config: PlainDecayConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> lr_scheduler.LRScheduler:
        """The torch scheduler.

        Args:
            optimizer: Whose learning rate to set.
            lr_init: Its learning rate at step 0.
        """
        log_ratio = math.log(self.config.lr_final / lr_init)
        max_steps = max(self.config.max_steps, 1)
        return lr_scheduler.LambdaLR(optimizer, lambda step: math.exp(log_ratio * min(step / max_steps, 1.0)))
