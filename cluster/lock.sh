#!/bin/sh
# Compiles requirements.lock for Python 3.11 and 3.12 from pyproject.toml.
# The CUDA packages are left out: torch's own metadata pins them exactly where its CUDA build is installed,
# and a CPU build needs none. $1: a folder with wheels to prefer (optional).
set -eu
cuda='cuda-bindings cuda-pathfinder cuda-toolkit triton nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc
nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse
nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx'
set -- ${1:+--find-links "$1"} $(for package in $cuda; do echo "--no-emit-package $package"; done)
uv pip compile --universal --python-version 3.11 --all-extras --no-annotate --no-header \
    "$@" pyproject.toml --output-file requirements.lock
