"""Gaussians as .spz: read back, and by the published layout."""

from __future__ import annotations

import gzip
import importlib.util
import struct
from pathlib import Path

import gsply
import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.export import spz
from das3r_ns.export.gaussians import gaussian_columns
from das3r_ns.export.spz import fractional_bits, write_spz
from das3r_ns.export.write import write_export
from das3r_ns.trained.scene import TrainedScene

REST = {0: 0, 1: 3, 2: 8, 3: 15}


def some_columns(count: int, degree: int) -> dict[str, np.ndarray]:
    """Random Gaussians as a run has them."""
    generator = np.random.default_rng(degree)
    spread = {"x": 0.7, "y": 0.7, "z": 0.7, "nx": 0.0, "ny": 0.0, "nz": 0.0}
    spread |= {f"f_dc_{i}": 0.8 for i in range(3)} | {f"f_rest_{i}": 0.2 for i in range(3 * REST[degree])}
    spread |= {"opacity": 2.0} | {f"scale_{i}": 0.8 for i in range(3)} | {f"rot_{i}": 1.0 for i in range(4)}
    columns = {name: generator.normal(scale=s, size=count).astype(np.float32) for name, s in spread.items()}
    for i in range(3):
        columns[f"scale_{i}"] -= 4
    return columns


def stacked(columns: dict[str, np.ndarray], *names: str) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=-1)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_what_is_written_is_read_back(degree: int, tmp_path: Path) -> None:
    columns = some_columns(400, degree)
    write_spz(tmp_path / "scene.spz", columns)
    read = gsply.read_spz(tmp_path / "scene.spz")
    np.testing.assert_allclose(read.means, stacked(columns, *"xyz"), atol=0.51 / 65536)
    np.testing.assert_allclose(read.scales, stacked(columns, "scale_0", "scale_1", "scale_2"), atol=0.51 / 16)
    opacity = 1 / (1 + np.exp(-columns["opacity"]))
    np.testing.assert_allclose(1 / (1 + np.exp(-read.opacities.ravel())), opacity, atol=0.51 / 255)
    np.testing.assert_allclose(read.sh0, stacked(columns, "f_dc_0", "f_dc_1", "f_dc_2"), atol=0.52 / 255 / 0.15)
    wanted = stacked(columns, *(f"rot_{i}" for i in range(4)))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    turned = np.abs((read.quats * wanted).sum(axis=1))  # q and -q turn alike
    assert turned.min() > 1 - 1e-5
    if degree:
        for channel in range(3):
            for k in range(REST[degree]):
                rest = columns[f"f_rest_{channel * REST[degree] + k}"].clip(-1, 127 / 128)
                np.testing.assert_allclose(read.shN[:, k, channel], rest, atol=0.51 / 128)


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    columns = some_columns(300, 3)
    write_spz(tmp_path / "scene.spz", columns)
    data = gzip.decompress((tmp_path / "scene.spz").read_bytes())
    magic, version, count, degree, bits, flags, _ = struct.unpack("<4sIIBBBB", data[:16])
    assert (magic, version, count, degree, flags) == (b"NGSP", 3, 300, 3, 0)
    assert len(data) == 16 + 300 * (9 + 1 + 3 + 3 + 4 + 45)
    # 24-bit little-endian fixed point: shifted to the top of 32 bits, so that the sign comes along.
    triples = np.frombuffer(data[16 : 16 + 2700], "u1").reshape(900, 3)
    fixed = np.concatenate([np.zeros((900, 1), "u1"), triples], axis=1).view("<i4").ravel() >> 8
    positions = stacked(columns, *"xyz")
    np.testing.assert_allclose(fixed.reshape(300, 3) / 2.0**bits, positions, atol=0.51 / 2**bits)
    alphas = np.frombuffer(data[16 + 2700 : 16 + 3000], "u1")
    np.testing.assert_array_equal(alphas, np.rint(255 / (1 + np.exp(-columns["opacity"].astype(np.float32)))))


def test_a_file_is_a_fraction_of_the_ply(tmp_path: Path) -> None:
    columns = some_columns(20_000, 3)
    write_spz(tmp_path / "scene.spz", columns)
    assert (tmp_path / "scene.spz").stat().st_size < 0.3 * 20_000 * 4 * len(columns)


def test_far_gaussians_cost_precision_and_stay_where_they_are(tmp_path: Path) -> None:
    assert fractional_bits(0.5) == fractional_bits(127.9) == 16
    assert fractional_bits(0.0) == 16 and fractional_bits(1e9) == 1
    columns = some_columns(20, 0)
    columns["y"][7] = -3000.25
    write_spz(tmp_path / "scene.spz", columns)
    read = gsply.read_spz(tmp_path / "scene.spz")
    bits = fractional_bits(3000.25)
    assert 2**bits * 3000.25 < 2**23 <= 2 ** (bits + 1) * 3000.25
    np.testing.assert_allclose(read.means, stacked(columns, *"xyz"), atol=0.51 / 2**bits)


def test_a_run_is_exported_when_asked_for(make_trainer, tmp_path: Path) -> None:
    pipeline = make_trainer(sh_degree=2).pipeline
    write_export(TrainedScene(pipeline), tmp_path / "out", ["spz"], world="gaussians")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scene.spz", "export.json"}
    read = gsply.read_spz(tmp_path / "out/scene.spz")
    columns = gaussian_columns(pipeline.model)
    np.testing.assert_allclose(read.means, stacked(columns, *"xyz"), atol=1e-4)
    assert read.shN.shape == (len(columns["x"]), 8, 3)


def test_what_is_missing_is_said(make_trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = TrainedScene(make_trainer(sh_degree=4).pipeline)
    with pytest.raises(Das3rError, match="degree 3 at most, and this run has 4"):
        write_export(scene, tmp_path / "out", ["spz"])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(spz.importlib.util, "find_spec", lambda name: None if name == "gsply" else find_spec(name))
    with pytest.raises(Das3rError, match=r"pip install 'das3r-ns\[spz\]'"):
        write_export(scene, tmp_path / "out", ["spz"])
    write_export(scene, tmp_path / "out", ["gaussians"])  # needs no gsply
    with pytest.raises(Das3rError, match="No format is named"):
        write_export(scene, tmp_path / "out", [])
