"""What other programs make of an exported folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from jaxtyping import Float, UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from das3r_ns.splats.camera import view_matrix

READERS = ("pycolmap, binary", "pycolmap, text", "ns colmap, binary", "ns colmap, text", "ns transforms.json")
FOLDERS = {"binary": "colmap/sparse/0", "text": "colmap/text"}


@dataclass(frozen=True)
class ReadBack:
    """Images and points as a program read them, and where it sees the points."""

    image_names: list[str]
    pixels: Float[np.ndarray, "N M 2"]
    """Of every point in every image, by that program's own poses, intrinsics and points."""
    rgb: UInt8[np.ndarray, "M 3"]
    distortion: Float[np.ndarray, "N 6"] | None = None
    """Where the program keeps it apart: k1 k2 k3 k4 p1 p2."""


def by_pycolmap(folder: Path) -> ReadBack:
    """COLMAP's own reader and projection."""
    model = pycolmap.Reconstruction(str(folder))
    images = [model.images[i] for i in sorted(model.images)]
    points = [model.points3D[i] for i in sorted(model.points3D)]
    pixels = [[image.project_point(point.xyz) for point in points] for image in images]
    return ReadBack([image.name for image in images], np.array(pixels), np.array([point.color for point in points]))


def by_nerfstudio(outputs: DataparserOutputs) -> ReadBack:
    """The cameras and points of a dataparser, projected as splatfacto does."""
    assert outputs.mask_filenames is not None
    assert [path.name for path in outputs.mask_filenames] == [path.name for path in outputs.image_filenames]
    assert all(path.is_file() for path in [*outputs.image_filenames, *outputs.mask_filenames])
    xyz = outputs.metadata["points3D_xyz"]
    points = torch.cat([xyz, torch.ones(len(xyz), 1)], dim=1).double()
    views = view_matrix(outputs.cameras.camera_to_worlds).double()
    seen = outputs.cameras.get_intrinsics_matrices().double() @ (views @ points.T)[:, :3]
    pixels = (seen[:, :2] / seen[:, 2:]).transpose(1, 2).numpy()
    distortion = outputs.cameras.distortion_params
    return ReadBack(
        [path.name for path in outputs.image_filenames],
        pixels,
        outputs.metadata["points3D_rgb"].numpy(),
        None if distortion is None else distortion.numpy(),
    )


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    """One of READERS after the other."""
    return request.param


@pytest.fixture()
def read_back() -> Callable[[str, Path], ReadBack]:
    """Reads a folder of `das3r export` by one of READERS; poses are left where they are in the files."""

    def read(reader: str, folder: Path) -> ReadBack:
        kind = reader.rpartition(", ")[2]
        if reader.startswith("pycolmap"):
            return by_pycolmap(folder / FOLDERS[kind])
        as_they_are: dict[str, Any] = {
            "data": folder,
            "orientation_method": "none",
            "center_method": "none",
            "auto_scale_poses": False,
            "eval_mode": "all",
            "load_3D_points": True,
        }
        if reader.startswith("ns colmap"):
            colmap: dict[str, Any] = {"colmap_path": Path(FOLDERS[kind]), "masks_path": Path("masks")}
            return by_nerfstudio(
                ColmapDataParserConfig(**as_they_are, **colmap).setup().get_dataparser_outputs("train")
            )
        return by_nerfstudio(NerfstudioDataParserConfig(**as_they_are).setup().get_dataparser_outputs("train"))

    return read
