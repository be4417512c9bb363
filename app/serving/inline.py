"""Whether a model's answer is computed on the event loop or handed to a thread. Pure.

Handing a call over costs some 100 µs, more than a small network takes; a slow one on the loop would hold all others up.
"""

from __future__ import annotations

INLINE_ROWS = 16
INLINE_MODEL_S = 0.001
QUICKER, SLOWER = 0.3, 0.02  # weight of a new time below or above the usual one


def decide_inline(has_features: bool, num_rows: int, model_s: float) -> bool:
    """Whether a request is answered on the event loop.

    Args:
        has_features: nothing must be looked up.
        num_rows: rows of the request.
        model_s: usual time of the model for a request; infinite while it is not known.

    >>> decide_inline(True, 1, 0.0001), decide_inline(False, 1, 0.0001), decide_inline(True, 1, 0.2)
    (True, False, False)
    """
    return has_features and num_rows <= INLINE_ROWS and model_s <= INLINE_MODEL_S


def usual_s(before_s: float, now_s: float) -> float:
    """The usual time of a model after one more call took `now_s`.

    It falls fast and rises slowly: a busy machine makes single calls slow, and that says nothing of the model.

    >>> usual_s(float("inf"), 0.5), usual_s(1.0, 0.0), usual_s(1.0, 2.0)
    (0.5, 0.7, 1.02)
    """
    if before_s == float("inf"):
        return now_s
    return before_s + (QUICKER if now_s < before_s else SLOWER) * (now_s - before_s)
