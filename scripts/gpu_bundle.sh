#!/usr/bin/env bash
# What benchmarks/gpu_check.py needs on a machine that has a GPU, torch and no network:
#   scripts/gpu_bundle.sh FOLDER [PYTHON] [TORCH] [TORCHVISION] [ARCHITECTURES]
# PYTHON is an interpreter of that machine's version; TORCH is the torch there. Needs nvcc of torch's CUDA, no GPU; the
# compiler takes 15 minutes on two cores. Writes FOLDER/csrc.so, gsplat's kernels, and FOLDER/site.tar.xz, the packages
# that a machine with torch, SciPy, numba, OpenCV, scikit-image, matplotlib, torchmetrics and tensorboard lacks.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
python=${2:-python3.12} torch=${3:-2.11.0} torchvision=${4:-0.26.0} architectures=${5:-9.0}
work=$folder/work
bring="nerfstudio==1.1.5 gsplat==1.4.0 nerfacc==0.5.2 viser==0.2.7 rawpy av tyro==1.0.17 typeguard docstring_parser appdirs
  dill multiprocess pathos ppft pox fpsample pyquaternion pytorch-msssim splines tensorly rich PySocks websockets msgspec
  lz4 shtab"

[ -x "$work/env/bin/python" ] || "$python" -m venv "$work/env"
pip="$work/env/bin/pip --disable-pip-version-check"
$pip install -q "torch==$torch" "torchvision==$torchvision" ninja setuptools wheel rich jaxtyping numpy
$pip wheel -q --no-deps -w "$work/wheels" $bring
rm -rf "$work/site"
$pip install -q --no-index --no-deps --no-compile --target "$work/site" "$work"/wheels/*.whl
PYTHONPATH=$work/site TORCH_CUDA_ARCH_LIST=$architectures "$work/env/bin/python" - "$work/build" <<'PYTHON'
import sys
from pathlib import Path

import gsplat
from torch.utils.cpp_extension import load

source = Path(gsplat.__path__[0]) / "cuda" / "csrc"
Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
load(
    "csrc",  # gsplat looks for a module of this name before it compiles one
    [str(file) for pattern in ("*.cu", "*.cpp") for file in sorted(source.glob(pattern))],
    extra_cflags=["-O3"],
    extra_cuda_cflags=["-O3", "--use_fast_math"],
    extra_include_paths=[str(source), str(source / "third_party" / "glm")],
    build_directory=sys.argv[1],
    verbose=True,
)
PYTHON
strip -o "$folder/csrc.so" "$work/build/csrc.so"
rm -rf "$work"/site/{bin,gsplat/cuda/csrc/third_party}
find "$work/site" -path '*/datasets/data/*.npy' -delete # tensorly's examples
tar -C "$work/site" -c . | xz -3 >"$folder/site.tar.xz"
ls -l "$folder"/csrc.so "$folder"/site.tar.xz
