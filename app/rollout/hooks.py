"""Asks a function of the project whether a rollout goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from app.errors import RolloutError
from app.foundation.import_path import resolve
from app.rollout.decide import Observation
from app.spec.policies import Hook, HookCall

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HookAnswer:
    """`goes_on`: what the function said, `None` for not yet; `reason`: that in words."""

    goes_on: bool | None
    reason: str


def ask_hook(hook: Hook, call: HookCall) -> HookAnswer:
    """What the project's function says; that it raised, or said something else, is no answer yet."""
    try:
        said = resolve(hook.function)(call)
    except Exception as error:
        logger.warning("hook %s of rollout %s raised", hook.name, call.rollout_id, exc_info=True)
        return HookAnswer(None, f"{hook.function} raised {type(error).__name__}; the driver's log says more")
    if isinstance(said, bool | np.bool_):
        return HookAnswer(bool(said), "go on" if said else "do not go on")
    if said is None:
        return HookAnswer(None, "not yet")
    return HookAnswer(None, f"{hook.function} said {said!r}; expected True, False or None")


def decide_hook(goes_on: bool | None, waited: timedelta, timeout: timedelta) -> Observation:
    """What the controller makes of an answer.

    >>> decide_hook(None, timedelta(minutes=61), timedelta(hours=1)).value
    'analysis cannot be measured'
    """
    if goes_on is None:
        return Observation.ANALYSIS_ERROR if waited > timeout else Observation.WAITING
    return Observation.STEP_DONE if goes_on else Observation.ANALYSIS_FAILED


def check_hook(hook: Hook) -> None:
    """Raises: RolloutError: no time to answer; ProjectError: the function cannot be imported."""
    if hook.timeout <= timedelta(0):
        raise RolloutError(
            f"hook {hook.name!r} has a timeout of {hook.timeout}; expected one above 0.", hook=hook.name
        )
    resolve(hook.function)
