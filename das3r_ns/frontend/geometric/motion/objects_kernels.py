"""Compiled inner loops: the mountains of a landscape over a graph."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numba import njit


@njit(cache=True, nogil=True)
def summits(
    value: Float[np.ndarray, " S"],
    order: Int[np.ndarray, " S"],
    first: Int[np.ndarray, " P"],
    neighbours: Int[np.ndarray, " Q"],
    apart: float,
) -> Int[np.ndarray, " S"]:
    """The summit of the mountain that each node is part of.

    The water falls, and islands rise: a node that comes up joins its highest neighbour, and where it joins two islands
    these become one, unless it lies deeper than a share of the lower summit (persistence; Edelsbrunner et al., 2002).

    Args:
        value: Height of each node, not below 0.
        order: The nodes, the highest first.
        first: Where the neighbours of each node begin, and where the last ones end.
        neighbours: Neighbours of all nodes; of each pair both ways.
        apart: Share of the lower summit down to which two are one mountain.
    """
    above = np.full(len(value), -1, np.int64)  # on the way to the summit; -1 while under water
    for node in order:
        best = -1
        for k in range(first[node], first[node + 1]):
            other = neighbours[k]
            if above[other] >= 0 and (best < 0 or value[other] > value[best]):
                best = other
        above[node] = node
        if best < 0:
            continue
        summit = _summit(above, best)
        above[node] = summit
        for k in range(first[node], first[node + 1]):
            if above[neighbours[k]] < 0:
                continue
            other = _summit(above, neighbours[k])
            low, high = (other, summit) if value[other] <= value[summit] else (summit, other)
            if low != high and value[node] > apart * value[low]:
                above[low] = summit = high
    for node in range(len(value)):
        above[node] = _summit(above, node)
    return above


@njit(cache=True, nogil=True)
def _summit(above, node):
    """The end of the way up, which is shortened for whoever comes next."""
    while above[node] != node:
        above[node] = above[above[node]]
        node = above[node]
    return node
