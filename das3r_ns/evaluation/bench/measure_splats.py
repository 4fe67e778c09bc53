"""Trains one method on one sequence, and measures held-out frames and clean plates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline

from das3r_ns.data.dataparser import split_frames
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.baselines import splatfacto_anywhere
from das3r_ns.evaluation.bench.job import Job, Record, collect
from das3r_ns.evaluation.bench.lpips import find_lpips
from das3r_ns.evaluation.bench.pictures import save_picture, shown_frames
from das3r_ns.evaluation.compare import usable_masks
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.held_out_cameras import refined_pose
from das3r_ns.evaluation.measured_training import train
from das3r_ns.evaluation.methods import method_config
from das3r_ns.evaluation.metrics import psnr_paper, psnr_static
from das3r_ns.evaluation.observed import ITERATIONS, with_observed
from das3r_ns.evaluation.plates import masks_at, observed_at, score_plates, to_size
from das3r_ns.frontend.frames import find_frames
from das3r_ns.frontend.report.drawing import overlay
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.progress import Progress
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.static_weight import static_weight
from das3r_ns.splats.held_out_cameras import corrected_poses
from das3r_ns.splats.image_metrics import Lpips
from das3r_ns.splats.ssim import weighted_ssim
from das3r_ns.trained.run import render_camera, render_training_view, training_images


@dataclass
class HeldOut:
    """Held-out frames with what they are compared with."""

    frames: list[int]
    """Numbers among the frames of the clip."""
    targets: list[Float[np.ndarray, "H W 3"]]
    dynamic: list[Bool[np.ndarray, "H W"]]
    masks: str
    """Whose masks these are: 'truth', or 'front end' where the set has none."""
    found: list[Bool[np.ndarray, "H W"]]
    """What the front end says moves."""
    renders: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=dict)
    """Where the cameras come from -> outputs of the model."""


def measure_splats(job: Job) -> Record:
    """Train on all but the held-out frames, and measure.

    Raises:
        Das3rError: The sequence cannot be used, or is too short to hold out a frame.
    """
    assert job.method is not None
    clip = job.link_clip()
    config = method_config(job.method, job.base, job.config.max_iterations)
    parser: Any = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.data = clip
    parser.front_end = job.config.applied(parser.front_end)
    parser.eval_split = "paper"
    parser.strict = job.config.strict
    parser.anyway = True  # what comes of a clip that is not solved is a figure too
    config.output_dir = job.config.output_dir.resolve() / "runs"
    config.experiment_name = job.sequence
    cost, problems = Cost(), []
    split_frames(len(find_frames(clip, parser.front_end, Progress()).names), "paper")  # too short? said at once
    estimate = load_or_estimate(clip, parser.front_end).estimate
    if job.config.train_size is not None:
        _train_at(config, job.config.train_size, max(estimate.width, estimate.height))
    masks = _true_masks(job, estimate, problems)
    with splatfacto_anywhere():
        before_training = cost.so_far()
        pipeline, training = train(config)
        held_out = _held_out(pipeline, estimate, masks)
        clock = Progress()
        with clock.stage("Rendering held-out frames"):
            _render(job, pipeline, held_out)
        used = cost.so_far()
        plates = collect(problems, "clean plates", _plates, job, pipeline, estimate) if job.config.plates else None
    assert isinstance(pipeline.model, SplatfactoModel)
    lpips = find_lpips(job.config.lpips, problems)
    figures = {name: _figures(held_out, name, lpips) for name in held_out.renders}
    return {
        "method": job.method,
        "front_end": estimate.provenance.get("front_end"),
        "front_end_version": estimate.provenance.get("front_end_version"),
        "iterations": config.max_num_iterations,
        "held_out": [estimate.frame_names[i] for i in held_out.frames],
        "frames": estimate.num_frames,
        "size": f"{held_out.targets[0].shape[1]}x{held_out.targets[0].shape[0]}",
        "masks": held_out.masks,
        "strict": job.config.strict,
        "gaussians": pipeline.model.num_points,
        "figures": figures["carried"] | (plates or {}),
        "figures_given": figures["given"],
        "figures_refined": figures.get("refined"),
        **used,
        "seconds": {
            "front end": sum(estimate.provenance.get("seconds", {}).values()),
            "training": training["wall_s"],
            "rest": round(used["wall_s"] - before_training["wall_s"] - training["wall_s"], 1),
        },
        "training_cpu_s": training["cpu_s"],
        "iterations_per_s": round(config.max_num_iterations / max(training["wall_s"], 1e-3), 2),
        "problems": problems,
        "pictures": _pictures(job, held_out, estimate),
    }


def _train_at(config: TrainerConfig, long_side: int, working: int) -> None:
    """Train on images of another long side than the front end's, seeds and Gaussians in proportion to their pixels."""
    pipeline: Any = config.pipeline
    parser, model = pipeline.datamanager.dataparser, pipeline.model
    parser.train_size = long_side
    share = min(1.0, (long_side / working) ** 2)
    parser.max_points = round(parser.max_points * share)
    if hasattr(model, "max_gaussians"):  # splatfacto knows no limit
        model.max_gaussians = round(model.max_gaussians * share)


