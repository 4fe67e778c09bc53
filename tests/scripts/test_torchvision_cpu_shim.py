"""The development environment's torchvision shim, tried on stand-ins for torch and torchvision."""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

SHIM = Path(__file__).parents[2] / "scripts" / "torchvision_cpu_shim.py"

TORCH = """
from types import SimpleNamespace
declared = []
version = SimpleNamespace(cuda={cuda!r})
library = SimpleNamespace(define=lambda name, schema: declared.append(name))
"""
TORCHVISION = """
import torch
if torch.version.cuda is None and sorted(torch.declared) != ["torchvision::nms", "torchvision::qnms"]:
    raise RuntimeError("operator torchvision::nms does not exist")
"""


@pytest.fixture
def shim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shim_under_test", SHIM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder with CPU torch in it, and an interpreter that sees no other."""
    (tmp_path / "torch.py").write_text(TORCH.format(cuda=None))
    (tmp_path / "torchvision.py").write_text(TORCHVISION)
    interpreter = tmp_path / "python"
    interpreter.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -S -c \"import site; site.addsitedir('{tmp_path}'); $2\"\n"
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_mends_a_cpu_torch_and_is_installed_once(shim: ModuleType, site: Path) -> None:
    assert run("import torchvision").returncode != 0
    assert "installed" in shim.install()
    assert run("import torchvision").returncode == 0
    assert "no shim needed" in shim.install()


def test_costs_no_torch_import_at_start(shim: ModuleType, site: Path) -> None:
    shim.install()
    assert run("import sys; print('torch' in sys.modules)").stdout.strip() == "False"


def test_survives_a_pth_that_is_read_twice(shim: ModuleType, site: Path) -> None:
    shim.install()
    assert run("import _torchvision_cpu_shim as s; s.register(); import torchvision").returncode == 0


def test_leaves_a_cuda_torch_alone(shim: ModuleType, site: Path) -> None:
    (site / "torch.py").write_text(TORCH.format(cuda="13.0"))
    assert "no shim needed" in shim.install()
    assert not list(site.glob("*.pth"))


def test_says_when_torchvision_is_broken_otherwise(shim: ModuleType, site: Path) -> None:
    (site / "torchvision.py").write_text("raise ImportError('libjpeg is gone')\n")
    with pytest.raises(SystemExit, match="libjpeg is gone"):
        shim.install()
    assert not list(site.glob("*.pth"))
