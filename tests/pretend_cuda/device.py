"""A CUDA device that is not there, with real values.

Tensors "on cuda:0" are wrappers round CPU tensors. Every ATen operation goes through :func:`_dispatch`, which refuses
what CUDA refuses (tensors on two devices, an index on the GPU into a tensor on the host, a generator of another
device), runs it on the CPU tensors and wraps the result. :data:`waits` counts, by line of code, where the host would
wait for the device. gsplat's own Python code runs as it is; its extension is in :mod:`kernels`.

It finds wrong devices and waits. It says nothing of speed, memory or gsplat's kernels.

    ctypes.CDLL(GUARD)              # guard.cpp, compiled: before anything imports torch
    import device; device.install()
"""

from __future__ import annotations

import collections
import importlib.machinery
import sys
import traceback
import types
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda:0")
PACKAGES = ("das3r_ns/", "nerfstudio/", "gsplat/")
"""Whose lines are named."""

waits: collections.Counter[str] = collections.Counter()
"""What made the host wait, and where -> how often."""
dense_convolutions: collections.Counter[str] = collections.Counter()
"""Where a float32 convolution ran that cuDNN would compute with TF32's 10 bits."""

MAY_CROSS = {"aten.copy_.default", "aten._to_copy.default", "aten.set_data.default", "aten._foreach_copy_.default"}
"""Operations for tensors on different devices."""
WAITING = {
    "aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default", "aten.equal.default",
    "aten._linalg_check_errors.default", "aten.is_nonzero.default", "aten._unique2.default", "aten.bincount.default",
    "aten.repeat_interleave.Tensor", "aten.unique_consecutive.default", "aten.unique_dim.default",
}  # fmt: skip
"""Operations whose result the host needs before it can go on."""


def place() -> str:
    """The innermost two lines of the packages."""
    lines = []
    for frame in traceback.extract_stack():
        package = next((name for name in PACKAGES if name in frame.filename), None)
        if package is not None:
            lines.append(f"{package}{frame.filename.split(package)[-1]}:{frame.lineno}")
    return " < ".join(lines[-2:][::-1]) or "autograd"


def note_wait(kind: str) -> None:
    """The host waits here."""
    waits[f"{kind} at {place()}"] += 1


