"""What a model takes: legend B = rows, F = numeric inputs, C = categorical inputs."""

from __future__ import annotations

from dataclasses import dataclass

from app.spec.models import Task


@dataclass(frozen=True)
class Signature:
    """Inputs after the transform.

    `num_numeric`: F, columns of the float matrix (values and missing flags). `cardinalities` [C]: number of codes of
    each categorical input, 0 being unknown, rare or null.
    """

    num_numeric: int
    cardinalities: tuple[int, ...]
    task: Task
