"""`millrace tokens`: makes, lists and revokes the bearer tokens of the HTTP interface."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.project_option import JsonOption
from app.foundation.access import TokenRecord, TokenRegistry
from app.foundation.state import StateDatabase
from app.settings import load_settings

tokens = typer.Typer(no_args_is_help=True, help="bearer tokens of the HTTP interface")


@tokens.command()
def create(
    principal: Annotated[str, typer.Argument(help="who will use it, as access policies name them")],
    scope: Annotated[
        list[str], typer.Option(help="predict, labels, features:read:<tag>, features:push:<tag>, rollout or admin")
    ],
    days: Annotated[float, typer.Option(help="how long it is valid")] = 90.0,
    rate: Annotated[float | None, typer.Option(help="requests a second that each replica takes from it")] = None,
) -> None:
    """Makes a token and shows it, once: only its hash is kept."""
    text, record = _registry().create(principal, scope, load_settings().principal, timedelta(days=days), rate)
    typer.echo(f"token {record.grant.token_id} for {principal}, until {record.grant.expires_at:%Y-%m-%d %H:%M} UTC. "
               "It is shown this once:", err=True)
    typer.echo(text)


@tokens.command(name="list")
def list_tokens(as_json: JsonOption = False) -> None:
    """Shows every token there was: whose, what for, until when; never the token."""
    records, now = _registry().list(), datetime.now(UTC)
    if as_json:
        typer.echo(json.dumps([_described(record, now) for record in records], indent=1))
        return
    table = Table("id", "principal", "state", "scopes", "until", "made by")
    for record in records:
        grant = record.grant
        table.add_row(grant.token_id, grant.principal, record.state(now), ", ".join(sorted(grant.scopes)),
                      f"{grant.expires_at:%Y-%m-%d %H:%M}", record.created_by)
    Console().print(table)


@tokens.command()
def revoke(token_id: Annotated[str, typer.Argument(help="the id that `millrace tokens list` shows")]) -> None:
    """Ends a token; replicas refuse it within a second."""
    record = _registry().revoke(token_id, load_settings().principal)
    typer.echo(f"token {token_id} of {record.grant.principal} is revoked")


def _registry() -> TokenRegistry:
    return TokenRegistry(StateDatabase.open(load_settings().state_url))


def _described(record: TokenRecord, now: datetime) -> dict[str, object]:
    grant = record.grant
    return {
        "token_id": grant.token_id, "principal": grant.principal, "state": record.state(now),
        "scopes": sorted(grant.scopes), "rate_per_s": grant.rate_per_s, "expires_at": grant.expires_at.isoformat(),
        "created_at": record.created_at.isoformat(), "created_by": record.created_by,
    }
