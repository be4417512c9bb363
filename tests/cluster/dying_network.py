"""A network whose worker dies once in the middle of training."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from torch import nn

from app.models.signature import Signature
from app.models.tabular import residual_mlp

LAST_STEP = 20  # in the second epoch of the tests' runs


def dies_once(signature: Signature, marker: str, **hyperparameters: Any) -> nn.Module:
    """`residual_mlp`; the first rank to reach `LAST_STEP` while there is no `marker` makes it and is gone."""
    module = residual_mlp(signature, **hyperparameters)
    steps = itertools.count(1)

    def die(*_: object) -> None:
        if next(steps) >= LAST_STEP and not Path(marker).exists():
            Path(marker).touch()
            os._exit(1)

    if not Path(marker).exists():
        module.register_forward_pre_hook(die)
    return module
