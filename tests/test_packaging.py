"""The wheel holds what users need and nothing else, and works from where it is installed."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def run(installed: Path, cwd: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_holds_the_package_and_nothing_of_the_workshop(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"das3r_ns"}
    for folder in ("configs", "configs/protocols"):
        found = {path.name for path in (ROOT / folder).glob("*.yaml")}
        assert found and {f"das3r_ns/{folder}/{name}" for name in found} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/THIRD_PARTY_LICENSES") for name in names)
    for unwanted in ("test", "shim", "benchmark", ".pth", ".nbi", "__pycache__"):
        assert not [name for name in names if unwanted in name], unwanted


def test_declares_methods_dataparser_and_command(installed: Path) -> None:
    distribution = next(iter(importlib.metadata.distributions(path=[str(installed)])))
    points = {(point.group, point.name) for point in distribution.entry_points}
    methods = {("nerfstudio.method_configs", name) for name in ("das3r", "das3r-light", "das3r-paper")}
    assert points == methods | {("nerfstudio.dataparser_configs", "das3r-video"), ("console_scripts", "das3r")}
    # Pins of torch belong to the development environment: users keep the torch that fits their GPU.
    assert all("==" not in line for line in distribution.requires or [] if line.startswith("torch"))


def test_presets_and_methods_load_from_it(installed: Path, tmp_path: Path) -> None:
    code = """
from pathlib import Path
import das3r_ns, das3r_ns.method as method
from das3r_ns.presets import configs_dir
print(Path(das3r_ns.__file__).parent)
print(configs_dir())
print(*(m.config.method_name for m in (method.das3r, method.das3r_light, method.das3r_paper)))
"""
    package, configs, methods = run(installed, tmp_path, sys.executable, "-W", "ignore", "-c", code).splitlines()[-3:]
    assert Path(package) == (installed / "das3r_ns").resolve()
    assert Path(configs) == (installed / "das3r_ns" / "configs").resolve()
    assert methods == "das3r das3r-light das3r-paper"


def test_the_command_runs_from_it(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "bin" / "das3r")
    assert "demo" in run(installed, tmp_path, sys.executable, command, "--help")
    run(installed, tmp_path, sys.executable, command, "demo", "room", "--num-frames", "2", "--width", "64")
    assert len(list((tmp_path / "room" / "frames").glob("*.png"))) == 2
