"""Gaussians as ``.spz``, small and with view-dependent colour; gsply writes them (extra ``spz``)."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError

COORDINATE_BITS = 24
"""Positions are signed fixed-point numbers of so many bits."""
MOST_FRACTIONAL_BITS = 16
"""Of those after the point: 1/65536 of the scene's unit. More would be noise, which does not compress."""
MAX_DEGREE = 3
"""Of the spherical harmonics."""


def check_gsply() -> None:
    """Make sure that the format can be written at all.

    Raises:
        Das3rError: gsply is missing.
    """
    if importlib.util.find_spec("gsply") is None:
        raise Das3rError(
            "The format spz needs gsply, which is not installed: pip install 'das3r-ns[spz]'. Or leave spz out of "
            "--format; splat is compact too."
        )


def check_degree(sh_degree: int) -> None:
    """Make sure that Gaussians of a degree fit into the format.

    Raises:
        Das3rError: They do not.
    """
    if sh_degree > MAX_DEGREE:
        raise Das3rError(
            f"The format spz has colours of degree {MAX_DEGREE} at most, and this run has {sh_degree}. Leave spz out "
            "of --format; gaussians takes any degree, and splat leaves it out."
        )


def fractional_bits(farthest: float) -> int:
    """Bits after the point with which positions are finest and the farthest still fits.

    Args:
        farthest: Largest coordinate, by amount.
    """
    largest = 2 ** (COORDINATE_BITS - 1) - 1
    return min(MOST_FRACTIONAL_BITS, max(1, math.floor(math.log2(largest / max(farthest, 1e-9)))))


def write_spz(path: Path, columns: dict[str, Float[np.ndarray, " N"]]) -> None:
    """Write version 3 of the format (gzip), which its readers know; axes are those of the PLY.

    8 bits for colours, opacity and the logarithm of lengths, 10 for a component of a rotation.

    Args:
        path: File to write.
        columns: :func:`~das3r_ns.export.gaussians.gaussian_columns`, of degree 3 at most.
    """
    from gsply import GSData
    from gsply.spz import write_spz as write

    def stacked(name: str, count: int) -> Float[np.ndarray, "N C"]:
        return np.stack([columns[f"{name}_{i}"] for i in range(count)], axis=-1)

    means = np.stack([columns[axis] for axis in "xyz"], axis=-1)
    rest = sum(name.startswith("f_rest") for name in columns)
    gaussians = GSData.from_arrays(
        means=means,
        scales=stacked("scale", 3),
        quats=stacked("rot", 4),
        opacities=columns["opacity"],
        sh0=stacked("f_dc", 3),
        # Channel by channel in the PLY, colour by colour there.
        shN=stacked("f_rest", rest).reshape(len(means), 3, -1).swapaxes(1, 2) if rest else None,
        format="ply",
    )
    write(path, gaussians, version=3, fractional_bits=fractional_bits(float(np.abs(means).max(initial=0.0))))
