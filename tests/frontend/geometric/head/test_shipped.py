"""The weights that come with das3r: they load, are small, say where they are from, and raise fewer false alarms."""

from __future__ import annotations

from pathlib import Path

from das3r_ns.frontend.geometric.head import SHIPPED
from das3r_ns.frontend.geometric.head.weights import load_head, provenance_of
from das3r_ns.training.motion.clips import record_drawn
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.evaluate import evaluate, of_head, of_rules
from das3r_ns.training.motion.record import Record

SEED = 900_000_009
"""Of no training: those of a training with seed s begin at s million."""


def test_say_where_they_are_from() -> None:
    said = provenance_of()
    assert {"das3r", "commit", "recorded_by", "date", "packages", "settings", "figures"} <= set(said)
    assert said["settings"]["seed"] * 1_000_000 + said["settings"]["clips"] < SEED
    assert said["training_clips"] + said["held_out_clips"] == said["settings"]["clips"]
    assert said["figures"]["head_j"] >= said["figures"]["rules_j"]
    assert SHIPPED.stat().st_size < 1_100_000


def test_mark_less_of_a_still_film(tmp_path: Path) -> None:
    """One that they have not seen, in which the rules find something all the same."""
    file = tmp_path / "0.npz"
    record_drawn(SEED, MotionTrainingConfig(tmp_path, frames=6, size=160), file)
    head, rules = (evaluate([Record(file)], of) for of in (of_head(load_head()), of_rules))
    assert rules.j == head.j == 0.0
    assert rules.still > 0.005 and head.still < 0.95 * rules.still
