"""Gaussians as files: nerfstudio's bytes, and the 32 bytes of a .splat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.scripts import exporter

from das3r_ns.export.gaussians import gaussian_columns, splat_records, write_gaussian_ply, write_splat


def some_columns(count: int) -> dict[str, np.ndarray]:
    """Random Gaussians of degree 1."""
    generator = np.random.default_rng(0)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(9))]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    return {name: generator.normal(size=count).astype(np.float32) for name in names}


def test_the_ply_is_nerfstudios_to_the_byte(tmp_path: Path) -> None:
    columns = some_columns(300)
    exporter.ExportGaussianSplat.write_ply(str(tmp_path / "theirs.ply"), 300, columns)  # pyright: ignore[reportArgumentType]
    write_gaussian_ply(tmp_path / "ours.ply", columns)
    assert (tmp_path / "ours.ply").read_bytes() == (tmp_path / "theirs.ply").read_bytes()


@pytest.mark.parametrize("degree", [0, 2])
def test_a_run_exports_what_ns_export_does(
    degree: int, make_trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_trainer(sh_degree=degree).pipeline
    params = pipeline.model.gauss_params
    with torch.no_grad():
        for name in ("features_dc", "features_rest", "quats"):
            params[name] += 0.1 * torch.randn_like(params[name])
        params["opacities"][::7] = -9.0  # too faint to be drawn: left out
    monkeypatch.setattr(exporter, "eval_setup", lambda *_args, **_kwargs: (None, pipeline, None, None))
    exporter.ExportGaussianSplat(load_config=tmp_path / "config.yml", output_dir=tmp_path).main()
    columns = gaussian_columns(pipeline.model)
    assert len(columns["x"]) < pipeline.model.num_points
    write_gaussian_ply(tmp_path / "ours.ply", columns)
    assert (tmp_path / "ours.ply").read_bytes() == (tmp_path / "splat.ply").read_bytes()


def test_gaussians_that_are_not_finite_are_left_out(make_trainer) -> None:
    model = make_trainer().pipeline.model
    with torch.no_grad():
        model.gauss_params["means"][3, 1] = float("nan")
        model.gauss_params["scales"][5, 0] = float("inf")
    columns = gaussian_columns(model)
    assert len(columns["x"]) == model.num_points - 2
    assert all(np.isfinite(values).all() for values in columns.values())


def test_a_splat_has_32_bytes_and_says_the_same(tmp_path: Path) -> None:
    columns = some_columns(50)
    write_splat(tmp_path / "scene.splat", columns)
    data = (tmp_path / "scene.splat").read_bytes()
    assert len(data) == 32 * 50
    records = splat_records(columns)
    # The most visible first.
    size = 1 / (1 + np.exp(-columns["opacity"])) * np.exp(sum(columns[f"scale_{i}"] for i in range(3)))
    first = int(np.argmax(size))
    floats, small = np.frombuffer(data[:24], "<f4"), np.frombuffer(data[24:32], "u1").astype(float)
    np.testing.assert_array_equal(floats[:3], [columns[axis][first] for axis in "xyz"])
    np.testing.assert_allclose(floats[3:], [np.exp(columns[f"scale_{i}"][first]) for i in range(3)], rtol=1e-6)
    colour = [0.5 + 0.28209479 * columns[f"f_dc_{i}"][first] for i in range(3)]
    opacity = 1 / (1 + np.exp(-columns["opacity"][first]))
    np.testing.assert_allclose(small[:4] / 255, np.clip([*colour, opacity], 0, 1), atol=0.51 / 255)
    rotation = np.array([columns[f"rot_{i}"][first] for i in range(4)])
    np.testing.assert_allclose((small[4:] - 128) / 128, rotation / np.linalg.norm(rotation), atol=1.01 / 128)
    assert len(np.unique(records["position"][:, 0])) == 50
