"""Did the model behave as declared: invariance, direction, golden rows?"""

from __future__ import annotations

from collections.abc import Iterator

from app.evaluation.gates.verdict import Evaluation, GateResult
from app.spec.gates import Direction, GoldenRows, Invariance


def judge_behaviour(gate: Invariance | Direction | GoldenRows, evaluation: Evaluation) -> Iterator[GateResult]:
    """One result: the share of tried rows that broke the rule, and the worst of them in words."""
    most = 0.0 if isinstance(gate, GoldenRows) else gate.max_share
    tried = evaluation.behaviour.get(gate.name)
    if tried is None:
        yield GateResult(gate.name, None, None, None, most, 0, f"{gate.name}: was not tried")
        return
    if tried.problem is not None:
        yield GateResult(gate.name, None, False, None, most, 0, f"{gate.name}: {tried.problem}")
        return
    num_rows, broken = len(tried.excess), int((tried.excess > 0).sum())
    if not num_rows:
        yield GateResult(gate.name, None, False, None, most, 0, f"{gate.name}: no row to try it on")
        return
    share = broken / num_rows
    allowed = f"at most {most:.1%} may" if most else "none may"
    reason = f"{gate.name}: {_rule(gate)}; {broken} of {num_rows} rows broke it, {allowed}"
    if broken:
        reason += f"; worst: {tried.worst}"
    yield GateResult(gate.name, None, share <= most, share, most, num_rows, reason)


def _rule(gate: Invariance | Direction | GoldenRows) -> str:
    if isinstance(gate, Invariance):
        return f"{gate.column} must not move the score by more than {gate.max_change:g}"
    if isinstance(gate, Direction):
        wrong = "lower" if gate.score == "rises" else "raise"
        return f"raising {gate.column} by {gate.by:g} must not {wrong} the score by more than {gate.tolerance:g}"
    return "each golden row must get its score"
