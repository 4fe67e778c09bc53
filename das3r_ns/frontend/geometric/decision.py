"""The last decision on what moves: by the rules, or by them and the trained head that corrects them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.config import Motion
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.dynamic_probability import Ruled, by_rules, probability_of

Watcher = Callable[[Case, Ruled], None]
"""Told of a case and what the rules make of it."""

_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Show every decision of the front end, while the block runs, to whoever records or measures it.

    Args:
        watcher: Told of each; the last one of a clip is what its masks come from.
    """
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def decide(case: Case, motion: Motion = "rules", weights: Path | None = None) -> Float[np.ndarray, "N H W"]:
    """Dynamic probability of every pixel of a clip.

    Args:
        case: All that is known of it.
        motion: What decides.
        weights: Of the head; None = those of the package.

    Returns:
        As :func:`~das3r_ns.frontend.geometric.dynamic_probability.dynamic_probability` has it.

    Raises:
        Das3rError: The weights cannot be used.
    """
    ruled = by_rules(case.evidence, case.look)
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(case, ruled)
    relative = ruled.relative
    if motion == "head":
        from das3r_ns.frontend.geometric.head.correct import corrected  # torch

        relative = corrected(case, ruled, weights)
    return probability_of(case.images, relative, by_colours=case.look is None)
