"""Staticness of a Gaussian, and the static weight of a pixel: how they are learnt, and why they cannot collapse.

**Effective opacity.** A Gaussian is drawn with o = sigmoid(a) * sigmoid(s): raw opacity a, staticness logit s. The pair
is over-complete on purpose. What a Gaussian *covers* is a matter of shape and goes to a; whether it belongs to the
static scene *at all* is a matter of fact, s, and a fact has a prior and a memory.

**Prior on s.** A mixture of two normals on the log-odds: "static" at +S, "dynamic" at -S, the first ``PRIOR_ODDS``
times as probable. Its negative logarithm is a tilted double well:

- The pull is *linear* in the distance from the nearest well. The random walk an optimiser makes where the photometric
  gradient is mere noise is therefore bounded, and the mean comes back to the well: in a static video nothing drifts.
- It is bistable. A Gaussian seeded on a mover starts in the lower well and stays there without needing proof; one
  seeded on static ground stays static until static pixels of other frames contradict it for long enough to carry it
  over the barrier. The tilt puts the barrier below zero: static unless proven otherwise.
- It has no reward for being low. The photometric loss is weighted by W (data) and never by staticness, so lowering s
  helps only where *not drawing* the Gaussian makes the static pixels of the video fit better. That is the definition of
  a mover. DAS3R's staticness multiplies the loss itself, has no prior, and falls everywhere while it is let.

**Evidence.** The photometric gradient reaches s through the effective opacity: dL/ds = dL/do * sigmoid'(s). That is the
chain rule but for a factor sigmoid(a), and the omission is the point. A Gaussian that is contradicted everywhere can be
silenced by a or by s, and by the plain chain rule whichever is faster takes it all and starves the other: raw opacity
goes to 0, staticness stays at 1 for want of a gradient. What s asks is "would the static pixels fit better if this
Gaussian, *drawn opaque*, did not belong?": dL/do, the multiplier of the bound o >= 0, which is positive for as long as
the Gaussian is contradicted however faint it has become, and zero for any Gaussian whose raw opacity has settled
between its bounds. In the upper well sigmoid' is 0.02, so ordinary changes of opacity belong to a; a Gaussian that
leaves the well sees sigmoid' grow twelvefold and falls quickly.

**Static weight while training.** :func:`static_weight_posterior` re-weighs the front end's W by what the render says,
anew in every iteration and without a parameter or a memory, so there is nothing that could be driven anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WELL = math.log(0.98 / 0.02)
"""S: distance of either well from zero, in log-odds (staticness 0.98 and 0.02)."""
PRIOR_ODDS = 9.0
"""Prior odds of static against dynamic."""
WELL_WIDTH = 1.5
"""Standard deviation of either component, in log-odds."""

PRIOR_RANGE = (0.1, 0.98)
"""Static weights that a front end is believed. Masks take in gaps and outlines, at a J of 0.8 a tenth of their area,
and nothing is lost if the render brings it back. A mover in a static region leaves a ghost: a residual tells it."""


def effective_opacity(opacities: Float[Tensor, "N 1"], staticness: Float[Tensor, "N 1"]) -> Float[Tensor, "N 1"]:
    """sigmoid(a) * sigmoid(s), whose gradient to s is that of an opaque Gaussian (see the head of this module).

    Args:
        opacities: raw opacity logits a.
        staticness: staticness logits s.
    """
    belongs = torch.sigmoid(staticness)
    return torch.sigmoid(opacities) * belongs.detach() + (belongs - belongs.detach())


def effective_opacity_logit(opacities: Float[Tensor, "N 1"], staticness: Float[Tensor, "N 1"]) -> Float[Tensor, "N 1"]:
    """Logit of sigmoid(a) * sigmoid(s), exact for any size of the arguments.

    1 / o = (1 + exp(-a)) (1 + exp(-s)) gives (1 - o) / o = exp(-a) + exp(-s) + exp(-a - s): no difference of close
    numbers, no logarithm of zero.

    Args:
        opacities: raw opacity logits a.
        staticness: staticness logits s.
    """
    return -torch.logsumexp(torch.stack([-opacities, -staticness, -opacities - staticness]), dim=0)


def seed_staticness_logit(staticness: Float[Tensor, "N 1"]) -> Float[Tensor, "N 1"]:
    """Logit of a seed's staticness in [0, 1], kept between the wells of the prior."""
    return torch.logit(staticness.clamp(1e-4, 1 - 1e-4)).clamp(-WELL, WELL)


