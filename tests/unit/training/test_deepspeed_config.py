"""DeepSpeed's configuration is derived in one place; what cannot work is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TrainingError
from app.spec import FeatureService, TorchModel
from app.training.deepspeed_config import deepspeed_config, input_precision, merged, topology

MODEL = TorchModel("m", FeatureService("s", ()), "app.models.tabular:residual_mlp", batch_size=64, zero_stage=2)
LAYERS = {r".*up\.weight$": "column", r".*down\.weight$": "row"}


def test_the_batch_is_shared_by_workers_and_accumulation_steps() -> None:
    config = deepspeed_config(replace(MODEL, gradient_accumulation_steps=4), 2)
    assert config["train_batch_size"] == 64
    assert config["train_micro_batch_size_per_gpu"] == 8
    assert config["gradient_accumulation_steps"] == 4
    assert config["zero_optimization"]["stage"] == 2


@given(
    batch_size=st.integers(0, 300), num_workers=st.integers(1, 9), accumulation=st.integers(0, 5),
    tensor=st.integers(1, 3), pipeline=st.integers(1, 3),
)
def test_a_configuration_always_adds_up_or_is_refused(
    batch_size: int, num_workers: int, accumulation: int, tensor: int, pipeline: int
) -> None:
    model = replace(
        MODEL, batch_size=batch_size, gradient_accumulation_steps=accumulation, tensor_parallel=tensor, zero_stage=1,
        pipeline_stages=pipeline, tensor_parallel_layers=LAYERS,
    )
    try:
        config = deepspeed_config(model, num_workers)
    except TrainingError:
        return
    data = topology(model, num_workers).data
    assert data * tensor * pipeline == num_workers
    rows = config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * data
    assert rows == batch_size > 0
    assert config["train_batch_size"] == batch_size * tensor, "DeepSpeed counts tensor-parallel copies as rows"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 63}, "multiple of 2"),
        ({"batch_size": 64, "gradient_accumulation_steps": 3}, "multiple of 6"),
        ({"tensor_parallel": 3}, "multiple of 3"),
        ({"precision": "fp16"}, "needs a GPU"),
        ({"precision": "bf16", "deepspeed": {"fp16": {"enabled": True}}}, "exclude each other"),
        ({"zero_stage": 0, "offload": "optimizer"}, "zero_stage 1, 2 or 3"),
        ({"zero_stage": 2, "offload": "optimizer_and_parameters"}, "zero_stage 3 only"),
        ({"zero_stage": 2, "pipeline_stages": 2}, "needs zero_stage 0 or 1"),
        ({"zero_stage": 1, "pipeline_stages": 2, "deepspeed": {"zero_optimization": {"stage": 3}}}, "stage 0 or 1"),
        ({"zero_stage": 3, "tensor_parallel": 2, "tensor_parallel_layers": LAYERS}, "0, 1 or 2"),
        ({"zero_stage": 1, "tensor_parallel": 2}, "needs tensor_parallel_layers"),
        ({"deepspeed": {"tensor_parallel": {"autotp_size": 2}}}, "contradicts tensor_parallel"),
        ({"deepspeed": {"train_batch_size": 128}}, "set batch_size instead"),
        ({"deepspeed": {"gradient_accumulation_steps": 2}}, "set gradient_accumulation_steps instead"),
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, "no ZeRO stage 4"),
        ({"min_workers": 3}, "between 1 and num_workers"),
        ({"min_workers": 1, "zero_stage": 1, "pipeline_stages": 2}, "leave it out"),
        ({"gradient_clipping": -1.0}, "negative"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        deepspeed_config(replace(MODEL, **changed), 2)


def test_tensor_and_pipeline_parallel_are_one_or_the_other() -> None:
    both = replace(MODEL, zero_stage=1, tensor_parallel=2, pipeline_stages=2, tensor_parallel_layers=LAYERS)
    with pytest.raises(TrainingError, match="one of both"):
        deepspeed_config(both, 4)


@pytest.mark.parametrize(
    ("stage", "precision", "offload"),
    [
        (stage, precision, offload)
        for stage, precision, offload in product((0, 1, 2, 3), ("fp32", "bf16", "fp16"), ("none", "optimizer"))
        if not (stage == 0 and offload == "optimizer")
    ],
)
def test_every_stage_works_in_every_precision_on_a_gpu(stage: Any, precision: Any, offload: Any) -> None:
    model = replace(MODEL, zero_stage=stage, precision=precision, offload=offload)
    config = deepspeed_config(model, 2, use_gpu=True)
    assert input_precision(config) == precision
    assert config["zero_optimization"]["stage"] == stage
    assert ("offload_optimizer" in config["zero_optimization"]) == (offload == "optimizer")


def test_any_key_can_be_overridden_at_any_depth() -> None:
    model = replace(MODEL, deepspeed={"gradient_clipping": 0.5, "zero_optimization": {"reduce_bucket_size": 7}})
    config = deepspeed_config(model, 2)
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 7}
    same = replace(MODEL, deepspeed={"train_batch_size": 64})
    assert deepspeed_config(same, 2)["train_batch_size"] == 64, "saying the same again contradicts nothing"


def test_tensor_parallel_layers_become_rules_of_partition() -> None:
    model = replace(MODEL, tensor_parallel=2, tensor_parallel_layers=LAYERS)
    tensor = deepspeed_config(model, 4)["tensor_parallel"]
    assert tensor["autotp_size"] == 2
    assert [s["partition_type"] for s in tensor["partition_config"]["layer_specs"]] == ["column", "row"]


json_values = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8)
mappings = st.dictionaries(st.sampled_from("abc"), json_values)


@given(base=mappings, overrides=mappings)
def test_a_merge_keeps_what_is_not_overridden_and_changes_neither_side(
    base: dict[str, Any], overrides: dict[str, Any]
) -> None:
    before = repr((base, overrides))
    result = merged(base, overrides)
    assert repr((base, overrides)) == before
    for key in base.keys() | overrides.keys():
        if key not in overrides:
            assert result[key] == base[key]
        elif not (isinstance(base.get(key), dict) and isinstance(overrides[key], dict)):
            assert result[key] == overrides[key]
        else:
            assert result[key] == merged(base[key], overrides[key])
