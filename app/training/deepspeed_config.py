"""DeepSpeed's configuration, derived from a `TorchModel` in this one place, and which combinations cannot work.

Source: each refusal names what DeepSpeed 0.19.8 does, read in its code and tried on two CPU workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import TrainingError
from app.spec.models import TorchModel

BATCH_KEYS = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "batch_size, num_workers or gradient_accumulation_steps",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
}


@dataclass(frozen=True)
class Topology:
    """How many workers there are in each direction; their product is the number of workers."""

    data: int
    tensor: int
    pipeline: int


def topology(model: TorchModel, num_workers: int) -> Topology:
    """Workers by direction; `data` is 0 where they cannot be shared out."""
    inner = model.tensor_parallel * model.pipeline_stages
    data = num_workers // inner if num_workers % inner == 0 else 0
    return Topology(data, model.tensor_parallel, model.pipeline_stages)


def deepspeed_config(model: TorchModel, num_workers: int, *, use_gpu: bool = False) -> dict[str, Any]:
    """The configuration for `num_workers` workers; `model.deepspeed` is merged into it key by key.

    Raises:
        TrainingError: the combination cannot work; the message says why and what to choose.
    """
    reason = why_unshared(model, num_workers)
    if reason is None:
        config = merged(_derived(model, topology(model, num_workers).data), model.deepspeed)
        reason = why_impossible(model, num_workers, config, use_gpu=use_gpu)
    if reason is not None:
        raise TrainingError(f"model {model.name!r}: {reason}", model=model.name)
    return config


def why_unshared(model: TorchModel, num_workers: int) -> str | None:
    """Why the workers or the batch cannot be shared out evenly, `None` when they can. Pure."""
    inner = model.tensor_parallel * model.pipeline_stages
    data = topology(model, num_workers).data
    if data < 1:
        return (
            f"{num_workers} workers cannot be cut into tensor_parallel {model.tensor_parallel} × pipeline_stages "
            f"{model.pipeline_stages}; choose a multiple of {inner}."
        )
    accumulation = model.gradient_accumulation_steps
    if accumulation < 1 or model.batch_size < 1 or model.batch_size % (data * accumulation):
        return (
            f"batch_size {model.batch_size} cannot be shared by {data} data-parallel workers × {accumulation} "
            f"accumulation steps; choose a multiple of {data * max(1, accumulation)}."
        )
    return None


def why_impossible(model: TorchModel, num_workers: int, config: Mapping[str, Any], *, use_gpu: bool) -> str | None:
    """Why DeepSpeed would refuse, ignore or mistake this configuration, `None` when it can work. Pure."""
    derived = _derived(model, topology(model, num_workers).data)
    for key, field in BATCH_KEYS.items():
        if config[key] != derived[key]:
            return (
                f"deepspeed={{{key!r}: {config[key]!r}}} contradicts the batch that each worker reads "
                f"({derived[key]}); set {field} instead."
            )
    zero = config["zero_optimization"]
    stage = zero["stage"]
    offloads_optimizer, offloads_parameters = _offloads(zero, "offload_optimizer"), _offloads(zero, "offload_param")
    fp16, bf16 = _enabled(config, "fp16"), _enabled(config, "bf16")
    tensor = config.get("tensor_parallel", {})
    layers = any(tensor.get(key) for key in ("partition_config", "preset_model"))
    parallel = model.tensor_parallel > 1 or model.pipeline_stages > 1
    rules: tuple[tuple[bool, str], ...] = (
        (stage not in (0, 1, 2, 3), f"there is no ZeRO stage {stage!r}; choose 0, 1, 2 or 3."),
        (fp16 and bf16, "fp16 and bf16 exclude each other; choose one precision."),
        (
            fp16 and not use_gpu,
            "fp16 needs a GPU: DeepSpeed refuses it on CPUs without AVX512-FP16. Choose bf16 or fp32.",
        ),
        (
            offloads_optimizer and stage == 0,
            "offload needs zero_stage 1, 2 or 3: at stage 0 DeepSpeed ignores it without a word.",
        ),
        (
            offloads_parameters and stage != 3,
            f"parameters are offloaded at zero_stage 3 only (asked: {stage}): elsewhere DeepSpeed ignores it.",
        ),
        (
            model.pipeline_stages > 1 and stage > 1,
            f"pipeline_stages {model.pipeline_stages} needs zero_stage 0 or 1 (asked: {stage}): stages 2 and 3 cut the "
            "gradients that a pipeline has yet to add up.",
        ),
        (
            model.pipeline_stages > 1 and model.tensor_parallel > 1,
            "tensor_parallel and pipeline_stages together need a module that cuts its own layers; choose one of both.",
        ),
        (
            model.tensor_parallel > 1 and stage > 2,
            f"tensor_parallel {model.tensor_parallel} needs zero_stage 0, 1 or 2 (asked: {stage}).",
        ),
        (
            tensor.get("autotp_size", 1) != model.tensor_parallel,
            f"deepspeed's tensor_parallel.autotp_size {tensor.get('autotp_size')} contradicts tensor_parallel "
            f"{model.tensor_parallel}, by which workers read their rows; set tensor_parallel.",
        ),
        (
            model.tensor_parallel > 1 and not layers,
            "tensor_parallel needs tensor_parallel_layers, which weights to cut and how, e.g. "
            r"{r'.*layers\.1\.weight$': 'column', r'.*layers\.4\.weight$': 'row'}.",
        ),
        (
            model.min_workers is not None and not 1 <= model.min_workers <= model.num_workers,
            f"min_workers {model.min_workers} is not between 1 and num_workers {model.num_workers}.",
        ),
        (
            model.min_workers not in (None, model.num_workers) and parallel,
            "min_workers below num_workers works for data-parallel runs; leave it out with tensor_parallel or "
            "pipeline_stages.",
        ),
        (
            float(config["gradient_clipping"]) < 0,
            f"gradient_clipping {config['gradient_clipping']} is negative; 0 means no clipping.",
        ),
    )
    return next((reason for broken, reason in rules if broken), None)


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with every key of `overrides`, at every depth.

    >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}})
    {'a': {'b': 9, 'c': 2}, 'd': 3}
    """
    result = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def input_precision(config: Mapping[str, Any]) -> str:
    """The floating-point type of a module's inputs: `fp32`, `bf16` or `fp16`."""
    return "bf16" if _enabled(config, "bf16") else "fp16" if _enabled(config, "fp16") else "fp32"


