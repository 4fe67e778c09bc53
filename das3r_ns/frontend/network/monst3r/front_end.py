"""The front end with the DAS3R, MonST3R or DUSt3R network: pairs of frames, global alignment, motion evidence."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.estimate import FLOW_LONG_SIDE, STRIDES, shrink
from das3r_ns.frontend.geometric.flow import pick_flow
from das3r_ns.frontend.geometric.motion import RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.network.alignment import AlignmentConfig, AlignmentResult, global_align, join_windows
from das3r_ns.frontend.network.monst3r import hub
from das3r_ns.frontend.network.monst3r.checkpoints import load_network
from das3r_ns.frontend.network.monst3r.compute import Compute, choose_compute
from das3r_ns.frontend.network.monst3r.held import Held
from das3r_ns.frontend.network.monst3r.inference import predict_pairs
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.frontend.network.monst3r.preprocessing import (
    Framing,
    frame_image,
    unframe,
    unframe_intrinsics,
    whole_framing,
)
from das3r_ns.frontend.network.opinion_fusion import flow_trust, fuse_dynamic
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.network.refinement import refine_with_flow
from das3r_ns.frontend.painted import painted_over
from das3r_ns.frontend.pairs import Pair, both_ways, graph_for, make_pairs, strided_pairs
from das3r_ns.frontend.sam2 import refine_masks
from das3r_ns.frontend.windows import overlapping_windows
from das3r_ns.memory import release_memory
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate

HALF_CONFIDENT = 3.0
"""Confidence of the network, 1 at least, that counts as one half: below it the official code leaves points out."""


def estimate(
    images: UInt8[np.ndarray, "N H W 3"],
    names: list[str],
    config: FrontEndConfig,
    progress: Progress,
    known: Known | None = None,
    full_size: object = None,
) -> SceneEstimate:
    """Cameras, depth and dynamic probability of a video from what a network says of pairs of its frames.

    Args:
        images: RGB frames at the working resolution, at least two.
        names: Name of each frame.
        config: Settings of the front end.
        progress: Where to report.
        known: What the user knows of the video.
        full_size: Not used: a network sees pictures of its own size.

    Returns:
        The scene estimate at the resolution of ``images``.

    Raises:
        Das3rError: A setting or the checkpoint cannot be used, memory is short, or the network's values are not finite.
    """
    known = known or Known()
    count, height, width = images.shape[:3]
    if known.fixed is not None:
        images = painted_over(images, known.fixed)
    if config.batch_size < 0:
        raise Das3rError(f"{config.batch_size} pairs at once cannot be (--batch-size): take 0, which chooses.")
    how = whole_framing(width, height, config.network_size)
    windows = overlapping_windows(count, config.window, config.window_overlap)
    pairs = [window_pairs(len(window), config.pair_graph) for window in windows]
    compute = choose_compute(config.device, config.precision)
    if compute.device.type == "cpu":
        progress.say(
            "The network is made for a GPU and takes minutes to hours on a CPU; the front end geometric, which needs "
            "none, takes about a second a frame (--front-end geometric)."
        )
    path = hub.find_checkpoint(config.checkpoint, progress)
    with progress.stage("Loading the network"):
        network = load_network(path)
        framed = np.stack([frame_image(image, how) for image in images])
    if not network.config.mask_heads:
        progress.say("This checkpoint does not predict what moves: that is found from optical flow alone.")
    # Where borders were cut, everything is done on what the network saw, and brought back to whole frames at the end.
    seen = framed if how.crop else images
    small = shrink(seen, FLOW_LONG_SIDE)
    held = Held.of(known, how, (width, height))
    work = _Work(network, framed, small, windows, pairs, compute, config, progress, held)
    del network  # so that it can go as soon as it is done with
    aligned, flows = work.align()
    for message in aligned.messages:
        progress.say(message)
    confidence = relative_confidence(aligned.clean_confidence)
    if known.masks is not None and not known.joins:
        return _scene(aligned, confidence, known.with_masks(known.masks), how, names, known, refined=False)
    # The linear systems are small and many: BLAS threads wait for each other longer than they work.
    with progress.stage("What moves", count) as advance, threadpool_limits(limits=1, user_api="blas"):
        rigid = _rigid_prediction(aligned, confidence, flows)
        motion = dynamic_probability(seen, motion_evidence(seen, flows, rigid, advance))
        dynamic = fuse_dynamic(
            None if aligned.dynamic_mean is None else _resize(aligned.dynamic_mean, motion.shape),
            motion,
            _resize(flow_trust(flows), motion.shape),
        )
    dynamic = unframe(dynamic, how, (width, height)) if how.crop else dynamic
    dynamic, refined = refine_masks(images, dynamic, config, progress)
    return _scene(aligned, confidence, known.with_masks(dynamic), how, names, known, refined)


def window_pairs(num_frames: int, graph: str) -> list[Pair]:
    """Directed pairs of a window: each both ways, for a frame's own mask comes from pairs that have it as view 1.

    Raises:
        Das3rError: There is no such graph, or it does not hold the frames together.
    """
    pairs = make_pairs(num_frames, graph_for(num_frames, graph))
    there = set(pairs)
    return pairs + [pair for pair in both_ways(pairs) if pair not in there]


def relative_confidence(confidence: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
    """The network's confidence c, from 1 up, on the scale of a SceneEstimate: ln c / (ln c + ln 3).

    The alignment weighs points by ln c. What a cleaning has set below 1 becomes 0.
    """
    weight = np.log(np.maximum(confidence, 1.0))
    return (weight / (weight + np.log(HALF_CONFIDENT))).astype(np.float32)


@dataclass
class _Work:
    """Predicting and aligning, window by window."""

    network: PairNetwork | None
    """None once the last window is predicted."""
    framed: UInt8[np.ndarray, "N h w 3"]
    """The frames as the network sees them."""
    flow_images: UInt8[np.ndarray, "N fh fw 3"]
    """The same field of view at the size for optical flow."""
    windows: list[range]
    pairs: list[list[Pair]]
    """Of each window, counted from its first frame."""
    compute: Compute
    config: FrontEndConfig
    progress: Progress
    held: Held

    def align(self) -> tuple[AlignmentResult, PairFlows]:
        """Cameras and depth of the whole clip, and its optical flow.

        Only one window's predictions exist at a time, and the next one's take their place: pairs that both have are
        predicted once. The network stays for the next window, on the CPU while another
        one is aligned; tokens of frames that the next window has too are kept, so each frame is encoded once.
        """
        tokens: dict[int, Tensor] = {}
        flows: PairFlows | None = None
        results: list[AlignmentResult] = []
        predictions: PairPredictions | None = None
        settings = AlignmentConfig(focal=self.config.focal, device=str(self.compute.device))
        for number, window in enumerate(self.windows):
            if len(self.windows) > 1:
                self.progress.say(
                    f"Window {number + 1} of {len(self.windows)}: frames {window.start} to {window.stop - 1}."
                )
            predictions = self._predict(number, tokens, predictions)
            later = self.windows[number + 1] if number + 1 < len(self.windows) else range(0)
            for frame in [frame for frame in tokens if frame not in later]:
                del tokens[frame]
            self._stow_network(last=not later)
            # After the first predictions: a network that is of no use shows there, before minutes go into flow.
            flows = flows or self._flow()
            with self.progress.stage("Alignment"):
                held = self.held.section(window)
                results.append(
                    global_align(predictions, flows.section(window), settings, **held, first_frame=window.start)
                )
        predictions = None
        self._release()
        assert flows is not None
        return self._join(results, flows), flows

    def _predict(self, number: int, tokens: dict[int, Tensor], earlier: PairPredictions | None) -> PairPredictions:
        assert self.network is not None
        window = self.windows[number]
        return predict_pairs(
            self.network,
            self.framed[window.start : window.stop],
            self.pairs[number],
            self.progress,
            compute=self.compute,
            batch_size=self.config.batch_size,
            tokens=tokens,
            first_frame=window.start,
            earlier=earlier,
            earlier_first=self.windows[number - 1].start if number else 0,
        )

    def _stow_network(self, last: bool) -> None:
        """Off the device, and out of memory after the last window."""
        if last:
            self.network = None
        elif self.network is not None:
            self.network.to("cpu")
        self._release()

    def _flow(self) -> PairFlows:
        pairs = strided_pairs(len(self.framed), STRIDES)
        flow, name = pick_flow(self.compute.device)
        with self.progress.stage(f"Optical flow ({name})", len(pairs)) as advance:
            return flow(self.flow_images, pairs, advance)

    def _join(self, results: list[AlignmentResult], flows: PairFlows) -> AlignmentResult:
        if len(results) == 1:
            return results[0]
        shape = (len(self.framed), flows.height, flows.width)

        def refine(joined: AlignmentResult) -> AlignmentResult:
            static = self.held.static_weight
            if static is None and joined.dynamic_mean is not None:
                static = 1.0 - joined.dynamic_mean
            focal = None if self.held.focals is None else float(np.median(self.held.focals))
            return refine_with_flow(joined, flows, None if static is None else _resize(static, shape), focal)

        placed, shared = self.held.c2w_cv is not None, self.config.focal == "shared"
        with self.progress.stage("Joining windows"), threadpool_limits(limits=1, user_api="blas"):
            return join_windows(
                results,
                self.windows,
                shared_focal=shared and self.held.focals is None,
                refine=None if placed or not shared else refine,  # the refinement knows one focal only
                placed=placed,
            )

    def _release(self) -> None:
        release_memory()
        if self.compute.device.type == "cuda":
            torch.cuda.empty_cache()


def _rigid_prediction(
    aligned: AlignmentResult, confidence: Float[np.ndarray, "N H W"], flows: PairFlows
) -> RigidPrediction:
    """What a static world would look like, at the resolution of the flow."""
    height, width = aligned.depth.shape[1:]
    shape = (flows.num_frames, flows.height, flows.width)
    return RigidPrediction(
        depth=1.0 / _resize(1.0 / aligned.depth, shape),
        reliability=_resize(confidence, shape),
        intrinsics=geo.resize_intrinsics(aligned.intrinsics, (width, height), (flows.width, flows.height)),
        c2w_cv=aligned.c2w_cv,
    )


def _resize(values: Float[np.ndarray, "N h w"], shape: tuple[int, ...]) -> Float[np.ndarray, "N H W"]:
    if values.shape == shape:
        return values
    how = cv2.INTER_AREA if shape[1] < values.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(one, (shape[2], shape[1]), interpolation=how) for one in values])


def _scene(
    aligned: AlignmentResult,
    confidence: Float[np.ndarray, "N h w"],
    dynamic: Float[np.ndarray, "N H W"],
    how: Framing,
    names: list[str],
    known: Known,
    refined: bool,
) -> SceneEstimate:
    """Everything at the working resolution and in the frame of the first camera."""
    height, width = dynamic.shape[1:]
    size = (width, height)
    return SceneEstimate(
        frame_names=names,
        c2w_cv=geo.invert_rigid(aligned.c2w_cv[:1]) @ aligned.c2w_cv if known.c2w_cv is None else known.c2w_cv,
        intrinsics=unframe_intrinsics(aligned.intrinsics, how, size) if known.intrinsics is None else known.intrinsics,
        # Inverse depth is what changes evenly over a slanted plane.
        depth=1.0 / unframe(1.0 / aligned.depth, how, size),
        confidence=np.clip(unframe(confidence, how, size, outside=0.0), 0.0, 1.0),
        dynamic_probability=np.clip(dynamic, 0.0, 1.0),
        provenance={"focals": [round(float(focal), 3) for focal in aligned.focals], "refined": refined},
    )
