"""How every command is told which project it is about."""

from __future__ import annotations

from typing import Annotated

import typer

ProjectOption = Annotated[str, typer.Option("--project", metavar="MODULE:NAME", help="where the project is")]
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output")]
FLIGHTS = "app.project:PROJECT"