def _true_masks(job: Job, estimate: SceneEstimate, problems: list[str]) -> dict[int, Bool[np.ndarray, "H W"]] | None:
    """Held-out frame -> what moves in it; None where the set has no masks at all.

    Raises:
        Das3rError: It has, but none that can be used.
    """
    if not job.truth.has("masks"):
        return None
    frames = split_frames(estimate.num_frames, "paper")[1]
    in_truth = job.truth.indices([estimate.frame_names[i] for i in frames])
    masks = usable_masks(job.truth, in_truth, problems)
    if not masks:
        raise Das3rError(f"No held-out frame can be judged, so nothing was trained. {problems[-1]}")
    return {frame: masks[i] for frame, i in zip(frames, in_truth, strict=True) if i in masks}


def _held_out(pipeline: Pipeline, estimate: SceneEstimate, masks: dict[int, Bool[np.ndarray, "H W"]] | None) -> HeldOut:
    dataset = _eval_images(pipeline)
    frames = dataset.metadata["frame_indices"].tolist()
    targets = [dataset[i]["image"].float().numpy()[..., :3] for i in range(len(frames))]
    size = (targets[0].shape[1], targets[0].shape[0])
    found = [static_weight(estimate.dynamic_probability[i], 0, size) < 1 - MOVES for i in frames]
    if masks is None:
        return HeldOut(frames, targets, found, "front end", found)
    kept = [k for k, frame in enumerate(frames) if frame in masks]
    dynamic = [to_size(masks[frames[k]].astype(np.float32), size) >= 0.5 for k in kept]
    return HeldOut([frames[k] for k in kept], [targets[k] for k in kept], dynamic, "truth", [found[k] for k in kept])


def _eval_images(pipeline: Pipeline) -> InputDataset:
    dataset = pipeline.datamanager.eval_dataset
    assert dataset is not None
    return dataset


def _render(job: Job, pipeline: Pipeline, held_out: HeldOut) -> None:
    """Renders at the given, the carried and, where asked for, the refined poses (see held_out_cameras.py)."""
    train_set, eval_set = training_images(pipeline), _eval_images(pipeline)
    at = [eval_set.metadata["frame_indices"].tolist().index(frame) for frame in held_out.frames]
    cameras = eval_set.cameras[torch.tensor(at)]
    poses = {"given": cameras.camera_to_worlds.double().cpu().numpy()}
    poses["carried"] = corrected_poses(pipeline.model, train_set, eval_set)[at]
    if job.config.refine_test_poses:
        refined = []
        for k, (target, dynamic) in enumerate(zip(held_out.targets, held_out.dynamic, strict=True)):
            camera = cameras[k : k + 1]
            camera.metadata = {"frame": held_out.frames[k]}  # by which das3r gives it the light of those beside it
            camera.camera_to_worlds = torch.from_numpy(poses["carried"][k : k + 1]).float()
            static = torch.from_numpy(~dynamic[..., None]).float().to(pipeline.device)
            best = refined_pose(pipeline.model, camera, torch.from_numpy(target).to(pipeline.device), static)
            refined.append(best[0].double().cpu().numpy())
        poses["refined"] = np.stack(refined)
    for name, c2w in poses.items():
        views = []
        for k in range(len(at)):
            camera = cameras[k : k + 1]
            camera.metadata = {"frame": held_out.frames[k]}  # by which das3r gives it the light of those beside it
            camera.camera_to_worlds = torch.from_numpy(c2w[k : k + 1]).float()
            views.append(render_camera(pipeline, camera))
        held_out.renders[name] = views


