"""What a model takes: legend B = rows, F = numeric inputs, C = categorical inputs."""

from __future__ import annotations

from dataclasses import dataclass

from app.models.transform import Transform
from app.spec.models import Task


@dataclass(frozen=True)
class Signature:
    """Inputs after the transform.

    `num_numeric`: F, columns of the float matrix (values and missing flags). `cardinalities` [C]: number of codes of
    each categorical input, 0 being unknown, rare or null. For each of the first `len(edges)` numeric inputs, which are
    values: `bounds`, low and high, between which nearly all training rows lay, and `edges`, rising, of bins with about
    equally many of them.
    """

    num_numeric: int
    cardinalities: tuple[int, ...]
    task: Task
    bounds: tuple[tuple[float, ...], ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, transform: Transform, task: Task) -> Signature:
        """What a model of `task` takes of this transform."""
        return cls(transform.num_numeric, transform.cardinalities, task, transform.bounds, transform.edges)
