"""The machine a run was made on: what decides whether the same sums come out to the bit."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

CPU_INFO = Path("/proc/cpuinfo")
# Kernels of numpy, BLAS, oneDNN and onnxruntime are chosen by these; the rest of the flags changes no result.
VECTOR_FLAGS = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512", "avx_vnni", "amx", "asimd", "sve", "bf16")


def hardware(cpu_info: Path = CPU_INFO) -> dict[str, Any]:
    """CPU model, its instruction sets, cores, memory and accelerators of this host."""
    model, flags = _cpu(cpu_info)
    return {
        "cpu_model": model,
        "machine": platform.machine(),
        "instruction_set": flags,
        "logical_cpus": os.cpu_count(),
        "physical_cpus": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "allowed_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "accelerators": _accelerators(),
    }


def arithmetic_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Where two machines differ in what the bits of a sum depend on: the fact and both values.

    The model's name and the memory do not count; the number of CPUs does, since it decides how sums are split.
    """
    keys = ("machine", "instruction_set", "allowed_cpus", "accelerators")
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def _cpu(cpu_info: Path) -> tuple[str, list[str]]:
    if not cpu_info.exists():
        return platform.processor() or "unknown", []
    fields: dict[str, str] = {}
    for line in cpu_info.read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name", "unknown"), sorted(f for f in flags if f.startswith(VECTOR_FLAGS))


def _accelerators() -> list[str]:
    """Names of the GPUs torch can see; torch is asked only where it is installed."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
