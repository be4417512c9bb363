"""Networks whose workers meet with something in the middle of training."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from app.models.signature import Signature
from app.models.tabular import residual_mlp

LAST_STEP = 20  # in the second epoch of the tests' runs


def dies_once(signature: Signature, marker: str, **hyperparameters: Any) -> nn.Module:
    """`residual_mlp`; the first rank to reach `LAST_STEP` while there is no `marker` makes it and is killed."""

    def die() -> None:
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    return _at_last_step(residual_mlp(signature, **hyperparameters), Path(marker), die)


def fills_the_disk(signature: Signature, marker: str, **hyperparameters: Any) -> nn.Module:
    """`residual_mlp`; at `LAST_STEP` the file `marker` takes all space that is left where it lies."""

    def fill() -> None:
        with Path(marker).open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4_096))
            except OSError:
                return

    return _at_last_step(residual_mlp(signature, **hyperparameters), Path(marker), fill)


def slow(signature: Signature, pause_s: float, **hyperparameters: Any) -> nn.Module:
    """`residual_mlp`, each step of which takes at least so long."""
    module = residual_mlp(signature, **hyperparameters)
    module.register_forward_pre_hook(lambda *_: time.sleep(pause_s))
    return module


def _at_last_step(module: nn.Module, marker: Path, act: Callable[[], None]) -> nn.Module:
    steps = itertools.count(1)

    def once(*_: object) -> None:
        if next(steps) >= LAST_STEP and not marker.exists():
            act()

    if not marker.exists():
        module.register_forward_pre_hook(once)
    return module