def _derived(model: TorchModel, data_parallel: int) -> dict[str, Any]:
    accumulation = model.gradient_accumulation_steps
    zero: dict[str, Any] = {"stage": model.zero_stage}
    if model.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if model.offload == "optimizer_and_parameters":
        zero["offload_param"] = {"device": "cpu"}
    config: dict[str, Any] = {
        "train_batch_size": model.batch_size * model.tensor_parallel,  # it counts tensor-parallel copies as rows
        "train_micro_batch_size_per_gpu": model.batch_size // (data_parallel * accumulation),
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": model.gradient_clipping,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU Adam would be compiled at first use
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if model.precision != "fp32":
        config[model.precision] = {"enabled": True}
    if model.tensor_parallel > 1:
        config["tensor_parallel"] = {"autotp_size": model.tensor_parallel}
        if model.tensor_parallel_layers:
            specs = [{"patterns": [p], "partition_type": how} for p, how in model.tensor_parallel_layers.items()]
            config["tensor_parallel"]["partition_config"] = {"use_default_specs": False, "layer_specs": specs}
    return config


def _enabled(config: Mapping[str, Any], precision: str) -> bool:
    return bool(config.get(precision, {}).get("enabled", False))


def _offloads(zero: Mapping[str, Any], part: str) -> bool:
    return str((zero.get(part) or {}).get("device", "none")) != "none"
