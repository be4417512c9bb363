"""Whether a version may be rolled out: somebody registered it."""

from __future__ import annotations

from app.errors import UnknownNameError
from app.settings import Settings

SHOWN_VERSIONS = 10


def require_registered(settings: Settings, model: str, version: str) -> None:
    """Refuses a version that nobody registered.

    One whose files are on this host needs no look: what the registry's library takes to import, a way back would wait.

    Raises:
        UnknownNameError: there is no such version; it names those there are.
        StoreUnavailableError: the registry does not answer.
    """
    if version.isalnum() and (settings.artefacts / model / version).exists():
        return
    from app.models.registry import ModelRegistry

    known = ModelRegistry(settings).versions(model)
    if version in known:
        return
    newest = ", ".join(known[-SHOWN_VERSIONS:][::-1])
    raise UnknownNameError(
        f"version is {version!r}; expected a registered version of model {model!r}: "
        + (f"{newest}{', …' if len(known) > SHOWN_VERSIONS else ''}." if known else "none is registered yet. ")
        + ("" if known else "The jobs `train` and `loop` register those that pass their gates."),
        field="version", model=model, version=version,
    )
