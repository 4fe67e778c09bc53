"""What the commands do, on a GPU that is not there: training, resuming, evaluating, clean plates, the network.

Run by ``test_pretend_cuda.py`` in a process of its own: ``session.py GUARD DEMO FOLDER``. Prints a line of JSON with
what each part found, or how it failed.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import importlib.util
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GUARD, DEMO, FOLDER = (Path(argument) for argument in sys.argv[1:4])
os.environ["XDG_CACHE_HOME"] = str(FOLDER / "cache")
ctypes.CDLL(str(GUARD))  # torch asks what there is when it is imported, and never again

import device  # noqa: E402

device.install()

import numpy as np  # noqa: E402
import torch  # noqa: E402

STEPS = 36
CONFIG = FOLDER / "out/x/das3r/run/config.yml"


def module_at(path: Path) -> Any:
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


DEMO_VIDEO = module_at(Path(__file__).parents[1] / "conftest.py").read_demo(DEMO)
GEOMETRIC = importlib.import_module("das3r_ns.frontend.geometric.estimate").estimate
"""The front end itself: what is trained on has the true cameras and depth instead."""


def trainer_of(run: str, steps: int, **config: Any) -> Any:
    """The preset das3r on the demo, small and densifying, set up."""
    from das3r_ns.presets import trainer_config

    settings: Any = trainer_config("das3r")
    settings.vis = "tensorboard"
    settings.output_dir, settings.experiment_name, settings.timestamp = FOLDER / "out", "x", run
    settings.max_num_iterations = steps
    settings.steps_per_eval_image, settings.steps_per_eval_batch, settings.steps_per_eval_all_images = 15, 20, 25
    settings.logging.local_writer.enable = False
    parser = settings.pipeline.datamanager.dataparser
    settings.data = parser.data = DEMO / "frames"
    parser.max_points, parser.front_end.front_end = 200, "geometric"
    model = settings.pipeline.model
    model.warmup_length = model.refine_every = 8
    model.refine_static_weight_from = model.prune_staticness_from = model.sh_degree_interval = 10
    model.densify_grad_thresh, model.max_gaussians, model.camera_gate_psnr = 1e-6, 260, 5.0
    for name, value in config.items():
        setattr(settings, name, value)
    settings.save_config()
    trainer = settings.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def train() -> dict[str, Any]:
    """Train with densification and evaluations; count what each step waits for."""
    trainer = trainer_of("run", STEPS)
    started: list[collections.Counter[str]] = []
    train_iteration = trainer.train_iteration

    def counted(step: int) -> Any:
        started.append(device.waits.copy())
        return train_iteration(step)

    trainer.train_iteration = counted
    device.dense_convolutions.clear()
    before = trainer.pipeline.model.num_points
    trainer.train()
    model = trainer.pipeline.model
    return {
        "device": str(model.device),
        "grown": model.num_points > before,
        "cameras_moved": bool((model.camera_optimizer.pose_adjustment != 0).any()),
        "waits": [dict(b - a) for a, b in itertools.pairwise(started)],
        "dense_convolutions": dict(device.dense_convolutions),
    }


def resume() -> dict[str, Any]:
    """Go on from the checkpoint."""
    trainer = trainer_of("again", 4, load_dir=CONFIG.parent / "nerfstudio_models")
    trainer.train()
    states = [state for optimizer in trainer.optimizers.optimizers.values() for state in optimizer.state.values()]
    return {"step": trainer.step, "devices": sorted({str(state["exp_avg"].device) for state in states})}


def evaluate() -> dict[str, Any]:
    """ns-eval."""
    from nerfstudio.scripts.eval import ComputePSNR

    ComputePSNR(load_config=CONFIG, output_path=FOLDER / "eval.json").main()
    return json.loads((FOLDER / "eval.json").read_text())["results"]


def clean_plates() -> dict[str, Any]:
    """das3r clean-plate."""
    from das3r_ns.cleanplate.write import write_clean_plates
    from das3r_ns.trained.scene import TrainedScene

    write_clean_plates(TrainedScene.open(CONFIG), FOLDER / "plates")
    return {"frames": len(list((FOLDER / "plates/frames").glob("*.png")))}


def viewer() -> dict[str, Any]:
    """The outputs of the viewer, and what following the cameras waits for."""
    from das3r_ns.splats.viewed_frames import Frames
    from das3r_ns.trained.run import open_run, training_images

    pipeline: Any = open_run(CONFIG)
    frames = Frames(pipeline.model, training_images(pipeline))
    frames.all_c2w_cv()
    device.waits.clear()
    frames.all_c2w_cv()
    waits = dict(device.waits)
    panel = pipeline.model.viewer_panel
    panel.frames, panel.viewer = frames, SimpleNamespace(current_camera_idx=1)
    pipeline.model.eval()
    with torch.no_grad():
        outputs = panel.outputs(pipeline.model, frames.camera(1))
    return {"waits": waits, "devices": sorted({str(value.device) for value in outputs.values()})}


def dense() -> dict[str, Any]:
    """The front end geometric with its dense kernels on the GPU and on the CPU."""
    from das3r_ns.frontend.config import FrontEndConfig
    from das3r_ns.progress import Progress

    images, names = DEMO_VIDEO.images, [str(number) for number in range(len(DEMO_VIDEO.images))]
    here, there = (
        GEOMETRIC(images, names, FrontEndConfig(kernels=kernels), Progress()) for kernels in ("auto", "numba")
    )
    return {
        "kernels": here.provenance["kernels"],
        "depth_off_by": float(np.median(np.abs(np.log(here.depth / there.depth)))),
    }


def network() -> dict[str, Any]:
    """The front end monst3r with a tiny network, on the GPU and on the CPU."""
    from safetensors.torch import save_file

    from das3r_ns.frontend.config import FrontEndConfig
    from das3r_ns.frontend.network.monst3r import build_network, dpt, front_end, heads
    from das3r_ns.frontend.network.monst3r.checkpoints import official_name
    from das3r_ns.frontend.network.monst3r.compute import choose_compute
    from das3r_ns.frontend.network.monst3r.inference import predict_pairs
    from das3r_ns.progress import Progress

    fill = module_at(Path(__file__).parents[1] / "reference/fill.py")
    for module in (dpt, heads):
        module.__dict__["FEATURES"] = 8
    dpt.LAYER_DIMS = (4, 6, 8, 10)
    tiny = build_network(fill.TINY)
    weights = fill.fill_state_dict((name, value.shape) for name, value in tiny.state_dict().items())
    tiny.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    checkpoint = FOLDER / "checkpoint"
    checkpoint.mkdir()
    official = {name: value for name, value in tiny.state_dict().items() if official_name(name) == name}
    save_file(official, checkpoint / "model.safetensors")
    (checkpoint / "config.json").write_text(json.dumps(fill.TINY))
    pictures = np.stack([fill.image(number, 64, 96) for number in range(3)]).transpose(0, 2, 3, 1)
    pictures = np.round((pictures * 0.5 + 0.5) * 255).astype(np.uint8)
    settings = FrontEndConfig(front_end="monst3r", network_size=96, checkpoint=str(checkpoint), precision="float32")
    estimate = front_end.estimate(pictures, list("abc"), dataclasses.replace(settings, device="cuda"), Progress())
    # What the alignment makes of a network without sense hangs on the last digit; what the network says does not.
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1)]
    points = [
        predict_pairs(tiny, pictures, pairs, compute=choose_compute(name, "float32"), storage=torch.float32).points2
        for name in ("cpu", "cuda")
    ]
    off = (points[0] - points[1]).norm(dim=-1) / points[0].norm(dim=-1)
    return {"points_off_by": float(off.median()), "finite": bool(np.isfinite(estimate.depth).all())}


def main() -> None:
    """Run every part, also those after one that fails."""
    torch.set_num_threads(1)
    truth = DEMO_VIDEO.estimate
    importlib.import_module("das3r_ns.frontend.geometric.estimate").__dict__["estimate"] = lambda images, names, *_: (
        dataclasses.replace(truth, frame_names=names)
    )
    parts: list[Callable[[], dict[str, Any]]] = [train, resume, evaluate, clean_plates, viewer, dense, network]
    report: dict[str, Any] = {}
    for part in parts:
        try:
            report[part.__name__] = part()
        except (Exception, SystemExit):
            report[part.__name__] = {"failed": traceback.format_exc(limit=-8)}
    print("\n" + json.dumps(report))


if __name__ == "__main__":
    main()
