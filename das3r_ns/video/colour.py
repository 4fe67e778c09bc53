"""A decoded frame as a player shows it: 8-bit RGB for an ordinary screen, whatever the film was coded in.

Swscale converts what is tagged as BT.601 or BT.709. Two things are left to us: films of 720 lines and more that say
nothing (players take BT.709 for them, swscale BT.601), and films of high dynamic range (BT.2020 with HLG or PQ, what
phones write by default), whose signal shown as it is looks grey and flat.
"""

from __future__ import annotations

from functools import cache

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation
from jaxtyping import Float, UInt8

BT709, UNSPECIFIED, BT601 = 1, 2, 6
"""Code points of ITU-T H.273, table 4, for the matrix."""
PQ, HLG = 16, 18
"""Code points of ITU-T H.273, table 3, for the transfer function."""
LIMITED_RANGE, FULL_RANGE = 1, 2
"""FFmpeg's AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG."""
HD_LINES = 720
"""Films of so many lines that name no matrix are taken for BT.709."""
REFERENCE_WHITE = 203.0
"""cd/m2 that an ordinary screen shows as white: HDR reference white, ITU-R BT.2408-7, section 2.1."""
HLG_PEAK = 1000.0
"""cd/m2 of the screen that HLG is shown on; its system gamma is then 1.2 (ITU-R BT.2100-2, table 5)."""
SCREEN_GAMMA = 2.2
"""Of an ordinary screen."""
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Of BT.2020's primaries."""
_709_FROM_2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
"""Linear light, ITU-R BT.2087-0, the inverse of its equation 4."""


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame is coded for a screen of high dynamic range."""
    return int(frame.color_trc) in (PQ, HLG)


def shown(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """The frame in sRGB's primaries, 8 bits; what is transparent is black."""
    picture = _opaque(frame)
    if not any(part.is_alpha for part in frame.format.components):
        return picture
    # The colour below the transparent is whatever the encoder left there.
    alpha = frame.to_ndarray(format="rgba")[..., 3:].astype(np.uint16)
    return ((picture * alpha + 127) // 255).astype(np.uint8)


def _opaque(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """The same without regard to what is transparent."""
    if is_hdr(frame):
        return _standard_range(_rgb_2020(frame), int(frame.color_trc))
    # Swscale leaves films of 10 bits two levels too dark where it packs them, and not where colours stay apart.
    packed = frame.format.is_rgb or max(part.bits for part in frame.format.components) <= 8
    way = "rgb24" if packed else "gbrp"
    if int(frame.colorspace) == UNSPECIFIED and frame.height >= HD_LINES and not frame.format.is_rgb:
        frame = frame.reformat(format=way, src_colorspace=Colorspace.ITU709)
    return frame.to_ndarray(format=way)


def _rgb_2020(frame: av.VideoFrame) -> Float[np.ndarray, "H W 3"]:
    """Non-linear R'G'B' from 0 to 1 by the matrix of BT.2020 (non-constant luminance, BT.2020-2, table 4)."""
    # Without a change of range or matrix: only the bits are brought to 16 and the colour planes to full size.
    planes = frame.reformat(format="yuv444p16le", interpolation=Interpolation.LANCZOS)
    y, cb, cr = np.moveaxis(planes.to_ndarray(channel_last=True), -1, 0)
    if int(frame.color_range) == FULL_RANGE:
        luma, scale, middle = y / np.float32(65535), np.float32(1 / 65535), np.float32(32768)
    else:  # 16 to 235 and 16 to 240, of 256
        luma = (y.astype(np.float32) - 4096) / np.float32(219 * 256)
        scale, middle = np.float32(1 / (224 * 256)), np.float32(32768)
    cb, cr = (cb.astype(np.float32) - middle) * scale, (cr.astype(np.float32) - middle) * scale
    r, b = luma + np.float32(1.4746) * cr, luma + np.float32(1.8814) * cb
    g = (luma - _LUMINANCE[0] * r - _LUMINANCE[2] * b) / _LUMINANCE[1]
    return np.clip(np.stack([r, g, b], axis=-1), 0, 1)


def _standard_range(signal: Float[np.ndarray, "H W 3"], transfer: int) -> UInt8[np.ndarray, "H W 3"]:
    """From an HDR signal to an ordinary screen's, REFERENCE_WHITE to its white.

    Up to white nothing is compressed, so that what an ordinary camera would have filmed comes out as it would have.
    What is brighter keeps its hue: its channels are scaled until the largest is at white.
    """
    linear = _linear_curve(transfer)[np.rint(signal * 65535).astype(np.uint16)]
    if transfer == HLG:  # from the scene's light to the screen's: BT.2100-2, table 5, OOTF
        linear *= np.power(np.maximum(linear @ _LUMINANCE, 1e-6), np.float32(0.2))[..., None] * np.float32(HLG_PEAK)
    light = np.maximum(cv2.transform(linear, _709_FROM_2020), 0) / np.float32(REFERENCE_WHITE)
    light /= np.maximum(light.max(axis=-1, keepdims=True), 1)
    return np.rint(255 * np.power(light, np.float32(1 / SCREEN_GAMMA))).astype(np.uint8)


@cache
def _linear_curve(transfer: int) -> Float[np.ndarray, " 65536"]:
    """Linear light of each 16-bit code, BT.2100-2: cd/m2 for PQ (table 4), the scene's, up to 1, for HLG (table 5)."""
    code = np.arange(65536) / 65535
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        return (10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
