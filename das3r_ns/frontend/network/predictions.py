"""PairPredictions: what a pair predictor hands to the global alignment, whichever network it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.pairs import Pair


@dataclass
class PairPredictions:
    """What a network says of directed pairs of frames.

    E pairs of H x W pixels. Points are in the camera frame of view 1 (OpenCV axes) at a scale that is the pair's own.
    Their pixel centres are as the network has them: these networks learned points whose pixel (row 0, column 0) looks
    along the ray of image coordinates (0, 0) where the principal point is (W / 2, H / 2), half a pixel off from the
    rest of this package; the alignment converts.
    """

    pairs: list[Pair]
    """(view 1, view 2) of each pair, as numbers of frames."""
    points1: Float[Tensor, "E H W 3"]
    """Where the pixels of view 1 are; float16 or float32."""
    points2: Float[Tensor, "E H W 3"]
    """Where the pixels of view 2 are, in the camera frame of view 1 too."""
    confidence1: Float[Tensor, "E H W"]
    """Confidence of ``points1``, above 1 (the networks end in 1 + exp)."""
    confidence2: Float[Tensor, "E H W"]
    """Confidence of ``points2``."""
    dynamic1: Float[Tensor, "E H W"] | None = None
    """Probability that what view 1 shows moves, 0 to 1; None for checkpoints without mask heads."""

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("PairPredictions needs a pair at least")
        h, w = self.points1.shape[1:3]
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, Tensor):
                continue
            shape = (len(self.pairs), h, w, 3)[: 4 if item.name.startswith("points") else 3]
            if value.shape != shape:
                raise ValueError(f"PairPredictions.{item.name} has shape {tuple(value.shape)}, expected {shape}")
        for i, j in self.pairs:
            if i == j or min(i, j) < 0:
                raise ValueError(f"PairPredictions.pairs holds ({i}, {j}), which is no pair of two frames")

    @property
    def num_frames(self) -> int:
        """Number of frames N: the highest one named, and one."""
        return 1 + max(max(pair) for pair in self.pairs)

    @property
    def height(self) -> int:
        """Height H of the predictions, in pixels."""
        return self.points1.shape[1]

    @property
    def width(self) -> int:
        """Width W of the predictions, in pixels."""
        return self.points1.shape[2]

    def check_finite(self, first_frame: int = 0) -> None:
        """Make sure that every number is one, pair by pair so that little memory is needed.

        Args:
            first_frame: Number of the first frame in the video, for the message.

        Raises:
            Das3rError: A value is not finite; names the pair.
        """
        for e, (i, j) in enumerate(self.pairs):
            for item in fields(self):
                value = getattr(self, item.name)
                if isinstance(value, Tensor) and not bool(torch.isfinite(value[e]).all()):
                    raise Das3rError(
                        f"The network's prediction for frames {first_frame + i} and {first_frame + j} holds values "
                        f"that are not numbers ({item.name}). Run it in float32 (half precision overflows), or verify "
                        "the checkpoint with 'das3r weights'."
                    )
