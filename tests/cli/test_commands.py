"""The das3r command, as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml

from das3r_ns.cli import main
from das3r_ns.evaluation.ground_truth import GroundTruth


@pytest.fixture()
def data(demo_video, tmp_path: Path) -> Path:
    """The demo's frames at three times the size."""
    (tmp_path / "video").mkdir()
    for number, image in enumerate(demo_video.images):
        cv2.imwrite(str(tmp_path / f"video/{number:05d}.png"), np.kron(image, np.ones((3, 3, 1), np.uint8))[..., ::-1])
    return tmp_path / "video"


def test_masks_writes_everything_at_the_size_of_the_video(
    data: Path, demo_video, tmp_path: Path, oracle_front_end: list[int]
) -> None:
    out = tmp_path / "out"
    main.entrypoint(["masks", "--data", str(data), "--output-dir", str(out), "--long-side", "160"])
    assert oracle_front_end == [12]
    assert {path.name for path in out.iterdir()} == {
        *("masks", "soft", "depth", "overlay.mp4", "poses.txt", "intrinsics.json", "points.ply", "das3r.json"),
        *("contact_sheet.png", "trajectory.png"),
    }
    for i in (0, 6):
        mask = cv2.imread(str(out / f"masks/{i:05d}.png"), cv2.IMREAD_UNCHANGED)
        soft = cv2.imread(str(out / f"soft/{i:05d}.png"), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(out / f"depth/{i:05d}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == soft.shape == (270, 480) and depth.shape == (270, 480, 3)
        assert set(np.unique(mask)) <= {0, 255} and soft.dtype == np.uint16
        truth = np.kron(demo_video.estimate.dynamic_probability[i], np.ones((3, 3))) > 0.5
        assert ((mask > 0) == truth).mean() > 0.98
        np.testing.assert_array_equal(mask > 0, soft >= 32768)


def test_masks_writes_cameras_that_the_evaluation_reads(
    data: Path, demo_video, tmp_path: Path, oracle_front_end: list[int]
) -> None:
    out = tmp_path / "out"
    main.entrypoint(["masks", "--data", str(data), "--output-dir", str(out), "--long-side", "160"])
    shutil.copytree(data, out / "frames", ignore=shutil.ignore_patterns(".das3r"))
    read = GroundTruth(out)
    np.testing.assert_allclose(read.c2w_cv, demo_video.estimate.c2w_cv, atol=1e-8)
    np.testing.assert_allclose(read.intrinsics, np.diag([3, 3, 1]) @ demo_video.estimate.intrinsics[0])
    assert json.loads((out / "das3r.json").read_text())["provenance"]["front_end"] == "geometric"


def test_masks_writes_a_film_and_points(data: Path, demo_video, tmp_path: Path, oracle_front_end: list[int]) -> None:
    out = tmp_path / "out"
    main.entrypoint(["masks", "--data", str(data), "--output-dir", str(out), "--long-side", "160"])
    with av.open(str(out / "overlay.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 12 and frames[0].shape == (90, 160, 3)
    moves = demo_video.estimate.dynamic_probability[6] > 0.5
    redder = frames[6].astype(float) - demo_video.images[6]
    assert redder[moves][:, 0].mean() - redder[moves][:, 2].mean() > 40
    assert np.abs(redder[~moves]).mean() < 12

    header, _, body = (out / "points.ply").read_bytes().partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split()[0])
    points = np.frombuffer(body, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    assert len(points) == count > 1000
    # The back wall and the floor of the room, in the frame of the first camera.
    assert 5.5 < np.percentile(points["xyz"][:, 2], 99) < 7.5


def test_masks_twice_reads_the_cache_and_replaces_the_folder(
    data: Path, tmp_path: Path, oracle_front_end: list[int]
) -> None:
    arguments = ["masks", "--data", str(data), "--output-dir", str(tmp_path / "out"), "--long-side", "160"]
    main.entrypoint(arguments)
    (tmp_path / "out/masks/99999.png").touch()
    main.entrypoint(arguments)
    assert oracle_front_end == [12]
    assert not (tmp_path / "out/masks/99999.png").exists()


def test_another_threshold_or_dilation_computes_nothing_anew(
    data: Path, tmp_path: Path, oracle_front_end: list[int]
) -> None:
    def masks(*options: str) -> np.ndarray:
        out = tmp_path / "out"
        main.entrypoint(["masks", "--data", str(data), "--output-dir", str(out), "--long-side", "160", *options])
        assert cv2.imread(str(out / "contact_sheet.png")) is not None
        return cv2.imread(str(out / "masks/00006.png"), cv2.IMREAD_UNCHANGED) > 0

    plain, loose, grown = masks(), masks("--threshold", "0.01"), masks("--dilation", "5")
    soft = cv2.imread(str(tmp_path / "out/soft/00006.png"), cv2.IMREAD_UNCHANGED)
    assert oracle_front_end == [12]
    np.testing.assert_array_equal(loose, soft >= round(0.01 * 65535))
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    assert plain.sum() < grown.sum() and (grown | ~(cv2.dilate(plain.astype(np.uint8), near) > 0)).all()
    settings = json.loads((tmp_path / "out/das3r.json").read_text())
    assert (settings["threshold"], settings["dilation"]) == (0.5, 5)


@pytest.mark.parametrize(("option", "value"), [("--dilation", "-1"), ("--threshold", "1.5")])
def test_masks_refuses_what_makes_no_mask_before_it_computes(
    option: str, value: str, data: Path, tmp_path: Path, oracle_front_end: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["masks", "--data", str(data), "--output-dir", str(tmp_path / "out"), option, value])
    assert leaving.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("das3r: ") and option in error and value in error
    assert not oracle_front_end and not (tmp_path / "out").exists()


def test_masks_never_replaces_a_folder_of_the_users(
    data: Path, tmp_path: Path, oracle_front_end: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["masks", "--data", str(data), "--output-dir", str(data)])
    assert leaving.value.code == 1
    assert "left alone" in capsys.readouterr().err
    assert not oracle_front_end and len(list(data.glob("*.png"))) == 12


def test_an_error_is_one_paragraph_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["masks", "--data", str(tmp_path / "nothing"), "--output-dir", str(tmp_path / "out")])
    assert leaving.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("das3r: ") and "nothing does not exist" in error and error.count("\n") == 1


def test_ctrl_c_is_one_line_and_exit_code_130(
    data: Path, tmp_path: Path, oracle_front_end, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["das3r_ns.frontend.geometric.estimate"], "estimate", interrupt)
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["masks", "--data", str(data), "--output-dir", str(tmp_path / "out"), "--long-side", "160"])
    assert leaving.value.code == 130
    assert capsys.readouterr().err.endswith("das3r: interrupted; nothing half-written was left behind.\n")
    assert not (tmp_path / "out").exists()


def test_demo_writes_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "demo"
    main.entrypoint(["demo", str(target), "--num-frames", "2", "--width", "64", "--height", "36", "--no-moving"])
    assert GroundTruth(target).num_frames == 2
    assert not GroundTruth(target).mask(0).any()
    assert f"--data {target}" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--num-frames", "1"), ("--width", "0"), ("--height", "-5")])
def test_demo_refuses_what_cannot_be_drawn(
    options: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main.entrypoint(["demo", str(tmp_path / "demo"), *options])
    assert leaving.value.code == 1 and options[0] in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = """
import sys
from das3r_ns.cli import main
try:
    main.entrypoint(["--help"])
except SystemExit:
    print(sorted({"torch", "nerfstudio", "numba", "scipy", "cv2", "av", "numpy"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "demo" in result.stdout and "masks" in result.stdout
    assert result.stdout.endswith("[]\n")


@pytest.mark.parametrize("command", ["clean-plate", "export"])
def test_commands_for_runs_say_what_is_wrong_with_a_run(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(config: Path, out: Path) -> str:
        with pytest.raises(SystemExit) as leaving:
            main.entrypoint([command, "--load-config", str(config), "--output-dir", str(out)])
        assert leaving.value.code == 1
        error = capsys.readouterr().err
        assert error.startswith("das3r: ") and error.count("\n") == 1
        return error

    assert "config.yml is not a file" in said(tmp_path / "config.yml", tmp_path / "out")
    (tmp_path / "notes.yml").write_text("a: [1, 2]\n")
    assert "notes.yml is no configuration" in said(tmp_path / "notes.yml", tmp_path / "out")
    assert "left alone" in said(tmp_path / "config.yml", tmp_path)  # it holds notes.yml
    assert not (tmp_path / "out").exists()


def test_a_run_is_found_beside_its_config(
    make_trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its output folder is a relative one, and the command runs elsewhere; a run without a checkpoint is said."""
    trainer = make_trainer()
    trainer.save_checkpoint(3)
    trainer.config.output_dir = Path("outputs")
    folder = tmp_path / trainer.config.get_base_dir()
    (folder / "config.yml").write_text(yaml.dump(trainer.config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arguments = ["export", "--load-config", str(folder / "config.yml"), "--output-dir", "out", "--format", "trajectory"]
    main.entrypoint(arguments)
    assert len((tmp_path / "elsewhere/out/trajectory.txt").read_text().splitlines()) == 13
    shutil.rmtree(folder / "nerfstudio_models")
    with pytest.raises(SystemExit):
        main.entrypoint(arguments)
    assert "has no checkpoint" in capsys.readouterr().err


def test_spz_without_its_package_is_said_before_the_run_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    arguments = ["--load-config", str(tmp_path / "config.yml"), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main.entrypoint(["export", *arguments, "--format", "spz"])
    assert "pip install 'das3r-ns[spz]'" in capsys.readouterr().err