class CudaTensor(torch.Tensor):
    """Says that it is on the GPU; its values are in ``inner``, on the host."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> CudaTensor:
        assert type(inner) is torch.Tensor, type(inner)
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=CUDA, requires_grad=False,
        )  # fmt: skip
        wrapper.inner = inner
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().inner.__reduce_ex__(protocol)  # pyright: ignore[reportAttributeAccessIssue]


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = str(func)
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, CudaTensor)]
    on_host = [tensor for tensor in tensors if not isinstance(tensor, CudaTensor)]
    device = kwargs.get("device")
    to_gpu = torch.device(device).type == "cuda" if device is not None else bool(on_gpu)
    _check(name, args, kwargs, on_gpu, on_host, to_gpu)
    _watch(name, args, kwargs, on_gpu, to_gpu)
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = kwargs | {"pin_memory": False}
    if name in ("aten.pin_memory.default", "aten._pin_memory.default"):
        return args[0].clone()
    if name == "aten.is_pinned.default":
        return False
    with _disable_current_modes():
        result = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    return _as_came_in(func, args, kwargs, result, to_gpu)


def _unwrapped(value: Any) -> Any:
    return value.inner if isinstance(value, CudaTensor) else value


def _as_came_in(func: Any, args: Any, kwargs: dict[str, Any], result: Any, to_gpu: bool) -> Any:
    """The result in wrappers; what is written in place comes back as the wrapper that came in."""
    written = [
        args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    for tensor in tree_flatten(written)[0]:
        if isinstance(tensor, CudaTensor) and tensor.inner.shape != tensor.shape:
            raise NotImplementedError(f"{func} changed the shape of a wrapper")
    returns = func._schema.returns
    if written and returns and all(r.alias_info is not None and r.alias_info.is_write for r in returns):
        return written[0] if len(returns) == 1 else tuple(written[: len(returns)])

    def wrapped(value: Any) -> Any:
        is_plain = isinstance(value, torch.Tensor) and not isinstance(value, CudaTensor)
        return CudaTensor(value) if is_plain and to_gpu else value

    return tree_map(wrapped, result)


def _is_indexing(name: str) -> bool:
    return name.startswith(("aten.index.", "aten.index_put", "aten._index_put_impl_", "aten._unsafe_index"))


def _check(name: str, args: Any, kwargs: dict[str, Any], on_gpu: list, on_host: list, to_gpu: bool) -> None:
    """Refuse what CUDA refuses, in its words."""
    generator = kwargs.get("generator")
    if generator is not None and (generator.device.type == "cuda") != to_gpu:
        raise RuntimeError(f"Expected another device for generator but found '{generator.device}' [{name}]")
    if not on_gpu or not on_host or name in MAY_CROSS:
        return
    if not _is_indexing(name):
        large = [tensor for tensor in on_host if tensor.dim() > 0]
        if large:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"[{name}: on the CPU a tensor of shape {tuple(large[0].shape)}]"
            )
        return
    if not isinstance(args[0], CudaTensor) and any(isinstance(index, CudaTensor) for index in args[1]):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor [{name}]")
    values = args[2] if len(args) > 2 else None
    if values is not None and isinstance(args[0], CudaTensor) != isinstance(values, CudaTensor) and values.dim() > 0:
        raise RuntimeError(f"index_put: values on another device [{name}]")


def _watch(name: str, args: Any, kwargs: dict[str, Any], on_gpu: list, to_gpu: bool) -> None:
    """Note where the host waits, and what cuDNN would round."""
    if _is_indexing(name) and on_gpu:
        indices = [index for index in args[1] if index is not None]
        if isinstance(args[0], CudaTensor) and not all(isinstance(index, CudaTensor) for index in indices):
            note_wait("copy of an index")
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            note_wait("selection by booleans")
    elif name in WAITING and on_gpu:
        note_wait(name.split(".")[1])
    elif name in ("aten._to_copy.default", "aten.copy_.default"):
        source = args[0] if name == "aten._to_copy.default" else args[1]
        target_on_gpu = to_gpu if name == "aten._to_copy.default" else isinstance(args[0], CudaTensor)
        promised = kwargs.get("non_blocking") or (name == "aten.copy_.default" and len(args) > 2 and args[2])
        if isinstance(source, CudaTensor) != target_on_gpu and not promised:
            note_wait("copy to the GPU" if target_on_gpu else "copy to the host")
    elif name == "aten.convolution.default" and on_gpu and args[0].dtype == torch.float32 and args[8] == 1:
        dense_convolutions[place()] += 1


class _EveryOperation(TorchDispatchMode):
    """Also those that have no tensor on the GPU among their arguments, but may make one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _WithIndex(TorchFunctionMode):
    """ "cuda" becomes "cuda:0" before C++ sees it, which would ask a driver; and what has no dispatch is done here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.data.__set__ and isinstance(args[0], CudaTensor):  # pyright: ignore[reportAttributeAccessIssue]
            assert isinstance(args[1], CudaTensor), "a parameter on the GPU was given data on the CPU"
            func(*args, **kwargs)
            args[0].inner = args[1].inner.detach()
            return None
        if func is torch.Tensor.numpy and kwargs.get("force") and isinstance(args[0], CudaTensor):
            return args[0].detach().cpu().numpy()
        if func is torch.Tensor.cuda:
            return args[0].to("cuda:0")
        if len(args) > 1 and isinstance(args[1], str | torch.device) and str(args[1]) == "cuda":
            args = (args[0], "cuda:0", *args[2:])
        if kwargs.get("device") is not None and str(kwargs["device"]) == "cuda":
            kwargs = kwargs | {"device": "cuda:0"}
        return func(*args, **kwargs)


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, *_: Any) -> None: ...
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        note_wait("event")

    def elapsed_time(self, _: Any) -> float:
        return 1.0


def install() -> None:
    """From here on there is a GPU."""
    import torchvision  # noqa: F401  (it must not see the version of CUDA below)

    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda"): made on the host, then moved
    torch.autograd.set_multithreading_enabled(False)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.version.cuda = "13.0"
    answers: dict[str, Any] = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "_lazy_init": None,
        "max_memory_allocated": 0, "memory_allocated": 0, "memory_reserved": 0, "empty_cache": None,
        "mem_get_info": (20 << 30, 24 << 30), "get_device_name": "a GPU that is not there", "is_bf16_supported": True,
        "get_device_capability": (9, 0), "manual_seed_all": None, "current_stream": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.synchronize = lambda *_: note_wait("synchronize")
    torch.cuda.Event = _Event  # pyright: ignore[reportAttributeAccessIssue]
    _EveryOperation().__enter__()
    _WithIndex().__enter__()
    _install_extension()


def _install_extension() -> None:
    """gsplat finds its extension compiled, and calls :mod:`kernels`."""
    import kernels

    for name in ("gsplat.csrc", "gsplat.cuda._backend"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__dict__["_C"] = kernels
        sys.modules[name] = module
    import gsplat.cuda._wrapper as wrapper

    wrapper._make_lazy_cuda_func = lambda name: getattr(kernels, name)
    wrapper._make_lazy_cuda_obj = lambda name: name
