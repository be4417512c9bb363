"""Is the sealed folder fit to serve?"""

from __future__ import annotations

from collections.abc import Iterator

from app.evaluation.gates.verdict import Evaluation, GateResult, ServingMeasure
from app.spec.gates import ServingGate

MAX_SCORE_DIFFERENCE = 1e-6  # a single row and a batch may be added up in another order


def judge_serving(gate: ServingGate, evaluation: Evaluation) -> Iterator[GateResult]:
    """A result for each check, the check standing where others have a slice."""
    found = evaluation.serving
    if found is None:
        yield _result(gate, "loads", None, None, 0.0, "was not tried")
    elif found.problem is not None:
        yield _result(gate, "loads", False, None, 0.0, found.problem)
    else:
        yield _result(gate, "loads", True, found.load_s, 0.0, f"in a fresh process in {found.load_s:.2f} s")
        yield from _checks(gate, found)


def _checks(gate: ServingGate, found: ServingMeasure) -> Iterator[GateResult]:
    problems = "; ".join(found.schema_problems)
    told = problems or "takes the project's inputs, nulls included, and refuses a row that lacks one"
    yield _result(gate, "schema", not problems, float(len(found.schema_problems)), 0.0, told)
    same = found.score_difference <= MAX_SCORE_DIFFERENCE
    yield _result(
        gate, "same scores", same, found.score_difference, MAX_SCORE_DIFFERENCE,
        f"single rows differ from those judged by {found.score_difference:.1e}, ≤ {MAX_SCORE_DIFFERENCE:g} required",
    )
    exported = found.export_difference
    yield _result(
        gate, "exported equals trained", None if exported is None else True, exported, 0.0,
        "the exporter left no note" if exported is None
        else f"outputs differ by {exported:.1e}, within the exporter's tolerance",
    )
    if gate.max_p99_ms is not None:
        yield _result(
            gate, "latency", found.p99_ms <= gate.max_p99_ms, found.p99_ms, gate.max_p99_ms,
            f"a row takes {found.p50_ms:.2f} ms (p50), {found.p99_ms:.2f} ms (p99 of {found.num_rows}), "
            f"p99 ≤ {gate.max_p99_ms:g} ms required",
        )
    if gate.max_memory_bytes is not None:
        took, most = found.memory_bytes / 2**20, gate.max_memory_bytes / 2**20
        yield _result(
            gate, "memory", found.memory_bytes <= gate.max_memory_bytes, float(found.memory_bytes),
            float(gate.max_memory_bytes), f"takes {took:,.0f} MiB, ≤ {most:,.0f} MiB required",
        )


def _result(
    gate: ServingGate, check: str, passed: bool | None, value: float | None, bound: float, told: str
) -> GateResult:
    return GateResult(gate.name, check, passed, value, bound, 0, f"{gate.name} [{check}]: {told}")
