"""DeepSpeed's configuration, derived from a `TorchModel` in this one place."""

from __future__ import annotations

from typing import Any

from app.errors import TrainingError
from app.spec.models import TorchModel


def deepspeed_config(model: TorchModel, num_workers: int) -> dict[str, Any]:
    """The configuration for `num_workers` data-parallel ranks; `model.deepspeed` overrides any key.

    Raises:
        TrainingError: the batch cannot be shared evenly.
    """
    accumulation = int(model.deepspeed.get("gradient_accumulation_steps", 1))
    share, rest = divmod(model.batch_size, num_workers * accumulation)
    if rest or not share:
        raise TrainingError(
            f"model {model.name!r}: batch_size {model.batch_size} cannot be shared by {num_workers} workers × "
            f"{accumulation} accumulation steps; choose a multiple of {num_workers * accumulation}."
        )
    derived: dict[str, Any] = {
        "train_batch_size": model.batch_size,
        "train_micro_batch_size_per_gpu": share,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": model.zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU Adam would be compiled at first use
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if model.precision == "bf16":
        derived["bf16"] = {"enabled": True}
    elif model.precision == "fp16":
        derived["fp16"] = {"enabled": True}
    return {**derived, **model.deepspeed}
