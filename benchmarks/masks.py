"""What moves, by the rules and by the trained head, against the truth, and on films in which nothing moves.

    python benchmarks/masks.py --data SETS --update-docs

The front end sees each film once, the first frames of it; what it decides by is kept, and both decide on that. So
another head (--weights) is measured in seconds. Sets have the layout of ``das3r demo``; the clean plates of a set are
its control: a film in which nothing moves.
"""

from __future__ import annotations

import json
import pickle
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from provenance import provenance_line, stamp
from report import update_between_marks
from workspace import find_sets

from das3r_ns.evaluation.compare import compare_masks
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.files import link_files, write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.decision import decide, watched
from das3r_ns.frontend.geometric.head.weights import provenance_of, weights_identity
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import SceneEstimate

HERE = Path(__file__).parent
KEPT = HERE / "results" / "masks.json"
PAGE = HERE.parent / "docs" / "results.md"
FALL = 0.03
"""By how much J of a set may fall where the head is to be the default."""


@dataclass
class Arguments:
    """Measure the rules and the head on a folder of sets."""

    data: Path
    """Folder of the sets."""
    output_dir: Path = Path("results/masks")
    """Where what the front end decides by is kept: some 100 MB a film, read again unless --fresh."""
    sets: tuple[str, ...] = ()
    """Names of the sets to use; all that have true masks if none is named."""
    frames: int = 24
    """Frames of a film that are looked at: the first ones."""
    long_side: int = 512
    """Working resolution of the front end, longer side in pixels."""
    weights: Path | None = None
    """Of the head; None = those that came with das3r."""
    fresh: bool = False
    """Run the front end anew."""
    update_docs: bool = False
    """Keep the figures in benchmarks/results/ and write the table into docs/results.md."""


@dataclass(frozen=True)
class Film:
    """A film and what the front end decided by."""

    scene: SceneEstimate
    case: Case

    @classmethod
    def of(cls, source: Path, part: str, arguments: Arguments) -> Film:
        """That of a folder of a set, made once."""
        place = arguments.output_dir.resolve() / f"{source.name}-{part}-{arguments.frames}-{arguments.long_side}"
        kept = place / "case.pickle"
        if kept.is_file() and not arguments.fresh:
            return pickle.loads(kept.read_bytes())
        shutil.rmtree(place, ignore_errors=True)
        pictures = sorted(path for path in (source / part).iterdir() if path.is_file())
        link_files(pictures[: arguments.frames], place / "frames")
        cases: list[Case] = []
        with watched(lambda case, ruled: cases.append(case)):
            config = FrontEndConfig(front_end="geometric", long_side=arguments.long_side)
            scene = load_or_estimate(place, config).estimate
        film = cls(scene, cases[-1])
        kept.write_bytes(pickle.dumps(film))
        return film

    def decided(self, head: bool, weights: Path | None) -> tuple[SceneEstimate, float]:
        """The scene by the rules or by the head, and the CPU seconds that this took."""
        start = time.process_time()
        dynamic = decide(self.case, "head" if head else "rules", weights)
        return replace(self.scene, dynamic_probability=dynamic), time.process_time() - start


def measure(source: Path, arguments: Arguments) -> dict[str, Any]:
    """Figures of one set, and of its control where it has one."""
    truth, row, seconds = GroundTruth(source), {}, {}
    film = Film.of(source, "frames", arguments)
    for name in ("rules", "head"):
        scene, seconds[name] = film.decided(name == "head", arguments.weights)
        problems: list[str] = []
        row[name] = compare_masks(scene, truth, problems)
        if problems:
            raise SystemExit(" ".join(problems))
    row["size"] = f"{film.scene.width}x{film.scene.height}"
    row |= {"frames": film.scene.num_frames, "stereo": film.case.look is not None}
    row["head_s"] = (seconds["head"] - seconds["rules"]) / film.scene.num_frames
    if truth.has("clean"):
        still = Film.of(source, "clean", arguments)
        for name in ("rules", "head"):
            scene, _ = still.decided(name == "head", arguments.weights)
            row[name]["still"] = float((scene.dynamic_probability >= MOVES).mean())
    return row


def main(arguments: Arguments) -> None:
    """Measure everything and print the table."""
    available = [name for name in find_sets(arguments.data) if (arguments.data / name / "masks").is_dir()]
    if unknown := set(arguments.sets) - set(available):
        raise SystemExit(f"No such set: {', '.join(sorted(unknown))}. There are: {', '.join(available)}.")
    came = {"weights": weights_identity(arguments.weights), "trained": provenance_of(arguments.weights)}
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    kept = {name: row for name, row in kept.items() if row["weights"] == came["weights"]}
    for name in arguments.sets or available:
        kept[name] = {**measure(arguments.data / name, arguments), **stamp(), **came}
        print(name, json.dumps({key: kept[name][key] for key in ("rules", "head", "head_s")}), flush=True)
        if arguments.update_docs:
            write_json(KEPT, kept)
    print(table(kept))
    if arguments.update_docs:
        update_between_marks(PAGE, "masks", table(kept))


def table(kept: dict[str, Any]) -> str:
    """All that was measured, as Markdown, and whether the head may be the default by it."""
    titles = (
        "set",
        "frames",
        "size",
        "J rules",
        "J head",
        "false alarms % rules",
        "head",
        "still film % rules",
        "head",
    )
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for name, row in sorted(kept.items()):
        cells = [f"{row[by]['J']:.3f}" for by in ("rules", "head")]
        cells += [f"{100 * row[by]['false_alarms']:.2f}" for by in ("rules", "head")]
        cells += [f"{100 * row[by]['still']:.2f}" if "still" in row[by] else "-" for by in ("rules", "head")]
        lines.append(f"| {name} | {row['frames']} | {row['size']} | {' | '.join(cells)} |")
    mean = {key: {by: _mean(kept, by, key) for by in ("rules", "head")} for key in ("J", "false_alarms", "still")}
    cells = [f"**{mean['J'][by]:.3f}**" for by in ("rules", "head")]
    cells += [f"**{100 * mean[key][by]:.2f}**" for key in ("false_alarms", "still") for by in ("rules", "head")]
    lines.append(f"| **mean** | | | {' | '.join(cells)} |")
    falls = {name: row["rules"]["J"] - row["head"]["J"] for name, row in kept.items()}
    worst = max(falls, key=lambda name: falls[name])
    better = mean["J"]["head"] > mean["J"]["rules"] and mean["still"]["head"] < mean["still"]["rules"]
    verdict = "it may be the default" if better and falls[worst] <= FALL else "it stays an option"
    cost = float(np.mean([row["head_s"] for row in kept.values()]))
    said = (
        f"The head adds {cost:.3f} CPU s a frame. The set that loses most by it is {worst} "
        f"({-falls[worst]:+.3f} J): {verdict}."
    )
    return "\n".join([provenance_line(kept.values()), "", *lines, "", said])


def _mean(kept: dict[str, Any], by: str, key: str) -> float:
    values = [row[by][key] for row in kept.values() if key in row[by]]
    return float(np.mean(values)) if values else 0.0


if __name__ == "__main__":
    main(tyro.cli(Arguments))
