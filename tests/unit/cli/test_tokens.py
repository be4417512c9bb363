"""`millrace tokens`: shown once, listed without the secret, revoked."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.foundation.access.tokens import digest_of
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    return CliRunner()


def test_a_token_is_made_listed_and_revoked(run: CliRunner, settings: Settings) -> None:
    made = run.invoke(app, ["tokens", "create", "shop", "--scope", "predict", "--scope", "features:read:team=a"])
    assert made.exit_code == 0, made.output
    token = made.stdout.strip().splitlines()[-1]
    assert token.startswith("mr_")
    listed = run.invoke(app, ["tokens", "list", "--json"])
    (record,) = json.loads(listed.stdout)
    assert (record["principal"], record["state"]) == ("shop", "active")
    assert record["scopes"] == ["features:read:team=a", "predict"]
    with StateDatabase.open(settings.state_url).session() as session:
        (row,) = session.query(m.AccessToken).all()
        assert row.digest == digest_of(token)
        kept = str([vars(row), *(vars(d) for d in session.query(m.Decision).all())])
    assert token not in kept + listed.stdout
    assert run.invoke(app, ["tokens", "revoke", record["token_id"]]).exit_code == 0
    assert json.loads(run.invoke(app, ["tokens", "list", "--json"]).stdout)[0]["state"] == "revoked"


@pytest.mark.parametrize(
    "arguments",
    [["--scope", "everything"], ["--scope", "features:read:"], ["--scope", "predict", "--days", "0"],
     ["--scope", "predict", "--rate", "-1"]],
)
def test_what_makes_no_sense_is_refused(run: CliRunner, arguments: list[str]) -> None:
    refused = run.invoke(app, ["tokens", "create", "shop", *arguments])
    assert refused.exit_code != 0
