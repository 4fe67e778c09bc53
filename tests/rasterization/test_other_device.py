"""The CPU kernels on tensors of another device: what comes out lies there, gradients too, to the same bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from das3r_ns.rasterization import rasterization

THERE = torch.device("meta")
"""Stands for a GPU: of torch's devices it is the one that every build has and that autograd runs on this thread."""


class Remote(Tensor):
    """A tensor that says it lies THERE, and has values all the same."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Remote:
        tensor = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=THERE
        )
        tensor.inner = inner
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class RemoteDevice(TorchDispatchMode):
    """Makes tensors THERE while it lasts."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operation of torch on the values, and refuse what no device does: tensors of two devices."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    kinds = {isinstance(x, Remote) for x in tensors if x.dim() > 0 or isinstance(x, Remote)}
    if len(kinds) > 1 and "copy" not in str(func):
        raise RuntimeError(f"{func}: tensors on two devices")
    device = kwargs.get("device")
    remote = torch.device(device) == THERE if device is not None else True in kinds
    kwargs = kwargs if device is None else {**kwargs, "device": torch.device("cpu")}

    def unwrap(x: Any) -> Any:
        return x.inner if isinstance(x, Remote) else x

    with _disable_current_modes():
        result = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    return tree_map(lambda x: Remote(x) if remote and isinstance(x, Tensor) else x, result)


def render(inputs: dict[str, Any], **options: Any) -> tuple[list[Tensor], list[Tensor], dict[str, Any]]:
    """Pictures and gradients of a loss on them, as the model and the strategies ask for them."""
    pictures, alphas, info = rasterization(**inputs, sh_degree=3, absgrad=True, **options)
    info["means2d"].retain_grad()
    (pictures.square().sum() + alphas.sum()).backward()
    gradients = [info["means2d"].grad, info["means2d"].absgrad]
    gradients += [value.grad for name, value in inputs.items() if isinstance(value, Tensor) and name != "Ks"]
    return [pictures.detach(), alphas.detach(), info["radii"], info["depths"]], gradients, info


@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
@pytest.mark.parametrize("with_backgrounds", [True, False])
def test_a_step_is_the_same_there(make_scene, render_mode, with_backgrounds):
    scene = make_scene(cameras=2, n_extra=2)
    here = scene.inputs()
    there = scene.inputs()
    if not with_backgrounds:
        del here["backgrounds"], there["backgrounds"]
    expected = render(here, render_mode=render_mode)
    with RemoteDevice():
        there = {
            name: x.detach().to(THERE).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
            for name, x in there.items()
        }
        found = render(there, render_mode=render_mode)
    for kind in range(2):
        assert len(expected[kind]) == len(found[kind])
        for ours, theirs in zip(expected[kind], found[kind], strict=True):
            assert isinstance(theirs, Remote) and isinstance(ours, Tensor)
            assert theirs.device == THERE and torch.equal(ours, theirs.inner)
    assert found[2]["means2d"].device == THERE and not found[2]["means2d"].is_leaf
    assert all(not isinstance(x, Tensor) or isinstance(x, Remote) for x in found[2].values())
