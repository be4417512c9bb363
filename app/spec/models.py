"""What a user declares about models: cases, label, estimator, search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.spec.features import FeatureService, Field, Source

Task = Literal["binary", "regression"]
Quantization = Literal["none", "int8"]


@dataclass(frozen=True)
class Cases:
    """The rows predictions are asked for.

    `source` has one row per case with `key` (its id), `prediction_timestamp` (the moment it is
    asked), the join keys of the service's views and the `request_fields` a caller sends along.
    """

    source: Source
    key: str
    prediction_timestamp: str
    request_fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Label:
    """The truth about a case: `column` of `source`, joined by the cases' key.

    A label exists once its row's available time has come. Binary labels are 0 or 1.
    """

    source: Source
    column: str
    task: Task = "binary"


@dataclass(frozen=True)
class ModelScore:
    """Another registered model's score as a feature: what a calibrator or a stack learns from.

    `model` is the name it is registered under, which is its project's; `version` a version or an alias, which is
    resolved once, when training begins. A copy of that version goes into the artefact, so that a served model never
    changes with another's champion. `name` is the column's; empty, it is `<model>_score`.

    A model's scores are better on rows it learned from than they will ever be again. Such rows (by the stretches of
    time in its record) are refused, dropped or, by who knows better, allowed.
    """

    model: str
    version: str = "champion"
    name: str = ""
    learned_rows: Literal["refuse", "drop", "allow"] = "refuse"

    @property
    def column(self) -> str:
        """The feature's name."""
        return self.name or f"{self.model}_score"


@dataclass(frozen=True)
class TorchModel:
    """A torch module trained by Ray Train and DeepSpeed.

    `factory` is an import path `module:function`, called as `factory(signature, **hyperparameters)`
    with an `app.models.signature.Signature` (number of numeric columns, sizes of categorical ones).

    Workers are spread over `tensor_parallel × pipeline_stages`; what is left is data parallel. DeepSpeed's
    configuration is derived from these fields (`app/training/deepspeed_config.py`), combinations that cannot work are
    refused with the reason, and `deepspeed` overrides any key of it.
    """

    name: str
    service: FeatureService
    factory: str
    categorical: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 3
    batch_size: int = 1024  # rows per step, all workers together
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    num_workers: int = 2
    min_workers: int | None = None  # goes on with fewer, down to this, while nodes are missing; None: num_workers
    zero_stage: Literal[0, 1, 2, 3] = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    offload: Literal["none", "optimizer", "optimizer_and_parameters"] = "none"  # to the memory of the host
    gradient_accumulation_steps: int = 1  # parts in which a worker computes its share of a batch
    gradient_clipping: float = 1.0  # largest norm of all gradients together; 0: no clipping
    activation_checkpointing: tuple[str, ...] = ()  # submodules, as globs, whose activations are computed twice
    tensor_parallel: int = 1  # workers that share each of the layers below
    # regular expressions of weights → how they are cut: "column" by outputs, "row" by inputs
    tensor_parallel_layers: Mapping[str, Literal["column", "row"]] = field(default_factory=dict)
    pipeline_stages: int = 1  # needs a module with a method `pipeline_layers()`
    deepspeed: Mapping[str, Any] = field(default_factory=dict)  # overrides, merged key by key at every depth
    checkpoint_every_steps: int | None = None  # besides the one after each epoch
    checkpoint_every_s: float | None = 300.0  # a kill loses at most about so much work
    # int8: weights are served in 8 bits; it is this smaller model that is scored, judged by the gates and registered
    quantize: Quantization = "none"
    seed: int = 7
    deadline_s: float = 900.0  # a run that is not done by then fails
    scores: tuple[ModelScore, ...] = ()  # of other models, as further features
    inputs: tuple[str, ...] | None = None  # the features it reads, `scores` among them; None: all there are


@dataclass(frozen=True)
class SklearnModel:
    """A scikit-learn estimator; `factory` is an import path `module:class`."""

    name: str
    service: FeatureService
    factory: str
    categorical: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 7
    scores: tuple[ModelScore, ...] = ()  # of other models, as further features
    inputs: tuple[str, ...] | None = None  # the features it reads, `scores` among them; None: all there are


Model = TorchModel | SklearnModel


@dataclass(frozen=True)
class SearchSpace:
    """What a sweep tries. Values: a tuple of choices, or `(low, high, "uniform"|"loguniform")`.

    Keys are `learning_rate`, `weight_decay`, `batch_size`, `epochs` or names of hyperparameters.
    """

    parameters: Mapping[str, tuple[Any, ...]]
    num_trials: int = 4
    num_folds: int = 2  # time-ordered: each validates on the stretch after its training rows
    epochs: int = 1
    max_rows: int = 50_000  # most recent rows used by a trial
    algorithm: Literal["random", "optuna"] = "random"  # random: the same trials each time
    scheduler: Literal["none", "asha"] = "none"  # asha: trials that fall behind after a fold are stopped
    reduction_factor: float = 2.0  # of asha: one of so many goes on
