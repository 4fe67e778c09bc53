"""Small but real measurements, with a front end that knows the truth."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.cli import main
from das3r_ns.demo.write import write_demo
from das3r_ns.evaluation.bench import measure_splats as splats
from das3r_ns.evaluation.bench.config import BenchConfig
from das3r_ns.evaluation.bench.job import Job
from das3r_ns.evaluation.bench.process import run_job
from das3r_ns.evaluation.bench.report import write_report
from das3r_ns.evaluation.bench.run import run_bench
from das3r_ns.evaluation.protocols import load_protocol
from das3r_ns.progress import Progress


@pytest.fixture()
def sets(demo_video, tmp_path: Path) -> Path:
    shutil.copytree(demo_video.folder, tmp_path / "sets/room")
    return tmp_path / "sets"


def settings(sets: Path, **changes) -> BenchConfig:
    values: dict = {"methods": ("das3r-light", "splatfacto"), "max_iterations": 6} | changes
    return BenchConfig("folder", sets, sets.parent / "out", **values)


def test_a_whole_run_and_its_report(sets: Path, oracle_front_end, demo_video) -> None:
    config = settings(sets, refine_test_poses=False)
    results = run_bench(config, Progress(), run_job)
    records = results["records"]["room"]
    assert [record.get("failed") for record in records.values()] == [None] * 3
    front_end = records["front-end"]["figures"]
    assert front_end["J"] == 1.0 and front_end["ate_percent"] < 1e-4 and front_end["focal_error"] < 1e-6
    for name in config.methods:
        record = records[name]
        assert record["held_out"] == ["00005.png"] and record["masks"] == "truth" and record["iterations"] == 6
        figures = record["figures"]
        static = 1 - demo_video.estimate.dynamic_probability[5].mean()
        assert figures["psnr_paper"] == pytest.approx(figures["psnr_static"] - 10 * np.log10(static), abs=1e-3)
        assert 10 < figures["psnr_static"] < 40 and 0 < figures["ssim"] < 1
        assert {"plate_psnr_hidden", "plate_psnr_static"} <= set(figures)
        assert record["figures_refined"] is None and record["peak_mb"] > 100 and record["seconds"]["training"] > 0
    assert oracle_front_end == [12]  # the front end ran once, for all
    write_report(results, load_protocol("folder"), config.output_dir)
    text = (config.output_dir / "bench.html").read_text()
    # One held-out frame: input, mask and two renders, and the staticness of the one that has it.
    assert text.count("data:image/jpeg;base64,") == 5 and "staticness, das3r-light" in text
    picture = cv2.imread(str(config.output_dir / records["das3r-light"]["pictures"][0]["input"]))
    target = cv2.resize(demo_video.images[5][..., ::-1], (picture.shape[1], picture.shape[0]))
    assert np.abs(picture.astype(float) - target).mean() < 6


def test_held_out_pictures_cannot_leak(sets: Path, oracle_front_end) -> None:
    """Another picture in place of the held-out one gives the same scene; in place of its neighbour it does not."""
    renders = []
    for number, changed in enumerate((None, "00005.png", "00004.png")):
        room = sets.parent / f"sets{number}/room"
        shutil.copytree(sets / "room", room)
        if changed:
            picture = cv2.imread(str(room / "frames" / changed))
            picture[20:60, 40:110] = 255 - picture[20:60, 40:110]  # not all of it: that would be no frame of this film
            cv2.imwrite(str(room / "frames" / changed), picture)
        config = settings(room.parent, methods=("das3r-light",), max_iterations=20)
        config = dataclasses.replace(config, output_dir=sets.parent / f"out{number}")
        record = run_job(Job(config, "room", "das3r-light", "das3r-light"))
        assert "failed" not in record
        renders.append(cv2.imread(str(config.output_dir / record["pictures"][0]["clean render"])).astype(float))
    # Not to the bit: a CPU adds up in any order.
    held_out, neighbour = (np.abs(render - renders[0]).mean() for render in renders[1:])
    assert held_out < 0.2 * neighbour


def test_refined_cameras_and_strict_are_measured(sets: Path, oracle_front_end, monkeypatch) -> None:
    from das3r_ns.evaluation import held_out_cameras as poses

    monkeypatch.setattr(poses.refined_pose, "__defaults__", (3,))
    record = run_job(Job(settings(sets, refine_test_poses=True), "room", "das3r-light", "das3r-light"))
    assert record["figures_refined"]["psnr_static"] == pytest.approx(record["figures"]["psnr_static"], abs=1.5)


def test_small_pictures_train_with_fewer_gaussians_and_plates_may_be_left_out(sets: Path, oracle_front_end) -> None:
    records = []
    for size in (None, 80):
        config = settings(sets, methods=("das3r-light",), train_size=size, plates=False)
        records.append(run_job(Job(config, "room", "das3r-light", "das3r-light")))
    assert [record["size"] for record in records] == ["160x90", "80x44"]
    assert records[1]["gaussians"] <= 10_000 < records[0]["gaussians"]  # a quarter of the preset's seeds
    assert not any("plate_psnr_hidden" in record["figures"] for record in records)


def test_pixels_that_the_front_end_alone_calls_moving_are_told_apart(sets: Path, oracle_front_end) -> None:
    """The truth knows of less that moves than the front end, as DAVIS does of a shadow."""
    name = str(sets / "room/masks/00005.png")
    mask = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(name, np.zeros_like(mask))
    record = run_job(Job(settings(sets, plates=False), "room", "das3r-light", "das3r-light"))
    figures = record["figures"]
    # What moves is not in the scene, so that the frame differs from it there.
    assert figures["psnr_agreed"] > figures["psnr_static"] + 1


def test_half_of_a_set_is_enough(sets: Path, oracle_front_end) -> None:
    (sets / "room/masks/00005.png").unlink()
    for name in ("clean/00003.png", "poses.txt"):
        (sets / "room" / name).unlink()
    config = settings(sets, methods=("das3r-light",))
    front_end = run_job(Job(config, "room", None, "das3r-light"))
    assert front_end["figures"]["J"] == 1.0 and "ate" not in front_end["figures"]
    assert "00005" in front_end["problems"][0] and len(front_end["problems"]) == 1
    splats = run_job(Job(config, "room", "das3r-light", "das3r-light"))
    assert "No held-out frame can be judged" in splats["failed"] and "00005" in splats["failed"]


def test_missing_clean_plates_leave_the_rest(sets: Path, oracle_front_end) -> None:
    (sets / "room/clean/00003.png").unlink()
    record = run_job(Job(settings(sets), "room", "das3r-light", "das3r-light"))
    assert "psnr_static" in record["figures"] and "plate_psnr_hidden" not in record["figures"]
    assert record["problems"] == [f"clean plates: {sets / 'room/clean'} has no picture for frame 00003."]


def test_a_set_without_observed_pictures_gets_them_from_its_clean_plates(sets: Path, oracle_front_end) -> None:
    shutil.rmtree(sets / "room/observed")
    results = run_bench(settings(sets), Progress(), run_job)["records"]["room"]
    hidden = [results[name]["figures"]["plate_hidden_percent"] for name in ("das3r-light", "splatfacto")]
    assert hidden[0] == hidden[1] > 5
    assert (sets.parent / "out/clean-scenes/room-6/observed/00011.png").is_file()


def test_without_true_masks_the_front_ends_are_taken(sets: Path, oracle_front_end) -> None:
    shutil.rmtree(sets / "room/masks")
    record = run_job(Job(settings(sets), "room", "das3r-light", "das3r-light"))
    assert record["masks"] == "front end" and "psnr_static" in record["figures"]
    assert "plate_psnr_hidden" not in record["figures"]


def test_masks_of_another_size_and_videos_too_short_are_named_before_training(
    sets: Path, oracle_front_end, monkeypatch
) -> None:
    monkeypatch.setattr(splats, "train", None)
    for path in (sets / "room/masks").glob("*.png"):
        cv2.imwrite(str(path), np.zeros((45, 80), np.uint8))
    record = run_job(Job(settings(sets), "room", "das3r-light", "das3r-light"))
    assert "80 x 45, the frames are 160 x 90" in record["failed"]
    short = run_job(Job(settings(sets, num_frames=5), "room", "das3r-light", "das3r-light"))
    assert "only 5 frames" in short["failed"]


@pytest.mark.parametrize("baseline", ["splatfacto-masks", "robust"])
def test_baselines_are_measured(sets: Path, oracle_front_end, baseline: str) -> None:
    record = run_job(Job(settings(sets, strict=True), "room", baseline, "das3r-light"))
    assert "failed" not in record and record["method"] == baseline and record["strict"]
    assert {"psnr_static", "plate_psnr_hidden"} <= set(record["figures"])


@pytest.mark.slow
def test_the_command_measures_in_processes_of_its_own(tmp_path: Path) -> None:
    """The real front end; a set that is broken stands beside one that is not."""
    write_demo(tmp_path / "sets/room", num_frames=16, width=160, height=90)
    (tmp_path / "sets/broken/frames").mkdir(parents=True)
    (tmp_path / "sets/broken/frames/0.png").write_bytes(b"no picture")
    (tmp_path / "sets/broken/frames/1.png").write_bytes(b"no picture")
    arguments = ["bench", "folder", "--data", str(tmp_path / "sets"), "--output-dir", str(tmp_path / "out")]
    arguments += ["--methods", "das3r-light", "--max-iterations", "20", "--strict"]
    program = f"from das3r_ns.cli.main import entrypoint; entrypoint({arguments!r})"
    environment = os.environ | {"PYTHONPATH": str(Path(main.__file__).parents[2])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    stored = json.loads((tmp_path / "out/bench.json").read_text())
    room, broken = stored["records"]["room"], stored["records"]["broken"]
    assert [name for name, record in room.items() if "failed" in record] == []
    assert all("cannot be read as an image" in record["failed"] for record in broken.values())
    assert room["das3r-light"]["strict"] and room["front-end"]["peak_mb"] > 100
    assert "psnr_static of held-out frames" in done.stdout and "cannot be read as an image" in done.stdout


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["bench", "davis", "--data", str(tmp_path), "--output-dir", str(tmp_path / "out")])
    assert leaving.value.code == 1
    assert "holds no sequence of the protocol davis" in capsys.readouterr().err
