"""Keeps the registry's alias `champion` in step with the traffic, whoever moved that."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from app.errors import UnknownNameError
from app.models.registry import ModelRegistry

logger = logging.getLogger(__name__)


class ChampionAlias:
    """One model's alias. It is moved in a thread of its own: a registry that is away holds up no rollout.

    Its library tries a request for minutes; `follow` gives up nothing and waits for nothing.
    """

    def __init__(self, registry: ModelRegistry, model: str) -> None:
        self._registry, self._model = registry, model
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="millrace-champion-alias")
        self._moving: tuple[str, Future[None]] | None = None
        self._at: str | None = None  # version it was last pointed at from here

    def follow(self, champion: str) -> None:
        """Called at each look; begins to move the alias where it stands elsewhere and nothing moves it yet."""
        if self._moving is not None and self._moving[1].done():
            version, moved = self._moving
            self._moving = None
            failure = moved.exception()
            if failure is None or isinstance(failure, UnknownNameError):
                self._at = version
            if failure is not None:
                logger.warning(
                    "the registry's champion of %s could not be pointed at version %s, which answers: %r",
                    self._model, version, failure,
                )
        if self._moving is None and champion != self._at:
            moving = self._worker.submit(self._registry.set_alias, self._model, "champion", champion)
            self._moving = (champion, moving)
