"""DAS3R's objective and optimiser, to compare with. Its temporal term shrinks the trajectory: not what to use.

Rewritten from a description of its behaviour. MonST3R (Zhang et al., ICLR 2025), section 3.3, has the terms.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.alignment.cleaning import clean_confidence_official
from das3r_ns.frontend.network.alignment.depth_fusion import fuse_confidence, fuse_dynamic, pick_device, pixel_rays
from das3r_ns.frontend.network.alignment.official_spanning_tree import BASE_SCALE, official_parameters, official_start
from das3r_ns.frontend.network.alignment.result import AlignmentResult
from das3r_ns.frontend.network.predictions import PairPredictions

ITERATIONS = 300
RATE, RATE_END = 0.01, 0.001
TEMPORAL_WEIGHT, FLOW_WEIGHT = 0.01, 0.01
FLOW_FROM = 0.1
"""Share of the iterations that pass before the flow term counts."""

FLOW_ABANDONED = 20.0
"""Flow term above which an iteration does without it."""

FLOW_OUTLIER = 50.0
"""Smooth-L1 value from which a flow component is left out."""

Parameters = dict[str, Tensor]


def rotation_of(quaternion: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices of quaternions (scalar last), normalised first."""
    x, y, z, w = functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def translation_of(stored: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Translations of signed log(1 + |t|)."""
    return stored.sign() * torch.expm1(stored.abs())


class OfficialObjective:
    """The loss, term by term, of parameters as :func:`official_parameters` has them."""

    def __init__(
        self,
        predictions: PairPredictions,
        flows: PairFlows | None,
        moving: Bool[np.ndarray, "N H W"] | None,
        device: torch.device,
    ) -> None:
        """Bring what stays the same to the device.

        Args:
            predictions: Of all pairs.
            flows: Optical flow; pairs without it in both directions have no flow term.
            moving: What the flow term leaves out.
            device: Where to compute.
        """
        self.height, self.width = predictions.height, predictions.width
        self.first, self.second = torch.tensor(predictions.pairs, device=device).T
        shape = (len(predictions.pairs), self.height * self.width)
        self.points = [
            x.to(device, torch.float32).reshape(*shape, 3) for x in (predictions.points1, predictions.points2)
        ]
        self.weights = [
            x.to(device, torch.float32).reshape(shape).log() for x in (predictions.confidence1, predictions.confidence2)
        ]
        self.grid = pixel_rays(self.height, self.width, 1.0, device).reshape(-1, 3)
        self.static = torch.ones((predictions.num_frames, shape[1]), dtype=torch.bool, device=device)
        if moving is not None:
            self.static = ~torch.as_tensor(moving, device=device).reshape(self.static.shape)
        self.flow: tuple[Tensor, Tensor] | None = None
        self.with_flow = torch.tensor([], dtype=torch.long)
        if flows is not None:
            pairs = predictions.pairs
            known = [e for e, (i, j) in enumerate(pairs) if {(i, j), (j, i)} <= flows.fields.keys()]
            there = [self._field(flows, *pairs[e]) for e in known]
            back = [self._field(flows, *pairs[e][::-1]) for e in known]
            if known:
                self.flow = (torch.stack(there).to(device), torch.stack(back).to(device))
                self.with_flow = torch.tensor(known, device=device)

    def _field(self, flows: PairFlows, i: int, j: int) -> Float[Tensor, "P 2"]:
        field = flows.flow(i, j)
        if field.shape[:2] != (self.height, self.width):
            scale = np.array([self.width / flows.width, self.height / flows.height], dtype=np.float32)
            field = cv2.resize(field, (self.width, self.height), interpolation=cv2.INTER_LINEAR) * scale
        return torch.from_numpy(np.ascontiguousarray(field)).reshape(-1, 2)

    def cameras(self, p: Parameters) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotation [N, 3, 3], translation [N, 3], focal [N] and depth [N, P]."""
        focal = (p["im_focals"] / 20).exp().expand(len(p["im_poses"]), 1)[:, 0]
        return (
            rotation_of(p["im_poses"][:, :4]),
            translation_of(p["im_poses"][:, 4:]),
            focal,
            p["im_depthmaps"].exp(),
        )

    def rays(self, focal: Float[Tensor, " n"]) -> Float[Tensor, "n P 3"]:
        """Directions with z = 1 of every pixel."""
        ones = self.grid.new_ones(len(focal), len(self.grid), 1)
        return torch.cat([self.grid[None, :, :2] / focal[:, None, None], ones], dim=-1)

    def terms(self, p: Parameters) -> dict[str, Tensor]:
        """The terms without their weights: ``alignment``, ``temporal`` and, where there is flow, ``flow``."""
        rotation, translation, focal, depth = self.cameras(p)
        world = (self.rays(focal) * depth[..., None]) @ rotation.transpose(1, 2) + translation[:, None]
        log_scale = p["pw_poses"][:, 7]
        scale = torch.exp(log_scale - log_scale.mean()) * BASE_SCALE
        turn, shift = rotation_of(p["pw_poses"][:, :4]), translation_of(p["pw_poses"][:, 4:7])
        alignment = world.new_zeros(())
        for frame, points, weight in zip((self.first, self.second), self.points, self.weights, strict=True):
            moved = scale[:, None, None] * (points @ turn.transpose(1, 2) + shift[:, None])
            alignment = alignment + (weight * (world[frame] - moved).norm(dim=-1)).sum() / weight.numel()
        back = rotation[:-1].transpose(1, 2)
        turned = (back @ rotation[1:] - torch.eye(3, device=back.device)).flatten(1).norm(dim=1)
        gone = (back @ (translation[1:] - translation[:-1])[..., None])[..., 0].norm(dim=1)
        out = {"alignment": alignment, "temporal": (turned + gone).sum()}
        if self.flow is not None:
            first, second = self.first[self.with_flow], self.second[self.with_flow]
            out["flow"] = self._flow(p, first, second, self.flow[0]) + self._flow(p, second, first, self.flow[1])
        return out

    def _flow(self, p: Parameters, i: Tensor, j: Tensor, flow: Float[Tensor, "F P 2"]) -> Tensor:
        rotation, translation, focal, depth = self.cameras(p)
        back = rotation[j].transpose(1, 2)
        rays = self.rays(focal)[i] @ (back @ rotation[i]).transpose(1, 2)
        offset = (back @ (translation[i] - translation[j])[..., None])[..., 0]
        seen = rays + offset[:, None] / (depth[i][..., None] + 1e-6)
        seen = torch.cat([seen[..., :2] * focal[j][:, None, None], seen[..., 2:]], dim=-1)
        # The principal point is added before the division, as in a product with the pinhole matrix.
        centre = torch.tensor([self.width / 2, self.height / 2], device=flow.device)
        target = (seen[..., :2] + centre * seen[..., 2:]) / (seen[..., 2:] + 1e-6)
        ego = target - centre - self.grid[:, :2]
        static = self.static[i][..., None]
        value = functional.smooth_l1_loss(ego * static, flow * static, reduction="none")
        keep = (value < FLOW_OUTLIER) & static
        return (value * keep).sum() / keep.sum().clamp(min=1)

    def loss(self, p: Parameters, flow_counts: bool) -> Tensor:
        """The weighted sum of the terms."""
        terms = self.terms(p)
        total = terms["alignment"] + TEMPORAL_WEIGHT * terms["temporal"]
        if flow_counts and "flow" in terms and float(terms["flow"].detach()) <= FLOW_ABANDONED:
            total = total + FLOW_WEIGHT * terms["flow"]
        return total


def optimise(
    objective: OfficialObjective, parameters: Parameters, iterations: int = ITERATIONS, total: int = ITERATIONS
) -> list[float]:
    """Adam with a falling rate, in place.

    Args:
        objective: The loss.
        parameters: Where to start; holds the result.
        iterations: How many to do.
        total: How many the schedules are made for.

    Returns:
        The loss before each step.
    """
    free = [value.requires_grad_() for value in parameters.values()]
    optimiser = torch.optim.Adam(free, lr=RATE, betas=(0.9, 0.9))
    losses = []
    for k in range(iterations):
        for group in optimiser.param_groups:
            group["lr"] = RATE + (RATE_END - RATE) * k / total
        optimiser.zero_grad()
        loss = objective.loss(parameters, k >= FLOW_FROM * total)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    for value in free:
        value.requires_grad_(False)
    return losses


def align_officially(
    predictions: PairPredictions,
    flows: PairFlows | None,
    shared_focal: bool,
    device_name: str,
    on_progress: Callable[[str], None],
) -> AlignmentResult:
    """Start, optimise, clean and aggregate as DAS3R does; the world is that of its spanning tree."""
    device = pick_device(device_name)
    height, width = predictions.height, predictions.width
    on_progress("spanning tree")
    start = official_start(predictions)
    parameters = {k: v.to(device) for k, v in official_parameters(start, shared_focal, height, width).items()}
    dynamic = fuse_dynamic(predictions)
    moving = None if dynamic is None else dynamic[0] > 0.5
    on_progress("cameras")
    objective = OfficialObjective(predictions, flows, moving, device)
    optimise(objective, parameters)
    rotation, translation, focal, depth = (value.double().cpu().numpy() for value in objective.cameras(parameters))
    c2w = np.tile(np.eye(4), (len(rotation), 1, 1))
    c2w[:, :3, :3], c2w[:, :3, 3] = rotation, translation
    depth = depth.reshape(-1, height, width).astype(np.float32)
    confidence = fuse_confidence(predictions)
    on_progress("occlusion test")
    clean = clean_confidence_official(confidence, depth, c2w, focal)
    mean, highest = dynamic or (None, None)
    return AlignmentResult(c2w, focal, depth, confidence, clean, mean, highest)
