"""Makes a registered version servable on this host."""

from __future__ import annotations

from app.models.artefact import ServableModel
from app.settings import Settings


def load_version(settings: Settings, model: str, version: str) -> ServableModel:
    """The version from this host's folder of artefacts, fetched from the registry when it is not there.

    Raises:
        ModelError: the artefact is damaged.
        UnknownNameError: there is no such version.
    """
    folder = settings.artefacts / model / version
    if not folder.exists():
        # MLflow takes seconds and much memory to import; a replica whose host has the version does without.
        from app.models.registry import ModelRegistry

        folder = ModelRegistry(settings).folder(model, version)
    return ServableModel.load(folder)