def staticness_prior(staticness: Float[Tensor, "N 1"]) -> Float[Tensor, ""]:
    """Negative log of the two-well prior, mean over the Gaussians, 0 in the static well.

    Args:
        staticness: staticness logits s.
    """
    # -log(exp(static) + exp(dynamic)), where the difference of both exponents is linear in s.
    static = (staticness - WELL).square() * (-0.5 / WELL_WIDTH**2)
    dynamic_less_static = torch.add(-math.log(PRIOR_ODDS), staticness, alpha=-2 * WELL / WELL_WIDTH**2)
    return -(static + F.softplus(dynamic_less_static)).mean()


@torch.no_grad()
def static_weight_posterior(
    static_weight: Float[Tensor, "H W 1"],
    rendered: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    window: int = 5,
    play: int = 0,
) -> Float[Tensor, "H W 1"]:
    """Probability that a pixel shows the static scene, given the front end's word and the residual of the render.

    Bayes' rule with two models of the residual r (mean absolute colour error, box-smoothed over ``window`` pixels):
    inlier, exponential of scale b, where b ln 2 is the frame's own median residual over what the front end calls
    static; outlier, uniform on [0, 1]:

        odds = W / (1 - W) * exp(-r / b) / b

    It cannot win by calling everything dynamic. It is a function of the residual and no parameter; a residual at or
    below the median has the ratio 1 / (2 b) or more, above 1 for every b < 1/2, so at least half of the static weight
    can only rise; and where the whole picture is bad (a flat grey render) b is large and the ratio tends to 1, which
    leaves W alone. Only a residual far out in *its own frame's* distribution, r > b ln(1 / b), counts against a pixel.

    Args:
        static_weight: prior W of the front end; clipped to PRIOR_RANGE, since no front end is certain.
        rendered: the render, values in [0, 1].
        target: the frame, values in [0, 1].
        window: side of the smoothing box, odd, pixels.
        play: pixels by which the render may be off. What lies within the colours that the frame shows so near counts
            for nothing against a pixel; it only ever takes from r, never from b. Without it a render that is blurred or
            beside the frame by less than a pixel, as it is while it is learnt and where cameras are doubtful, loses the
            weight of its edges and fine texture, by which it would get better.
    """
    prior = static_weight.clamp(*PRIOR_RANGE)
    residual = _smoothed((rendered - target).abs(), window)
    scale = (_weighted_median(residual, prior) / math.log(2)).clamp(0.01, 1.0)
    if play > 0:
        residual = _smoothed(_outside(rendered, target, play), window)
    odds = prior / (1 - prior) * torch.exp(-residual / scale) / scale
    return odds / (1 + odds)


def _smoothed(residual: Float[Tensor, "H W 3"], window: int) -> Float[Tensor, "H W 1"]:
    """Mean over the channels and over a box."""
    mean = residual.mean(dim=-1)[None, None]
    return F.avg_pool2d(mean, window, stride=1, padding=window // 2, count_include_pad=False)[0, 0, :, :, None]


def _outside(rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], play: int) -> Float[Tensor, "H W 3"]:
    """How far each colour lies outside of those that the frame has within ``play`` pixels."""
    too_bright = rendered - _near_by(target, play, torch.maximum)
    too_dark = _near_by(target, play, torch.minimum) - rendered
    return torch.maximum(too_bright, too_dark).clamp_min_(0)


def _near_by(picture: Float[Tensor, "H W 3"], play: int, extreme: Callable[..., Tensor]) -> Float[Tensor, "H W 3"]:
    """Largest or smallest value of each channel within a square: row by row, which pooling of such planes is not."""
    for dim in (0, 1):
        source, picture, length = picture, picture.clone(), picture.shape[dim]
        for step in range(1, min(play, length - 1) + 1):
            for to, by in ((step, 0), (0, step)):
                part = picture.narrow(dim, to, length - step)
                extreme(part, source.narrow(dim, by, length - step), out=part)
    return picture


def _weighted_median(values: Float[Tensor, "H W 1"], weight: Float[Tensor, "H W 1"]) -> Float[Tensor, ""]:
    """Median of every third row and column: a tenth of the sort, and no less exact for a scale."""
    ordered, order = values[::3, ::3].flatten().sort()
    cumulative = weight[::3, ::3].flatten()[order].cumsum(0)
    # Gathered: an index that lies on a GPU would have to come to the host.
    return ordered.gather(0, torch.searchsorted(cumulative, 0.5 * cumulative[-1:]))[0]
