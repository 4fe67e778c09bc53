"""One kind of bad input through ``ns-train das3r-light``: how long until it says what is wrong, and how it leaves.

``python benchmarks/measure_bad_input.py CASE FOLDER --output OUTPUT.json``
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from das3r_ns.evaluation.cost import Cost
from das3r_ns.files import write_json

ROOT = Path(__file__).parent.parent
TIMEOUT = 300.0


def unusable_videos() -> dict[str, Callable[[Path], Path]]:
    """The videos of the test of bad input: name -> function that writes one into a folder and returns it."""
    spec = importlib.util.spec_from_file_location("test_bad_input", ROOT / "tests" / "test_bad_input.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {write.__name__: write for write, _ in module.CASES}


def prepare(case: str, folder: Path) -> list[str]:
    """Make the input of a case in a folder, and return the command-line arguments that name it."""
    if case == "no_data":
        return []
    video = folder / "video"
    video.mkdir()
    videos = unusable_videos()
    if case in videos:
        return ["--data", str(videos[case](video))]
    if case == "unknown_value":
        return ["--data", str(video), "--max-num-iterations", "many"]
    (folder / "outputs").write_text("A file where the output folder should be.\n")
    return ["--data", str(video), "--output-dir", str(folder / "outputs")]


def cases() -> list[str]:
    """Names of all cases."""
    return [*unusable_videos(), "no_data", "unknown_value", "output_in_the_way"]


@dataclass
class Arguments:
    """Give ns-train das3r-light something it cannot use."""

    case: tyro.conf.Positional[str]
    """One of cases()."""
    folder: tyro.conf.Positional[Path]
    """New folder to make the input in."""
    output: Path
    """JSON file to write."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("ns-train")), "das3r-light", "--vis", "tensorboard"]
    command += prepare(arguments.case, folder)
    cost = Cost()
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT
    )
    used = cost.so_far()
    printed = f"{result.stdout}\n{result.stderr}".strip()
    write_json(
        arguments.output,
        {
            **used,
            "exit_code": result.returncode,
            "traceback": "Traceback" in printed,
            # The paragraph begins with "error:"; what else stands at the end is nerfstudio's.
            "said": re.sub(r"[\s│╭╮╰╯─]+", " ", printed[max(printed.rfind("error:"), len(printed) - 400) :]),
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
