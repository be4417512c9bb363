"""Asks a function of the project whether a rollout goes on, and waits for it no longer than its policy says."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from datetime import datetime, timedelta

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


@dataclass(frozen=True)
class _Asked:
    """A question that is out. `step`: which one of the rollout, and since when it is the one."""

    step: tuple[int, datetime]
    answer: Future[object]
    at_s: float


class HookQuestions:
    """Asks hooks in threads of their own: one that hangs holds up no other rollout, nor the end of the process.

    A function that keeps the interpreter's lock (C code that never gives it back) still holds everything up.
    """

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}

    def ask(self, hook: Hook, call: HookCall, step_started_at: datetime) -> HookAnswer:
        """What the project's function says; that it hangs, raises or says something else is no answer yet.

        The first look at a question waits `hook.answer_within_s` for the answer, later ones only look.
        """
        step = (call.step_index, step_started_at)
        asked = self._asked.get(call.rollout_id)
        if asked is None or asked.step != step:
            asked = _Asked(step, _in_thread(hook, call), time.monotonic())
            self._asked[call.rollout_id] = asked
        waited_s = time.monotonic() - asked.at_s
        try:
            error = asked.answer.exception(max(0.0, hook.answer_within_s - waited_s))
        except NotYet:
            return HookAnswer(None, f"{hook.function} has not answered for {time.monotonic() - asked.at_s:.0f} s")
        del self._asked[call.rollout_id]
        if error is not None:
            logger.warning("hook %s of rollout %s raised", hook.name, call.rollout_id, exc_info=error)
            return HookAnswer(None, f"{hook.function} raised {type(error).__name__}; the driver's log says more")
        return _meaning(hook, asked.answer.result())


def _meaning(hook: Hook, said: object) -> HookAnswer:
    if isinstance(said, bool | np.bool_):
        return HookAnswer(bool(said), "go on" if said else "do not go on")
    if said is None:
        return HookAnswer(None, "not yet")
    return HookAnswer(None, f"{hook.function} said {said!r}; expected True, False or None")


def _in_thread(hook: Hook, call: HookCall) -> Future[object]:
    answer: Future[object] = Future()

    def run() -> None:
        try:
            answer.set_result(resolve(hook.function)(call))
        except BaseException as error:  # noqa: BLE001 whatever it is, it is what the function did
            answer.set_exception(error)

    threading.Thread(target=run, name=f"millrace-hook-{hook.name}", daemon=True).start()
    return answer


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
    if hook.timeout <= timedelta(0) or not 0 < hook.answer_within_s < float("inf"):
        raise RolloutError(
            f"hook {hook.name!r} has a timeout of {hook.timeout} and answers within {hook.answer_within_s:g} s; "
            "expected both above 0 and finite.", hook=hook.name,
        )
    resolve(hook.function)
