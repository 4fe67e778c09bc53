"""Optical flow by RAFT (Teed and Deng, ECCV 2020) as torchvision has it, where its weights are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from das3r_ns.frontend.geometric.pair_flows import PairFlows, picture_texture
from das3r_ns.frontend.pairs import Pair

UPDATES = 12
"""Refinements; the flow hardly changes after these."""

BATCH = 8
"""Pairs at once."""

SMALLEST = 128
"""Shortest side in pixels that RAFT's four levels of correlation can be taken of."""


def raft_weights() -> Path | None:
    """The file of torchvision's best RAFT weights in torch's cache, None where it was never downloaded."""
    from torchvision.models.optical_flow import Raft_Large_Weights

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(Raft_Large_Weights.C_T_SKHT_V2.url).name
    return path if path.is_file() else None


def load_raft(path: Path, device: torch.device) -> nn.Module:
    """The network with the weights of a file of torchvision's."""
    from torchvision.models.optical_flow import raft_large

    network = raft_large(progress=False)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().to(device)


@torch.inference_mode()
def raft_flow(
    network: nn.Module,
    images: UInt8[np.ndarray, "N H W 3"],
    pairs: Iterable[Pair],
    on_pair: Callable[[], None] = lambda: None,
) -> PairFlows:
    """Flow of the given pairs.

    Args:
        network: From :func:`load_raft`.
        images: RGB frames.
        pairs: Directed pairs (i, j).
        on_pair: Called after each finished pair, for progress bars.

    Returns:
        The flow of each pair at the resolution of ``images``.
    """
    count, height, width = images.shape[:3]
    texture = np.stack([picture_texture(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in images])
    flows = PairFlows(height, width, count, {}, texture)
    device = next(network.parameters()).device
    todo = sorted(pairs)
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        first, second = (_views(images[[pair[side] for pair in batch]], device) for side in (0, 1))
        found = network(first, second, num_flow_updates=UPDATES)[-1][..., :height, :width]
        for pair, field in zip(batch, found.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            flows.fields[pair] = field.astype(np.float16)
            on_pair()
    return flows


def _views(images: UInt8[np.ndarray, "B H W 3"], device: torch.device) -> Float[Tensor, "B 3 h w"]:
    """As RAFT takes them: values from -1 to 1, sides that are multiples of 8."""
    values = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    height, width = values.shape[-2:]
    below, right = (max(SMALLEST, -(-side // 8) * 8) - side for side in (height, width))
    return functional.pad(values, (0, right, 0, below), mode="replicate")
