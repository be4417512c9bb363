"""Groups of commands that are imported when one of them is called: no command waits for the libraries of the others.

All of them together take some ten seconds of processor time to import; a rollback must not.
"""

from __future__ import annotations

from typing import Any

import typer.core
import typer.main

from app.foundation.import_path import resolve

GROUPS = {
    "features": "app.cli.features:features",
    "predictions": "app.cli.predictions:predictions",
    "rollout": "app.cli.rollout:rollout",
    "tokens": "app.cli.tokens:tokens",
}


class LazyGroup(typer.core.TyperGroup):
    """The root: its own commands, then `GROUPS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help page."""
        return [*super().list_commands(ctx), *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or group of this name; `None` where there is none."""
        if cmd_name not in GROUPS:
            return super().get_command(ctx, cmd_name)
        group = typer.main.get_group(resolve(GROUPS[cmd_name]))
        group.name = cmd_name
        return group
