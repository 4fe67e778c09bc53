"""LPIPS where it is to be had."""

from __future__ import annotations

from pathlib import Path

import torch

from das3r_ns.splats.image_metrics import LPIPS_ERRORS, Lpips, build_lpips

WEIGHTS = "alexnet-owt-*.pth"
"""Name of AlexNet's weights in the folder that torchvision keeps them in."""


def find_lpips(download: bool, problems: list[str]) -> Lpips | None:
    """LPIPS on the CPU (it is asked for a handful of pictures), or None.

    Args:
        download: Whether torchvision may fetch the weights where they are not at hand.
        problems: Gets the reason where they were asked for and are not to be had.
    """
    at_hand = any((Path(torch.hub.get_dir()) / "checkpoints").glob(WEIGHTS))
    if not (at_hand or download):
        return None
    try:
        return build_lpips("cpu")
    except LPIPS_ERRORS as error:
        problems.append(f"LPIPS: its weights could not be loaded ({error}).")
        return None
