"""Where the pieces of a join run: in Ray's workers, or one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray


class Tasks(Protocol):
    """Starts functions on values that may lie elsewhere. What it hands out are references."""

    def put(self, value: Any) -> Any:
        """A reference to a value."""

    def get(self, references: Sequence[Any]) -> list[Any]:
        """The values; an error of a task that made one is raised."""

    def submit(self, function: Callable[..., Any], *arguments: Any, num_returns: int = 1) -> Any:
        """Starts `function`; references among the arguments arrive as values. Gives a list when `num_returns` > 1."""


class RayTasks:
    """Tasks in Ray's workers, values in its object store."""

    def put(self, value: Any) -> Any:
        return ray.put(value)

    def get(self, references: Sequence[Any]) -> list[Any]:
        found: list[Any] = ray.get(list(references))
        return found

    def submit(self, function: Callable[..., Any], *arguments: Any, num_returns: int = 1) -> Any:
        return ray.remote(function).options(num_returns=num_returns).remote(*arguments)


class InlineTasks:
    """The same in this process: references are the values themselves."""

    def put(self, value: Any) -> Any:
        return value

    def get(self, references: Sequence[Any]) -> list[Any]:
        return list(references)

    def submit(self, function: Callable[..., Any], *arguments: Any, num_returns: int = 1) -> Any:
        found = function(*arguments)
        return list(found) if num_returns > 1 else found
