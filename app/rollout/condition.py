"""Conditions of an analysis, such as `result <= 0.02`. Pure; nothing is evaluated as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from app.errors import RolloutError

_FORM = re.compile(r"\s*result\s*(<=|>=|==|!=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne,
}


def parse_condition(text: str) -> Callable[[float], bool]:
    """A test of the measured number.

    >>> parse_condition("result <= 0.02")(0.01)
    True

    Raises:
        RolloutError: not of the form `result <comparison> <number>`.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise RolloutError(
            f"condition {text!r} cannot be read; expected e.g. 'result <= 0.02'.", condition=text
        )
    compare, bound = _OPERATORS[match[1]], float(match[2])
    return lambda result: compare(result, bound)
