"""The one global alignment of all pair predictors: what pairs say becomes cameras, depth and masks of a whole clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.alignment.config import AlignmentConfig
from das3r_ns.frontend.network.alignment.joined_windows import join_windows
from das3r_ns.frontend.network.alignment.official import align_officially
from das3r_ns.frontend.network.alignment.result import AlignmentResult
from das3r_ns.frontend.network.alignment.robust import align_robustly
from das3r_ns.frontend.network.predictions import PairPredictions

__all__ = ["AlignmentConfig", "AlignmentResult", "global_align", "join_windows"]


# Many small matrices: BLAS threads would wait for each other longer than they work.
@threadpool_limits.wrap(limits=1, user_api="blas")
def global_align(
    predictions: PairPredictions,
    flows: PairFlows | None = None,
    config: AlignmentConfig | None = None,
    known_c2w_cv: Float[np.ndarray, "N 4 4"] | None = None,
    known_focal: float | Float[np.ndarray, " N"] | None = None,
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    on_progress: Callable[[str], None] = lambda stage: None,
    first_frame: int = 0,
) -> AlignmentResult:
    """Bring the predictions of all pairs into one scene.

    For every pair a similarity, for every frame a camera and a depth map, and one focal are sought under which all
    pairs say the same of every pixel, and, where flow is given, under which what is static moves in the picture as the
    flow says. Nonsense and what moves lose their influence (Geman-McClure weights of falling scale).

    Args:
        predictions: Of a network, for directed pairs that hold all frames together.
        flows: Optical flow at any resolution, between any frames; None leaves the flow term out.
        config: Settings.
        known_c2w_cv: Cameras to be kept as they are; the depth takes their scale.
        known_focal: Focal to be kept, in pixels of the predictions; one number, or one for each frame.
        static_weight: Probability that a pixel is static, at the resolution of the predictions; from the network's
            own dynamic probability where there is one, if None.
        on_progress: Called with a few words at the start of each stage.
        first_frame: Number of the first frame in the video, for messages.

    Returns:
        Cameras, focals, depth, confidence, dynamic probability, and messages for the user; every number is finite.

    Raises:
        Das3rError: A prediction is not finite, a frame is in no pair, or what the user gives does not fit the clip.
    """
    config = config or AlignmentConfig()
    n, height, width = predictions.num_frames, predictions.height, predictions.width
    predictions.check_finite(first_frame)
    missing = sorted(set(range(n)) - {frame for pair in predictions.pairs for frame in pair})
    if missing:
        missing = [first_frame + frame for frame in missing]
        raise Das3rError(f"Frames {missing} are in no pair, so that nothing is known of them. Take another pair graph.")
    if known_c2w_cv is not None and known_c2w_cv.shape != (n, 4, 4):
        raise Das3rError(f"There are {len(known_c2w_cv)} known poses for {n} frames; there must be one for each.")
    if static_weight is not None and static_weight.shape != (n, height, width):
        raise Das3rError(
            f"The static weight has the shape {static_weight.shape}; {n} frames of {width} x {height} pixels need "
            f"{(n, height, width)}."
        )
    if known_focal is None:
        focals = None
    else:
        given = np.asarray(known_focal, dtype=np.float64)
        if given.size not in (1, n) or not (np.isfinite(given) & (given > 0)).all():
            raise Das3rError(f"The known focal {known_focal} is not one positive number, or {n} of them.")
        focals = np.broadcast_to(given.reshape(-1), (n,)).copy()
    if config.objective == "official":
        if known_c2w_cv is not None or focals is not None:
            raise Das3rError("The official objective cannot keep known poses or a known focal; take 'robust'.")
        return align_officially(predictions, flows, config.focal == "shared", config.device, on_progress)
    return align_robustly(predictions, flows, config, known_c2w_cv, focals, static_weight, on_progress, first_frame)
