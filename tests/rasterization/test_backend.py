"""Whether gsplat's CUDA kernels are there, on machines that are pretended."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import das3r_ns.rasterization
from das3r_ns.rasterization import backend, rasterization


@pytest.fixture()
def fresh(monkeypatch: pytest.MonkeyPatch):
    """The question has not been asked yet, nor has anything been said; afterwards it is open again."""
    monkeypatch.setattr(backend, "_said", [])
    backend._find_obstacle.cache_clear()
    yield
    backend._find_obstacle.cache_clear()


@pytest.fixture()
def gpu(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A machine with an NVIDIA GPU, nvcc and gsplat's kernels; the tests take away what they like."""
    machine = SimpleNamespace(capability=(8, 9), extension=object(), asked=0)

    def capability(*_: object) -> tuple[int, int]:
        machine.asked += 1
        return machine.capability

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "GeForce")
    monkeypatch.setattr(backend, "_nvcc", lambda: Path("/opt/cuda/bin/nvcc"))
    monkeypatch.setenv("PATH", "/nowhere")
    module = SimpleNamespace(_C=machine.extension)
    monkeypatch.setitem(sys.modules, backend.BACKEND, module)
    machine.module = module
    return machine


def failing_import(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
    """Let the import of gsplat's kernels fail as ``fail`` does, inside the handler that gsplat has round it."""
    original = importlib.import_module

    def import_module(name: str, package: str | None = None):
        if name != backend.BACKEND:
            return original(name, package)
        try:
            raise ImportError("cannot import name 'csrc' from 'gsplat' (gsplat/__init__.py)", name="gsplat")
        except ImportError:
            fail()

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_kernels_that_are_there_are_used_and_asked_for_once(gpu, capsys):
    assert backend.expected_obstacle() is None and gpu.asked == 0
    assert backend.obstacle() is None and backend.obstacle() is None
    assert backend.uses_cuda_kernels("cuda:0") and not backend.uses_cuda_kernels("cpu")
    assert gpu.asked == 1
    told = capsys.readouterr().err
    assert told.count("Compiling gsplat's CUDA kernels") == 1 and "das3r's CPU kernels" not in told


def test_kernels_compiled_before_are_not_announced(gpu, tmp_path, capsys):
    (tmp_path / "gsplat_cuda").mkdir()
    (tmp_path / "gsplat_cuda" / "gsplat_cuda.so").touch()
    assert backend.obstacle() is None
    assert capsys.readouterr().err == ""


def test_without_cuda_gsplats_kernels_are_never_touched(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, backend.BACKEND, None)  # an import of it would fail
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without it" in str(backend.obstacle())
    backend._find_obstacle.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = str(backend.obstacle())
    assert "no CUDA device" in reason and "driver that serves CUDA 12.4" in reason


def test_without_nvcc_the_gpu_sleeps_on_and_one_line_says_what_to_install(gpu, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_nvcc", lambda: None)
    assert not backend.uses_cuda_kernels("cuda") and not backend.uses_cuda_kernels("cuda:0")
    assert gpu.asked == 0
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no nvcc is found" in told and "fits this torch, CUDA 12.4" in told and "CPU kernels render" in told


def test_compiled_kernels_need_no_nvcc(gpu, monkeypatch):
    monkeypatch.setattr(backend, "_nvcc", lambda: None)
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "gsplat.csrc" or original(name))
    assert backend.obstacle() is None


def test_old_gpus_and_disabled_kernels_are_refused(gpu):
    gpu.capability = (6, 1)
    assert "need compute capability 7.0, and GeForce has 6.1" in str(backend.obstacle())
    backend._find_obstacle.cache_clear()
    gpu.capability, gpu.module._C = (7, 0), None
    assert "has disabled its CUDA kernels" in str(backend.obstacle())


def test_a_gpu_that_cannot_be_woken_is_no_traceback(gpu, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment\nmore")

    monkeypatch.setattr(torch.cuda, "get_device_capability", broken)
    assert "The GPU cannot be used (CUDA unknown error" in str(backend.obstacle())


def test_a_failed_build_says_what_failed_first_and_is_not_repeated(gpu, monkeypatch):
    def no_toolkit() -> None:
        try:
            raise OSError("CUDA_HOME environment variable is not set. Please set it to your CUDA install root.")
        except OSError:
            raise ImportError("gsplat_cuda.so: cannot open shared object file")  # noqa: B904

    failing_import(monkeypatch, no_toolkit)
    reason = str(backend.obstacle())
    assert "could not be compiled: CUDA_HOME environment variable is not set" in reason
    assert "cannot open" not in reason and "is built for CUDA 12.4" in reason
    failing_import(monkeypatch, lambda: pytest.fail("compiled twice"))
    assert backend.obstacle() == reason


def test_of_a_compilers_output_the_errors_are_told(gpu, monkeypatch):
    output = "Error building extension 'gsplat_cuda': [1/2] nvcc a.cu\nFAILED: a.o\na.cu(3): error: no glm\nstopped."

    def no_header() -> None:
        raise RuntimeError(output) from subprocess.CalledProcessError(1, ["ninja", "-v"])

    failing_import(monkeypatch, no_header)
    assert "could not be compiled: a.cu(3): error: no glm. nvcc must fit" in str(backend.obstacle())


def test_torchs_unfinished_messages_are_finished(gpu, monkeypatch):
    def mismatch() -> None:
        raise RuntimeError("The detected CUDA version (%s) mismatches the version of PyTorch (%s).", "13.0", "12.4")

    failing_import(monkeypatch, mismatch)
    assert "The detected CUDA version (13.0) mismatches the version of PyTorch (12.4)." in str(backend.obstacle())


def test_the_rasteriser_takes_gsplats_kernels_only_where_they_are(make_scene, monkeypatch):
    monkeypatch.setattr("das3r_ns.rasterization.cuda.rasterize_cuda", lambda **arguments: sorted(arguments))
    inputs = make_scene().inputs()
    assert not isinstance(rasterization(**inputs, sh_degree=3), list)
    monkeypatch.setattr(das3r_ns.rasterization, "uses_cuda_kernels", lambda device: True)
    assert "packed" in rasterization(**inputs, sh_degree=3)
