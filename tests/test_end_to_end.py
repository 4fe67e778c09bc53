"""A demo video through the real commands: ns-train das3r-light, ns-export gaussian-splat, ns-eval."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from das3r_ns.demo.write import write_demo
from das3r_ns.rasterization import rasterization

pytestmark = pytest.mark.slow

STEPS = 250


@dataclass(frozen=True)
class Run:
    """What the commands left behind."""

    demo: Path
    config: Path
    ply: Path


def command(*arguments: str | Path, folder: Path, cache: Path | None = None) -> str:
    """Run one of nerfstudio's commands in a folder; returns what it printed."""
    name, *rest = map(str, arguments)
    program = str(Path(sys.executable).with_name(name))
    environment = os.environ | {"XDG_CACHE_HOME": str(cache or folder / "cache")}
    done = subprocess.run([program, *rest], cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on 24 frames of 240 x 136 with the front end that needs no weights, and exported."""
    folder = tmp_path_factory.mktemp("end_to_end")
    demo = write_demo(folder / "room", num_frames=24, width=240, height=136)
    arguments = [
        "--data",
        "room/frames",
        "--output-dir",
        "out",
        "--experiment-name",
        "room",
        "--timestamp",
        "run",
    ]
    arguments += ["--vis", "tensorboard", "--max-num-iterations", str(STEPS)]
    arguments += ["--pipeline.datamanager.dataparser.max-points", "10000", "--pipeline.model.num-downscales", "0"]
    printed = command("ns-train", "das3r-light", *arguments, folder=folder)
    assert "Front end: geometric" in printed
    config = folder / "out" / "room" / "das3r-light" / "run" / "config.yml"
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    arguments = ("--load-config", config, "--output-dir", folder / "ply")
    printed = command("ns-export", "gaussian-splat", *arguments, folder=elsewhere, cache=folder / "cache")
    assert "Front end: read from" in printed
    assert "Optical flow" not in printed
    return Run(demo, config, folder / "ply" / "splat.ply")


@pytest.fixture(scope="module")
def pipeline(run: Run):
    """The checkpoint as ns-eval and ns-viewer open it."""
    from nerfstudio.utils.eval_utils import eval_setup

    return eval_setup(run.config)[1]


def test_ns_export_cameras_writes_every_frame(pipeline) -> None:
    from nerfstudio.exporter.exporter_utils import collect_camera_poses

    train, _ = collect_camera_poses(pipeline)
    assert len(train) == 24


def read_ply(path: Path) -> dict[str, Tensor]:
    """Columns of a binary PLY of floats."""
    contents = path.read_bytes()
    header, _, body = contents.partition(b"end_header\n")
    names = [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property float")]
    table = np.frombuffer(body, "<f4").reshape(-1, len(names))
    return {name: torch.from_numpy(table[:, i].copy()) for i, name in enumerate(names)}


def columns(splats: dict[str, Tensor], prefix: str) -> Float[Tensor, "N C"]:
    """Columns prefix_0, prefix_1, ... side by side."""
    names = sorted((n for n in splats if n.startswith(prefix)), key=lambda n: int(n.rsplit("_", 1)[1]))
    return torch.stack([splats[n] for n in names], dim=-1)


def training_camera(pipeline, frame: int):
    """Camera of a frame; its metadata names the frame, so that the refined pose is used."""
    camera = pipeline.datamanager.train_dataset.cameras[frame : frame + 1]
    camera.metadata = {"cam_idx": frame}
    return camera


def render_ply(splats: dict[str, Tensor], pipeline, frame: int) -> tuple[Float[np.ndarray, "H W 3"], np.ndarray]:
    """What any splat viewer shows at the camera of a training frame, on black; and the accumulation."""
    camera = training_camera(pipeline, frame)
    rest = columns(splats, "f_rest_").reshape(len(splats["x"]), 3, -1).transpose(1, 2)
    colors = torch.cat([columns(splats, "f_dc_")[:, None], rest], dim=1)
    with torch.no_grad():
        picture, alpha, _ = rasterization(
            means=torch.stack([splats["x"], splats["y"], splats["z"]], dim=-1),
            quats=columns(splats, "rot_"),
            scales=torch.exp(columns(splats, "scale_")),
            opacities=torch.sigmoid(splats["opacity"]),
            colors=colors,
            viewmats=pipeline.model.view_matrix(camera),
            Ks=camera.get_intrinsics_matrices(),
            width=int(camera.width),
            height=int(camera.height),
            sh_degree=round(colors.shape[1] ** 0.5) - 1,
        )
    return picture[0].clamp(0, 1).numpy(), alpha[0].numpy()


def read_picture(demo: Path, kind: str, frame: int) -> Float[np.ndarray, "H W 3"]:
    """A picture of the demo in [0, 1]."""
    return cv2.imread(str(demo / kind / f"{frame:05d}.png"))[..., ::-1] / 255.0


def psnr(picture: np.ndarray, truth: np.ndarray, pixels: Bool[np.ndarray, "H W"]) -> float:
    """PSNR over the chosen pixels."""
    return float(-10 * np.log10(np.mean((picture[pixels] - truth[pixels]) ** 2)))


def test_the_exported_picture_is_clean(run: Run, pipeline) -> None:
    """Over static pixels, over what stood behind the movers, and nothing of the movers is left."""
    splats = read_ply(run.ply)
    assert len(splats["x"]) > 2000
    assert all(bool(torch.isfinite(values).all()) for values in splats.values())
    over_static, over_movers, of_movers = [], [], []
    for frame in range(2, 24, 5):
        picture, _ = render_ply(splats, pipeline, frame)
        clean, shown = read_picture(run.demo, "clean", frame), read_picture(run.demo, "frames", frame)
        moves = read_picture(run.demo, "masks", frame)[..., 0] > 0
        seen = cv2.imread(str(run.demo / "observed" / f"{frame:05d}.png"), cv2.IMREAD_GRAYSCALE) > 2
        over_static.append(psnr(picture, clean, ~moves))
        over_movers.append(psnr(picture, clean, moves & seen))
        of_movers.append(psnr(picture, shown, moves & seen))
    print(f"PSNR over static {over_static}, over movers {over_movers}, against the movers {of_movers}")
    assert np.mean(over_static) > 24
    assert np.mean(over_movers) > 20
    assert np.mean(over_movers) > np.mean(of_movers) + 6


def test_the_ply_shows_what_the_model_renders(run: Run, pipeline) -> None:
    splats = read_ply(run.ply)
    picture, alpha = render_ply(splats, pipeline, 10)
    with torch.no_grad():
        render, model_alpha, _ = pipeline.model.render(training_camera(pipeline, 10))
    np.testing.assert_allclose(alpha, model_alpha[0].numpy(), atol=0.02)
    assert np.abs(picture - render[0].clamp(0, 1).numpy()).mean() < 2e-3


def test_ns_eval_measures_it(run: Run, pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.scripts import eval as ns_eval

    monkeypatch.setattr(ns_eval, "eval_setup", lambda *_args, **_kwargs: (_trainer_config(run), pipeline, Path("x"), 0))
    ns_eval.ComputePSNR(load_config=run.config, output_path=tmp_path / "eval.json").main()
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr_static"] > 22
    assert all(np.isfinite(value) for value in results.values())


def _trainer_config(run: Run):
    import yaml

    return yaml.load(run.config.read_text(), Loader=yaml.Loader)
