"""Where the dense loops run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from das3r_ns.errors import Das3rError
from das3r_ns.frontend import device as usable
from das3r_ns.frontend.geometric.torch_kernels.arrays import on_device, quantiles
from das3r_ns.frontend.geometric.torch_kernels.choice import dense_device, described_device

CPU = torch.device("cpu")


@pytest.fixture()
def there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch sees two GPUs; whether they ``work``, can be set."""
    state = SimpleNamespace(works=True)

    def ones(*size: int, device: torch.device) -> torch.Tensor:
        if device.type == "cuda" and not state.works:
            raise RuntimeError("no kernel image is available for execution on the device\nmore of it")
        return torch.zeros(size)

    stand_in = SimpleNamespace(is_available=lambda: True, current_device=lambda: 1)
    monkeypatch.setattr(usable, "torch", SimpleNamespace(cuda=stand_in, device=torch.device, ones=ones))
    return state


def test_without_a_gpu_everything_is_as_ever() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert dense_device("auto", "auto") is None
    assert dense_device("cpu", "auto") is None
    assert dense_device("auto", "numba") is None
    assert dense_device("auto", "torch") == dense_device("cpu", "torch") == CPU
    assert described_device(None) == "numba"
    assert described_device(CPU) == "torch on cpu"


def test_a_gpu_is_taken_unless_told_otherwise(there_is_a_gpu: SimpleNamespace) -> None:
    assert dense_device("auto", "auto") == dense_device("auto", "torch") == torch.device("cuda", 1)
    assert dense_device("cuda:0", "auto") == torch.device("cuda", 0)
    assert dense_device("cpu", "auto") is None
    assert dense_device("cuda", "numba") is None
    assert dense_device("cpu", "torch") == CPU


def test_a_gpu_that_torch_cannot_use_is_said_and_left(there_is_a_gpu: SimpleNamespace) -> None:
    there_is_a_gpu.works = False
    said: list[str] = []
    assert dense_device("auto", "auto", said.append) is None
    assert said == ["The GPU is not used for the front end (no kernel image is available for execution on the device)."]
    with pytest.raises(Das3rError, match="--device cuda does not work here"):
        dense_device("cuda", "auto")


def test_a_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Das3rError, match="--device gpu7 does not work here"):
        dense_device("gpu7", "auto")


def test_kernels_are_called_with_arrays() -> None:
    """float64 comes as float32, numbers as they are."""
    half, same = on_device(lambda values, by: (values * by, values), CPU)(np.arange(3.0), 0.5)
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(same, [0.0, 1.0, 2.0])


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).random((3, 1234)).astype(np.float32)
    shares = (0.0, 0.001, 0.5, 0.999, 1.0)
    found = torch.stack(quantiles(torch.from_numpy(values), shares)).numpy()
    np.testing.assert_allclose(found, np.quantile(values, shares, axis=1), rtol=1e-5)
