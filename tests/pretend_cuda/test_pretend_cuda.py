"""The CUDA path, on a machine without a GPU: right devices everywhere, and a training step that does not wait."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from das3r_ns.demo.write import write_demo

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
FRAMES = 8
OWN_WAITS = ("isect_tiles at gsplat/", "_linalg_check_errors at gsplat/")
"""gsplat's, in every render: for the number of intersections, and for the inverse of the view matrix."""


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``guard.cpp``, compiled against this torch."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ to compile guard.cpp with")
    library, package = tmp_path_factory.mktemp("guard") / "guard.so", Path(torch.__file__).parent
    command = [compiler, "-std=c++20", "-fPIC", "-shared", str(HERE / "guard.cpp"), "-o", str(library)]
    command += [f"-I{package / 'include'}", f"-I{package / 'include/torch/csrc/api/include'}"]
    command += [f"-L{package / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{package / 'lib'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"guard.cpp does not compile against torch {torch.__version__}: {done.stderr[-500:]}")
    return library


@pytest.fixture(scope="module")
def report(guard: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``session.py`` found."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU; what it runs need not be pretended")
    folder = tmp_path_factory.mktemp("pretend_cuda")
    demo = write_demo(folder / "demo", num_frames=FRAMES, width=96, height=54)
    package = str(HERE.parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, str(HERE)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "session.py"), str(guard), str(demo), str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def part(report: dict[str, Any], name: str) -> dict[str, Any]:
    """One part of the report, which must not have failed."""
    assert "failed" not in report[name], report[name]["failed"]
    return report[name]


def test_training_densifies_and_moves_the_cameras(report: dict[str, Any]) -> None:
    found = part(report, "train")
    assert found["device"].startswith("cuda")
    assert found["grown"] and found["cameras_moved"]


def test_the_dense_steps_of_the_front_end_run_there(report: dict[str, Any]) -> None:
    found = part(report, "dense")
    assert found["kernels"] == "torch on a GPU that is not there"
    assert found["depth_off_by"] < 5e-3


def test_a_step_waits_for_gsplat_alone(report: dict[str, Any]) -> None:
    """Every step but those that densify (every 8th), evaluate (15th, 20th, 25th) or are logged (10th)."""
    waits = part(report, "train")["waits"]
    quiet = [step for step in range(12, len(waits)) if not any(step % every == 0 for every in (8, 10, 15, 20, 25))]
    assert len(quiet) > 10
    for step in quiet:
        assert sum(waits[step].values()) == 2, waits[step]
        assert all(wait.startswith(OWN_WAITS) for wait in waits[step]), waits[step]


def test_nothing_is_rounded_to_tf32(report: dict[str, Any]) -> None:
    assert part(report, "train")["dense_convolutions"] == {}


def test_training_goes_on_where_it_was(report: dict[str, Any]) -> None:
    found = part(report, "resume")
    assert found == {"step": 39, "devices": ["cuda:0"]}


def test_ns_eval_measures(report: dict[str, Any]) -> None:
    assert all(math.isfinite(value) for value in part(report, "evaluate").values())


def test_clean_plates_are_written(report: dict[str, Any]) -> None:
    assert part(report, "clean_plates")["frames"] == FRAMES


def test_the_viewer_follows_all_cameras_with_one_wait(report: dict[str, Any]) -> None:
    found = part(report, "viewer")
    assert sum(found["waits"].values()) == 1, found["waits"]
    assert found["devices"] == ["cuda:0"]


def test_the_network_says_the_same(report: dict[str, Any]) -> None:
    found = part(report, "network")
    assert found["points_off_by"] < 1e-5
    assert found["finite"]
