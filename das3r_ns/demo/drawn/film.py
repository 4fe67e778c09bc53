"""What a camera does to the picture: light that drifts, blur, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

GAMMA = 2.2
HIGHLIGHT = 0.95
"""Nine tenths of the picture are no brighter than that, linear."""
STEPS = 7
"""Pictures that a blurred one is the mean of."""


@dataclass
class Film:
    """A camera's faults over a clip; none of them moves an outline by more than its blur."""

    brightness: float
    """Mean of the picture in the middle of the clip, encoded, 0 to 1; the exposure is set by it."""
    drift: Float[np.ndarray, "3 3"]
    """Strength, rate and phase of the change of exposure, of red and of blue."""
    blur: float
    """Standard deviation, pixels."""
    shutter: float
    """Share of the time between frames in which it is open."""
    shot: float
    """Noise that grows with the light, standard deviation at white."""
    read: float
    """Noise that is everywhere alike."""
    quality: int
    """JPEG quality; 0 for none."""
    vignette: float
    """Light that the corners lose."""

    @classmethod
    def of(cls, rng: np.random.Generator) -> Film:
        """A random one; a quarter of them are nearly perfect."""
        bad = 0.0 if rng.random() < 0.25 else float(rng.uniform(0.2, 1.0))
        strength = rng.uniform(0, 1, 3) * (0.18, 0.04, 0.04) * (bad if rng.random() < 0.6 else 0.0)
        drift = np.stack([strength, rng.uniform(0.2, 2.0, 3), rng.random(3)])
        return cls(
            brightness=float(rng.uniform(0.36, 0.54)),
            drift=drift,
            blur=float(rng.uniform(0, 0.9) * bad),
            shutter=float(rng.uniform(0.2, 0.7)) if bad and rng.random() < 0.5 else 0.0,
            shot=float(rng.uniform(0, 0.03) * bad),
            read=float(rng.uniform(0, 0.015) * bad),
            quality=int(rng.integers(55, 97)) if bad and rng.random() < 0.7 else 0,
            vignette=float(rng.uniform(0, 0.3) * bad),
        )

    def gain(self, light: Float[np.ndarray, "H W 3"]) -> float:
        """What the light of the clip's middle is multiplied by."""
        by_mean = np.clip(self.brightness / (np.clip(light, 1e-4, 1) ** (1 / GAMMA)).mean(), 0.4, 2.5) ** GAMMA
        return float(min(by_mean, HIGHLIGHT / np.percentile(light, 90)))

    def expose(
        self,
        light: Float[np.ndarray, "H W 3"],
        gain: float,
        flow: Float[np.ndarray, "H W 2"] | None,
        time: float,
        rng: np.random.Generator,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The picture that is kept.

        Args:
            light: What falls on the sensor, linear.
            gain: From :meth:`gain`.
            flow: How far every pixel goes until the next frame, for blur by motion; None for none.
            time: 0 to 1 over the clip.
            rng: Of the noise.
        """
        if flow is not None and self.shutter:
            light = smeared(light, flow * self.shutter)
        if self.blur > 0.15:
            light = cv2.GaussianBlur(light, (0, 0), self.blur)
        strength, rate, phase = self.drift
        much = strength * np.sin(2 * np.pi * (rate * time + phase))
        light = light * (gain * (1 + much[0]) * (1 + np.array([much[1], 0, much[2]]))).astype(np.float32)
        if self.vignette:
            height, width = light.shape[:2]
            y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            light = light * (1 - self.vignette * (x * x + y * y) / 2)[..., None].astype(np.float32)
        sigma = np.sqrt(self.shot**2 * np.clip(light, 0, 1) + self.read**2 * 0.1)
        light = light + sigma * rng.standard_normal(light.shape, dtype=np.float32)
        picture = (np.clip(light, 0, 1) ** (1 / GAMMA) * 255 + 0.5).astype(np.uint8)
        if self.quality:
            _, packed = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1]
        return picture


def smeared(light: Float[np.ndarray, "H W 3"], flow: Float[np.ndarray, "H W 2"]) -> Float[np.ndarray, "H W 3"]:
    """A picture blurred along a flow."""
    height, width = light.shape[:2]
    # An opaque thing smears over what is beside it: the flow of the fastest thing around.
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    total, border = np.zeros_like(light), cv2.BORDER_REPLICATE
    for share in np.linspace(-0.5, 0.5, STEPS, dtype=np.float32):
        total += cv2.remap(light, x + share * flow[..., 0], y + share * flow[..., 1], cv2.INTER_LINEAR, None, border)
    return total / STEPS
