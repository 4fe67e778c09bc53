"""The demo video laid out as each benchmark has it: the same figures come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.evaluation.bench.config import BenchConfig
from das3r_ns.evaluation.bench.job import Job, Record
from das3r_ns.evaluation.bench.process import run_job
from das3r_ns.evaluation.protocols import load_protocol


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture()
def measure(tmp_path: Path, oracle_front_end) -> Callable[[str, str], Record]:
    def run(protocol: str, sequence: str) -> Record:
        config = BenchConfig(protocol, tmp_path / "set", tmp_path / "out")
        return run_job(Job(config, sequence, None, "das3r-light"))

    return run


def masks(demo_video) -> np.ndarray:
    return (demo_video.estimate.dynamic_probability * 255).astype(np.uint8)


def test_davis(demo_video, tmp_path: Path, measure) -> None:
    for number, (image, mask) in enumerate(zip(demo_video.images, masks(demo_video), strict=True)):
        write(tmp_path / f"set/JPEGImages/480p/dog/{number:05d}.jpg", image[..., ::-1])
        write(tmp_path / f"set/Annotations/480p/dog/{number:05d}.png", mask)
    record = measure("davis", "dog")
    assert record["figures"] == {"J": 1.0, "F": 1.0, "recall": 1.0, "false_alarms": 0.0} and not record["problems"]
    assert "dog" in load_protocol("davis").front_end.sequences


def test_sintel(demo_video, tmp_path: Path, measure) -> None:
    training, estimate = tmp_path / "set/training", demo_video.estimate
    (training / "camdata_left/alley_2").mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(demo_video.images, masks(demo_video), strict=True)):
        name = f"alley_2/frame_{number + 1:04d}"
        write(training / f"final/{name}.png", image[..., ::-1])
        if number < 11:  # the last frame has no label, as in the flow they are made from
            write(training / f"dynamic_label_perfect/{name}.png", mask)
        world_to_camera = np.linalg.inv(estimate.c2w_cv[number])[:3]
        numbers = np.concatenate([estimate.intrinsics[number].ravel(), world_to_camera.ravel()]).astype("<f8")
        (training / f"camdata_left/{name}.cam").write_bytes(np.float32(202021.25).tobytes() + numbers.tobytes())
    record = measure("sintel", "alley_2")
    figures = record["figures"]
    assert figures["J"] == 1.0 and figures["ate"] < 1e-6 and figures["rpe_t"] < 1e-6 and figures["rpe_r"] < 1e-4
    assert figures["focal_error"] < 1e-9
    assert record["problems"][0].startswith("masks: 1 of 12 frames") and "frame_0012" in record["problems"][0]


def test_tum(demo_video, tmp_path: Path, measure, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "rgbd_dataset_freiburg3_walking_xyz"
    folder, listed, poses = tmp_path / "set" / name, [], []
    # Every third picture counts: the two after each have another time and nothing to show.
    for number in range(36):
        time = 1341845948.747856 + number / 30
        shown = demo_video.images[number // 3] if number % 3 == 0 else np.zeros_like(demo_video.images[0])
        write(folder / f"rgb/{time:.6f}.png", shown[..., ::-1])
        listed.append(f"{time:.6f} rgb/{time:.6f}.png")
        c2w = demo_video.estimate.c2w_cv[number // 3]
        values = (*c2w[:3, 3], *Rotation.from_matrix(c2w[:3, :3]).as_quat())
        poses.append(" ".join([f"{time + 0.004:.4f}", *(f"{value:.9f}" for value in values)]))
    (folder / "rgb.txt").write_text("\n".join(listed) + "\n")
    (folder / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    record = measure("tum", name)
    assert record["frames"] == 12 and not record["problems"]
    figures = record["figures"]
    assert figures["ate"] < 1e-6 and figures["rpe_t"] < 1e-6 and figures["rpe_r"] < 1e-4 and "J" not in figures
