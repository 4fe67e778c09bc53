"""Which frames are looked at together: shown to the network, or joined by optical flow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from das3r_ns.errors import Das3rError

DEFAULT_GRAPH = "swinstride-5-noncyclic"
"""Five later frames for each: 1, 3, 5, 7 and 9 away."""

LONG_CLIP = 95
"""Frames above which a window of 5 shrinks to 4."""

_STEPS = {"swin": (1, 1), "swinstride": (1, 2), "swin2stride": (1, 3), "swinskip_start": (2, 1)}
"""First distance and step between distances of the sliding windows."""

Pair = tuple[int, int]
"""A directed pair of frames (i, j): view 1 and view 2; its flow leads from a pixel of i to the same point in j."""


def strided_pairs(num_frames: int, strides: Iterable[int]) -> list[Pair]:
    """Every pair of frames ``stride`` apart, in both directions.

    Args:
        num_frames: Length of the video.
        strides: Distances in frames; those as long as the video or longer give no pair.

    Returns:
        Directed pairs (i, j) and (j, i), sorted.
    """
    return both_ways(_at_distances(num_frames, strides))


def both_ways(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs and their mirror images, each once, sorted."""
    return sorted({pair for i, j in pairs for pair in ((i, j), (j, i))})


@dataclass(frozen=True)
class _Graph:
    """A graph's name, taken apart: ``kind-number[-noncyclic]``."""

    kind: str
    number: int | None
    cyclic: bool

    @classmethod
    def parse(cls, name: str) -> _Graph:
        kinds = "|".join((*_STEPS, "logwin", "oneref", "complete"))
        found = re.fullmatch(rf"({kinds})(?:-(\d{{1,6}}))?(-noncyclic)?", name)
        if found is None:
            raise Das3rError(
                f"There is no pair graph {name!r}. Take for example {DEFAULT_GRAPH}, or another of the kinds "
                f"{', '.join(_STEPS)} and logwin (KIND-WINDOW, KIND-WINDOW-noncyclic), oneref-FRAME or complete."
            )
        kind, number, noncyclic = found.groups()
        return cls(kind, None if number is None else int(number), not noncyclic)

    @property
    def window(self) -> int:
        return 3 if self.number is None else self.number


def graph_for(num_frames: int, graph: str = DEFAULT_GRAPH) -> str:
    """The graph for a clip of this length: a window no larger than half the clip, and a little smaller for long ones.

    The official code drops ``-noncyclic`` where it shrinks a window, so that in clips of up to nine frames the first
    frame is paired with the last. Here what was asked for stays.
    """
    parsed = _Graph.parse(graph)
    if parsed.kind in ("complete", "oneref"):
        return graph
    window = parsed.window
    if num_frames > LONG_CLIP and window == 5:
        window = 4
    window = min(window, max(1, math.ceil((num_frames - 1) / 2)))
    return f"{parsed.kind}-{window}{'' if parsed.cyclic else '-noncyclic'}"


def make_pairs(num_frames: int, graph: str = DEFAULT_GRAPH, symmetrize: bool = True) -> list[Pair]:
    """Directed pairs (view 1, view 2) of frames.

    Args:
        num_frames: Length of the clip, 2 at least.
        graph: ``swin-W``, ``swinstride-W``, ``swin2stride-W``, ``swinskip_start-W``: each frame with W later ones at
            distances that grow by 1, 2, 3 and (from 2 on) 1. ``logwin-W``: W on either side, at distances 1, 2, 4, ...
            These close to a ring unless ``-noncyclic`` follows. ``oneref-K``: frame K with every other one.
            ``complete``: all. Taken as it is; :func:`graph_for` fits it to a clip.
        symmetrize: Add each pair the other way round. As officially, graphs whose name starts with ``swin-1`` (also
            swin-10, swin-12, ...) and ``oneref`` stay one-way, except for two frames.

    Returns:
        The pairs one way, sorted, and then their mirror images in the same order.

    Raises:
        Das3rError: No such graph, fewer than two frames, or a graph that does not hold all frames together.
    """
    if num_frames < 2:
        raise Das3rError(f"Pairs need two frames at least; there is {num_frames}.")
    pairs = _one_way(_Graph.parse(graph), num_frames)
    if not _connected(pairs, num_frames):
        raise Das3rError(
            f"The pair graph {graph!r} does not connect all of {num_frames} frames, so that they would have no scene "
            f"in common. Take a wider window, or {DEFAULT_GRAPH}."
        )
    one_way = graph.startswith(("oneref", "swin-1")) and num_frames > 2
    return pairs if one_way or not symmetrize else pairs + [(j, i) for i, j in pairs]


def _one_way(graph: _Graph, n: int) -> list[Pair]:
    if graph.kind == "complete":
        return [(i, j) for i in range(n) for j in range(i)]
    if graph.kind == "oneref":
        reference = graph.number or 0
        if reference >= n:
            raise Das3rError(f"The pair graph names frame {reference}, but there are only {n} (0 to {n - 1}).")
        return [(reference, j) for j in range(n) if j != reference]
    if graph.kind == "logwin":
        # A distance of more than the clip adds nothing but large numbers.
        powers = [2**k for k in range(min(graph.window, 32))]
        distances: Iterable[int] = [sign * power for power in powers for sign in (1, -1)]
    else:
        first, step = _STEPS[graph.kind]
        distances = range(first, first + step * graph.window, step)
    return _at_distances(n, distances, graph.cyclic)


def _at_distances(n: int, distances: Iterable[int], cyclic: bool = False) -> list[Pair]:
    """Pairs i < j of frames at the given distances, round the end of the clip too if it is a ring; sorted."""
    steps = list(distances)
    found = ((i, (i + d) % n if cyclic else i + d) for i in range(n) for d in steps)
    return sorted({(min(i, j), max(i, j)) for i, j in found if 0 <= j < n and i != j})


def _connected(pairs: list[Pair], n: int) -> bool:
    """Whether one can get from every frame to every other along pairs."""
    group = list(range(n))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, j in pairs:
        group[root(i)] = root(j)
    return len({root(i) for i in range(n)}) == 1
