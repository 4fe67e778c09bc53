"""Pictures as files: PNG, or OpenEXR in 16-bit half floats (extra ``exr``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError

ImageFormat = Literal["png", "exr"]


def check_image_format(image_format: ImageFormat) -> None:
    """Make sure that a format can be written at all.

    Raises:
        Das3rError: OpenEXR is missing.
    """
    if image_format == "exr" and importlib.util.find_spec("OpenEXR") is None:
        raise Das3rError(
            "EXR pictures need OpenEXR, which is not installed: pip install 'das3r-ns[exr]'. Or take PNG "
            "(--image-format png)."
        )


def linear(srgb: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """Linear light of sRGB values, both 0 to 1, float32 (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def write_picture(path: Path, picture: np.ndarray, image_format: ImageFormat) -> None:
    """Write a picture in either format.

    In EXR colours are linear light, as programs for film expect, and grey is a share from 0 to 1 in the channel Y.

    Args:
        path: The file without its ending.
        picture: RGB of 8 bits, or grey of 8 or 16 bits.
        image_format: Which format.
    """
    if image_format == "png":
        write_png(path.with_name(path.name + ".png"), picture[..., ::-1] if picture.ndim == 3 else picture)
        return
    values = picture.astype(np.float32) / np.iinfo(picture.dtype).max
    channels = {"Y": values} if picture.ndim == 2 else dict(zip("RGB", np.moveaxis(linear(values), -1, 0), strict=True))
    write_exr(path.with_name(path.name + ".exr"), channels)


def write_exr(path: Path, channels: Mapping[str, Float[np.ndarray, "H W"]], half: bool = True) -> None:
    """Write channels as OpenEXR, compressed without loss (ZIP).

    Args:
        path: The file.
        channels: Under OpenEXR's names: R, G, B, A, Y, or Z for a depth.
        half: 16 bits a value, up to 65504; else 32.
    """
    import OpenEXR

    kind = np.float16 if half else np.float32
    most = 65504.0 if half else np.inf
    pixels = {name: np.ascontiguousarray(np.minimum(values, most), kind) for name, values in channels.items()}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, pixels) as file:
        file.write(str(path))


def read_picture(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """A picture as OpenCV has it, BGR or grey; None where it is missing or damaged.

    By Python, for OpenCV's own reader, and its writer, crash the program at a name that is not UTF-8, as old disks have
    them.

    Args:
        path: The file.
        flag: OpenCV's, of what to read it as.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(content, flag) if len(content) else None


def write_png(path: Path, picture: UInt8[np.ndarray, "H W *channels"] | np.ndarray) -> None:
    """Write a picture: grey, or BGR or BGRA as OpenCV has it."""
    # imwrite would report a full disk by its return value only, without the reason.
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
