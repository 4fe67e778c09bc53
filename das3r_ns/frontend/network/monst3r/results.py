"""What the network gives, collected on the CPU while the next batch is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import Pair

OUTPUTS = {
    "pts3d": "points1",
    "pts3d_in_other_view": "points2",
    "conf": "confidence1",
    "conf2": "confidence2",
    "dynamic_mask1": "dynamic1",
}
"""Outputs of the network that are kept, and what PairPredictions calls them."""


class NotFinite(Exception):
    """The network gave values that are not numbers."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair)
        self.pair = pair


def take_places(pairs: Sequence[Pair], earlier: Sequence[Pair], shift: int) -> tuple[list[Pair], list[int]]:
    """Order pairs so that those which another list of as many holds too are where they are there.

    Args:
        pairs: To be ordered.
        earlier: The other list, whose frames have numbers that are ``shift`` higher.

    Returns:
        The pairs in their new order, and the places of those that the other list does not hold.
    """
    wanted = set(pairs)
    moved = [(i - shift, j - shift) for i, j in earlier]
    rest = iter([pair for pair in pairs if pair not in set(moved)])
    new = [place for place, pair in enumerate(moved) if pair not in wanted]
    return [pair if pair in wanted else next(rest) for pair in moved], new


@dataclass
class _Underway:
    """A batch on its way from the GPU."""

    numbers: list[int]
    values: dict[str, Tensor]
    """In pinned memory."""
    finite: Tensor
    arrived: torch.cuda.Event


class Results:
    """Predictions of all pairs, filled batch by batch.

    On a GPU the copy of a batch runs beside the computation of the next one; it is looked at only then.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        size: tuple[int, int],
        masks: bool,
        storage: torch.dtype,
        device: torch.device,
        earlier: PairPredictions | None = None,
    ) -> None:
        """Make room, or take over that of ``earlier``.

        Args:
            pairs: Directed pairs.
            size: Height and width in pixels.
            masks: Whether there is a dynamic probability.
            storage: Type of the numbers kept.
            device: Where the network runs.
            earlier: Predictions of as many pairs; written over where they are not those of ``pairs`` (see
                :func:`take_places`).
        """
        self.pairs = list(pairs)
        self.device = device
        self._underway: _Underway | None = None
        shapes = {
            name: (len(pairs), *size, 3) if name.startswith("pts3d") else (len(pairs), *size)
            for name in OUTPUTS
            if masks or name != "dynamic_mask1"
        }
        self.maps = {
            name: torch.empty(shape, dtype=storage) if earlier is None else getattr(earlier, OUTPUTS[name])
            for name, shape in shapes.items()
        }

    def add(self, numbers: list[int], outputs: dict[str, Tensor]) -> None:
        """Keep the outputs of a batch.

        Args:
            numbers: Places of its pairs.
            outputs: Of the network, on its device.

        Raises:
            NotFinite: This batch, or on a GPU the one before, holds values that are not finite.
        """
        kept = {name: outputs[name] for name in self.maps}
        finite = torch.stack([value.flatten(1).isfinite().all(dim=1) for value in kept.values()]).all(dim=0)
        # Far points may exceed what float16 can hold: there they are moved nearer, along with all that is as far.
        storage = next(iter(self.maps.values())).dtype
        limit = torch.finfo(storage).max
        small = {name: value.clamp(-limit, limit).to(storage) for name, value in kept.items()}
        if self.device.type != "cuda":
            self._write(numbers, small, finite)
            return
        pinned = {name: torch.empty_like(value, device="cpu", pin_memory=True) for name, value in small.items()}
        for name, value in small.items():
            pinned[name].copy_(value, non_blocking=True)
        flags = torch.empty_like(finite, device="cpu", pin_memory=True)
        flags.copy_(finite, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))  # of the GPU that copies, whichever is the current one
        self.flush()
        self._underway = _Underway(numbers, pinned, flags, arrived)

    def flush(self) -> None:
        """Wait for what is under way.

        Raises:
            NotFinite: It holds values that are not finite.
        """
        if self._underway is not None:
            batch, self._underway = self._underway, None
            batch.arrived.synchronize()
            self._write(batch.numbers, batch.values, batch.finite)

    def finish(self) -> PairPredictions:
        """The predictions, once all batches are there."""
        self.flush()
        return PairPredictions(self.pairs, **{OUTPUTS[name]: value for name, value in self.maps.items()})

    def _write(self, numbers: list[int], values: dict[str, Tensor], finite: Tensor) -> None:
        if not bool(finite.all()):
            raise NotFinite(self.pairs[numbers[int(finite.int().argmin())]])
        for name, value in values.items():
            self.maps[name][numbers] = value
