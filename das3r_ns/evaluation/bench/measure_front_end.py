"""Measures the front end on one sequence: cost, masks and cameras."""

from __future__ import annotations

import numpy as np

from das3r_ns.evaluation.bench.job import Job, Record
from das3r_ns.evaluation.bench.pictures import read_rgb, save_picture, shown_frames
from das3r_ns.evaluation.compare import compare
from das3r_ns.evaluation.cost import Cost
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.drawing import overlay
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.progress import Progress


def measure_front_end(job: Job) -> Record:
    """Run the front end, or read what an interrupted run has cached, and compare.

    Raises:
        Das3rError: The frames cannot be used.
    """
    clip = job.link_clip()
    cost, progress = Cost(), Progress()
    scene = load_or_estimate(clip, job.front_end(), progress)
    used = cost.so_far()
    estimate = scene.estimate
    problems: list[str] = []
    figures = compare(estimate, job.truth, problems)
    trajectory = figures.pop("trajectory", None)
    return {
        "front_end": estimate.provenance.get("front_end"),
        "front_end_version": estimate.provenance.get("front_end_version"),
        "camera_kind": estimate.camera_kind,
        "frames": estimate.num_frames,
        "size": f"{estimate.width}x{estimate.height}",
        "colmap": estimate.provenance.get("known", {}).get("colmap"),
        "figures": {name: value for name, value in figures.items() if np.isfinite(value)},
        **used,
        # Of the run that computed it: where the cache had it, this one took no time.
        "seconds": estimate.provenance.get("seconds", progress.seconds),
        "problems": problems,
        "trajectory": trajectory,
        "pictures": _pictures(job, scene),
    }


def _pictures(job: Job, scene: PreparedScene) -> list[dict[str, str]]:
    made = []
    for index in shown_frames(list(range(scene.estimate.num_frames))):
        image = read_rgb(scene.image_paths[index])
        shown = {"input": image, "mask over input": overlay(image, scene.estimate.dynamic_probability[index])}
        made.append({"frame": scene.estimate.frame_names[index]} | save_picture(job, index, shown))
    return made