def _figures(held_out: HeldOut, poses: str, lpips: Lpips | None) -> dict[str, float]:
    """Mean over the held-out frames; those without a static pixel do not count."""
    names = ("psnr_paper", "psnr_static", "psnr_agreed", "ssim", "lpips")
    values: dict[str, list[float]] = {name: [] for name in names}
    frames = zip(held_out.renders[poses], held_out.targets, held_out.dynamic, held_out.found, strict=True)
    for view, target, dynamic, found in frames:
        if dynamic.all():
            continue
        render = view["rgb"].clip(0, 1)
        values["psnr_paper"].append(psnr_paper(render, target, dynamic))
        values["psnr_static"].append(psnr_static(render, target, dynamic))
        if not (dynamic | found).all():
            values["psnr_agreed"].append(psnr_static(render, target, dynamic | found))
        static = torch.from_numpy(~dynamic[..., None]).float()
        values["ssim"].append(float(weighted_ssim(torch.from_numpy(render), torch.from_numpy(target), static)))
        if lpips is not None:
            # What moves is made equal in both, so that it adds nothing.
            shown = np.where(dynamic[..., None], target, render)
            pair = [torch.from_numpy(p).permute(2, 0, 1)[None].float() for p in (shown, target)]
            values["lpips"].append(float(lpips(pair[0], pair[1])))
    return {name: float(np.mean(figures)) for name, figures in values.items() if figures}


def _plates(job: Job, pipeline: Pipeline, estimate: SceneEstimate) -> dict[str, float]:
    """Clean plates at the training cameras against the true background; nothing where there is none.

    Raises:
        Das3rError: A part of the ground truth cannot be used.
    """
    if not (job.truth.has("clean") and job.truth.has("masks")):
        return {}
    dataset = training_images(pipeline)
    frames = dataset.metadata["frame_indices"].tolist()
    indices = job.truth.indices([estimate.frame_names[i] for i in frames])
    renders = [render_training_view(pipeline, k)["rgb"] for k in range(len(frames))]
    size = (renders[0].shape[1], renders[0].shape[0])
    clean, covered = [to_size(job.truth.clean(i), size) for i in indices], masks_at(job.truth, indices, size)
    steps = min(ITERATIONS, job.config.max_iterations or ITERATIONS)
    truth = with_observed(job.truth, job.config.output_dir / f"clean-scenes/{job.sequence}-{steps}", steps)
    figures = score_plates(renders, clean, covered, observed_at(truth, indices, size))
    return {f"plate_{name}": value for name, value in figures.items() if np.isfinite(value)}


def _pictures(job: Job, held_out: HeldOut, estimate: SceneEstimate) -> list[dict[str, str]]:
    made = []
    for k in shown_frames(list(range(len(held_out.frames)))):
        frame, view = held_out.frames[k], held_out.renders["carried"][k]
        image = np.rint(held_out.targets[k] * 255).astype(np.uint8)
        size = (image.shape[1], image.shape[0])
        moves = 1 - static_weight(estimate.dynamic_probability[frame], 0, size)
        shown = {"input": image, "mask over input": overlay(image, moves), "clean render": view["rgb"]}
        if "staticness" in view:
            shown["staticness"] = view["staticness"]
        made.append({"frame": estimate.frame_names[frame]} | save_picture(job, frame, shown))
    return made
