"""All pairs of a clip through the network: each frame is encoded once, and both directions of a pair share a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import compute as machine
from das3r_ns.frontend.network.monst3r.compute import Compute
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.frontend.network.monst3r.preprocessing import network_input
from das3r_ns.frontend.network.monst3r.results import NotFinite, Results, take_places
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import Pair
from das3r_ns.progress import Progress

Images: TypeAlias = UInt8[np.ndarray, "N H W 3"] | Sequence[UInt8[np.ndarray, "H W 3"]]


def predict_pairs(
    network: PairNetwork,
    images: Images,
    pairs: Sequence[Pair],
    progress: Progress | None = None,
    *,
    compute: Compute | None = None,
    batch_size: int = 0,
    storage: torch.dtype = torch.float16,
    tokens: dict[int, Tensor] | None = None,
    first_frame: int = 0,
    earlier: PairPredictions | None = None,
    earlier_first: int = 0,
) -> PairPredictions:
    """Show the network every pair of frames.

    A frame's tokens do not depend on what it is paired with, so each frame is encoded once: the official code encodes
    both frames anew for each pair. Results go to the CPU batch by batch, so what the device holds does not grow with
    the number of pairs. Before the bulk of the work a first pair is timed, and what all will take is said.

    Args:
        network: From :func:`das3r_ns.frontend.network.monst3r.checkpoints.load_network`; it is moved to the device.
        images: RGB frames of one size, both sides multiples of 16.
        pairs: Directed pairs (view 1, view 2), as places in ``images``.
        progress: Where to report.
        compute: Device and precision; chosen if None.
        batch_size: Directed pairs at once; 0 = as many as memory allows.
        storage: Type of the numbers that are kept. float16 has three digits, a tenth of what the network errs by.
        tokens: Tokens of frames that an earlier call has encoded; those encoded here are added.
        first_frame: Number of the first frame in the video, for messages, and in ``tokens``.
        earlier: Predictions of another window of as many pairs, by an earlier call. Those of pairs that this one has
            too are not computed again; the others are written over, so that no more memory is needed.
        earlier_first: Its ``first_frame``.

    Returns:
        Predictions on the CPU, in the order of ``pairs``; with ``earlier``, pairs known already are where they were.

    Raises:
        Das3rError: Frames of different sizes, too little memory, or values that are not finite.
    """
    progress = progress or Progress()
    _check(images, pairs)
    compute = compute or machine.choose_compute()
    new = list(range(len(pairs)))
    if earlier is not None:
        if len(earlier.pairs) != len(pairs):
            raise ValueError(f"{len(pairs)} pairs cannot take the places of {len(earlier.pairs)} earlier ones")
        pairs, new = take_places(pairs, earlier.pairs, first_frame - earlier_first)
    work = _Work(network, images, pairs, compute, {} if tokens is None else tokens, first_frame, storage, new, earlier)
    while True:
        try:
            return work.run(progress, batch_size)
        except torch.cuda.OutOfMemoryError:
            raise Das3rError(
                f"The GPU has too little memory for one pair of {work.width} x {work.height} pixels. Free it of other "
                "programs, use smaller frames (--network-size 384), or the CPU (--device cpu)."
            ) from None
        except NotFinite as found:
            safer = work.compute.safer()
            if safer is None:
                i, j = (first_frame + frame for frame in found.pair)
                raise Das3rError(
                    f"The network gave values that are not finite for frames {i} and {j} (in "
                    f"{work.compute.precision}). "
                    + (
                        "Its weights are damaged: check them (`das3r weights --verify PATH`), or name another "
                        "checkpoint (--checkpoint)."
                        if work.compute.autocast is None
                        else "Run it in float32 (--precision float32), or name another checkpoint (--checkpoint)."
                    )
                ) from None
            progress.say(f"Numbers overflowed in {work.compute.precision}; the network goes on in {safer.precision}.")
            work.compute = safer
            work.tokens.clear()


def _check(images: Images, pairs: Sequence[Pair]) -> None:
    sizes = [image.shape[:2] for image in images]
    odd = next((number for number, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        raise Das3rError(
            f"Frame {odd} has {sizes[odd][1]} x {sizes[odd][0]} pixels, but the first one has {sizes[0][1]} x "
            f"{sizes[0][0]}: the network takes frames of one size and orientation only. Leave out those that differ, "
            "or make two videos of them."
        )
    if not pairs or max(max(pair) for pair in pairs) >= len(images):
        raise ValueError(f"pairs name frames that are not among the {len(images)} there are")


@dataclass
class _Work:
    """One call of :func:`predict_pairs`."""

    network: PairNetwork
    images: Images
    pairs: Sequence[Pair]
    compute: Compute
    tokens: dict[int, Tensor]
    """Of encoded frames, by their number in the video."""
    first_frame: int
    storage: torch.dtype
    new: list[int]
    """Places of the pairs that are not known yet."""
    earlier: PairPredictions | None
    """Holds the others at their places."""

    def __post_init__(self) -> None:
        self.height, self.width = self.images[0].shape[:2]

    @property
    def device(self) -> torch.device:
        return self.compute.device

    def run(self, progress: Progress, wanted_batch: int) -> PairPredictions:
        self.network.to(self.device)
        frames = sorted({frame for number in self.new for frame in self.pairs[number]})
        new = set(self.new)
        order = [number for number in mirrors_adjacent(self.pairs) if number in new]
        # Autocast keeps its copies of the weights until it ends, so it spans all batches.
        autocast = self.compute.autocast
        with torch.autocast(self.device.type, dtype=autocast) if autocast is not None else nullcontext():
            results = self._results()
            seconds = self._probe(order[:2], results)
            batch = machine.choose_batch(wanted_batch, self.height, self.width, self.compute)
            self._announce(progress, frames, batch, *seconds)
            self._check_memory(batch)
            with progress.stage("Network: frames", len(frames)) as advance:
                self._encode(frames, max(1, batch // 2), advance)
            with progress.stage("Network: pairs", len(order)) as advance:
                for _ in order[:2]:
                    advance()
                self._decode_all(order[2:], batch, results, advance)
            return results.finish()

    def _results(self) -> Results:
        shape = (self.height, self.width)
        masks = self.network.config.mask_heads
        return Results(self.pairs, shape, masks, self.storage, self.device, self.earlier)

    def _probe(self, order: list[int], results: Results) -> tuple[float, float]:
        """Encode and decode the first pair; seconds that a frame and a directed pair take."""
        frames = sorted({frame for number in order for frame in self.pairs[number]})
        warm = self.device.type == "cuda"  # the first use of each kernel takes longer than all the rest
        todo = [frame for frame in frames if self._key(frame) not in self.tokens]
        for _ in range(1 + warm):
            for frame in todo:
                self.tokens.pop(self._key(frame), None)
            encoding = self._timed(lambda: self._encode(todo, 1, lambda: None))
            decoding = self._timed(lambda: self._decode_all(order, len(order), results, lambda: None))
        return encoding / max(1, len(todo)), decoding / max(1, len(order))

    def _timed(self, do: Callable[[], None]) -> float:
        start = time.perf_counter()
        do()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def _announce(self, progress: Progress, frames: list[int], batch: int, encoding: float, decoding: float) -> None:
        missing = sum(self._key(frame) not in self.tokens for frame in frames)
        seconds = missing * encoding + max(0, len(self.new) - 2) * decoding
        on_device = (
            machine.weight_bytes(self.network, self.compute)
            + batch * machine.pair_bytes(self.height, self.width, self.compute)
            + len(frames) * machine.token_bytes(self.network, self.height, self.width, self.compute)
        )
        where = "GPU memory" if self.device.type == "cuda" else "memory"
        known = f" (and {len(self.pairs) - len(self.new)} known)" if len(self.new) < len(self.pairs) else ""
        progress.say(
            f"Network: {len(frames)} frames, {len(self.new)} directed pairs{known} of {self.width} x {self.height} "
            f"pixels, {batch} at once, on {self.device} in {self.compute.precision}; about {on_device / 1e9:.1f} GB "
            f"of {where} and {self._result_bytes() / 1e9:.1f} GB for the results, about {in_words(seconds)}."
        )

    def _result_bytes(self) -> int:
        channels = 9 if self.network.config.mask_heads else 8
        return len(self.pairs) * self.height * self.width * channels * self.storage.itemsize

    def _check_memory(self, batch: int) -> None:
        needed = 0 if self.earlier is not None else self._result_bytes()
        free = machine.free_memory(torch.device("cpu"))
        if self.device.type == "cpu":
            needed += batch * machine.pair_bytes(self.height, self.width, self.compute)
        # Pages of the results that the first pair has touched are counted twice: a drop in the bucket.
        if needed > free:
            raise Das3rError(
                f"Predictions for {len(self.pairs)} pairs of frames take {needed / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free. Use smaller windows (--window {max(10, len(self.images) // 2)}), fewer "
                "pairs (--pair-graph swinstride-3-noncyclic), or smaller frames (--network-size 384)."
            )

    def _key(self, frame: int) -> int:
        return self.first_frame + frame

    def _encode(self, frames: list[int], batch: int, advance: Callable[[], None]) -> None:
        """Add the tokens of frames that are not there yet: kept on the device where there is room, else on the CPU."""
        for frame in frames:
            if self._key(frame) in self.tokens:
                advance()
        missing = [frame for frame in frames if self._key(frame) not in self.tokens]
        room = 0.25 * machine.free_memory(self.device)
        stays = len(missing) * machine.token_bytes(self.network, self.height, self.width, self.compute) < room
        for chunk in _chunks(missing, batch):
            views = network_input(np.stack([self.images[frame] for frame in chunk])).to(self.device)
            tokens = self.network.encode(views).to(self.compute.autocast or torch.float32)
            for frame, own in zip(chunk, tokens if stays else tokens.cpu(), strict=True):
                self.tokens[self._key(frame)] = own.clone()  # a view would keep the whole batch alive
                advance()

    def _decode_all(self, order: list[int], batch: int, results: Results, advance: Callable[[], None]) -> None:
        start = 0
        while start < len(order):
            chunk = order[start : start + batch]
            fits = True
            try:
                results.add(chunk, self._decode(chunk))
            except torch.cuda.OutOfMemoryError:
                if batch == 1:
                    raise
                fits = False
            if not fits:  # outside the handler, whose traceback would keep what the failed batch has taken
                torch.cuda.empty_cache()
                batch = max(1, batch // 2)
                continue
            start += len(chunk)
            for _ in chunk:
                advance()
        results.flush()

    def _decode(self, numbers: list[int]) -> dict[str, Tensor]:
        views = [
            torch.stack([self.tokens[self._key(self.pairs[number][side])].to(self.device) for number in numbers])
            for side in (0, 1)
        ]
        return self.network.decode(views[0], views[1], (self.height, self.width), second_mask=False)


def mirrors_adjacent(pairs: Sequence[Pair]) -> list[int]:
    """Places of the pairs, each followed by that of its mirror image where there is one."""
    place = {pair: number for number, pair in enumerate(pairs)}
    order: dict[int, None] = {}
    for number, (i, j) in enumerate(pairs):
        order.setdefault(number)
        if (j, i) in place:
            order.setdefault(place[j, i])
    return list(order)


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def in_words(seconds: float) -> str:
    """A duration as one says it: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
