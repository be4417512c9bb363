"""`millrace features …` on a small project: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import app
from app.errors import AccessDeniedError, DataError, FeatureStoreError, MillraceError, UnknownNameError
from app.features.store import FeatureStore
from app.settings import Settings
from tests.unit.features import shop

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `millrace features ARGUMENTS` on the shop."""
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    monkeypatch.setenv("MILLRACE_PRINCIPAL", "ann")
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, project: str = "shop:PROJECT") -> Result:
        return CliRunner().invoke(app, ["features", *arguments, "--project", f"tests.unit.features.{project}"])

    return invoke


@pytest.fixture
def filled(run: Run, settings: Settings, tmp_path: Path) -> Run:
    """Applied, with prices pushed from a file."""
    assert run("apply").exit_code == 0
    shop.prices_frame().to_parquet(tmp_path / "prices.parquet")
    pushed = run("push", "price", str(tmp_path / "prices.parquet"))
    assert "48 rows taken, 0 refused" in pushed.output, pushed.output
    return run


def test_plan_then_apply_then_nothing(run: Run) -> None:
    assert "price: new, version 1" in run("plan").output
    assert "feature service buying: new, version 1" in run("apply").output
    assert run("plan").output.strip() == "nothing to apply"
    assert json.loads(run("plan", "--json").output) == {"changes": [], "held": {}, "revision": 1}


def test_definitions_are_listed_and_described(filled: Run) -> None:
    listed = json.loads(filled("list", "--json").output)
    assert [d["kind"] for d in listed] == ["entity", "entity", "view", "view", "view", "on_demand_view", "service"]
    assert "turnover" in filled("list").output
    described = filled("describe", "price").output
    assert "article" not in described and "sku" in described and "feature service buying" in described
    assert json.loads(filled("describe", "price", "--json").output)["used_by"] == [
        "on-demand view purchase", "feature service buying"
    ]
    assert [v["version"] for v in json.loads(filled("versions", "price", "--json").output)] == [1]


def test_versions_are_compared_and_rolled_back(filled: Run) -> None:
    assert "price: new version, version 2 (ttl_us changed)" in filled("apply", project="shop_later:PROJECT").output
    assert "ttl: 2 days → 3 days" in filled("diff", "price", "1", "2").output
    assert json.loads(filled("diff", "price", "1", "2", "--json").output)[0]["part"] == "ttl"
    back = filled("rollback", "price", "1")
    assert "price: version 2 → 1" in back.output
    held = filled("plan", project="shop_later:PROJECT").output
    assert "price: stays at version 1, to which it was rolled back" in held


def test_lineage_and_impact_are_shown(filled: Run) -> None:
    shown = filled("lineage", "price:price").output
    assert "source/prices.price" in shown and "service/buying@v1" in shown
    assert {e["role"] for e in json.loads(filled("lineage", "price", "--json").output)["edges"]} >= {"value", "part"}
    assert json.loads(filled("impact", "source/prices.price", "--json").output)["services"] == ["buying"]


def test_features_are_read_for_training_and_for_serving(filled: Run, tmp_path: Path) -> None:
    spine = pd.DataFrame({"sku": [1, 2], "event_timestamp": ["2013-01-12T12:00:00Z", "2013-01-12T12:00:00Z"]})
    spine.to_csv(tmp_path / "spine.csv", index=False)
    out = tmp_path / "set.parquet"
    done = filled("get-historical", str(tmp_path / "spine.csv"), "--feature", "price:price", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert pq.read_table(out)["price"].to_pylist() == [111, 211]
    assert json.loads((tmp_path / "set.manifest.json").read_text())["rows"] == 2
    served = filled("get-online", '{"sku": 1}', "--feature", "price:price", "--at", "2013-01-12T12:00:00", "--json")
    assert json.loads(served.output) == [{"sku": 1, "price": 111}]


def test_the_online_store_is_loaded(filled: Run) -> None:
    assert "price: 4 rows" in filled("load-online", "2013-01-12", "--view", "price").output


def test_deleting_asks_first_and_audit_tells(filled: Run, settings: Settings) -> None:
    asked = filled("delete", "last_sale")
    assert asked.exit_code == 1 and "Delete last_sale" in asked.output
    refused = filled("delete", "last_sale", "--yes")
    assert isinstance(refused.exception, FeatureStoreError)
    assert "in use by feature service buying" in refused.exception.message
    assert FeatureStore(shop.PROJECT, settings).versions("last_sale")[0]["active"]
    (entry,) = json.loads(filled("audit", "--json").output)
    assert entry["principal"] == "ann"


def test_pages_are_written(filled: Run, tmp_path: Path) -> None:
    assert filled("docs", "--out", str(tmp_path / "pages")).exit_code == 0
    assert {p.name for p in (tmp_path / "pages").iterdir()} == {
        "index.html", "turnover.html", "price.html", "last_sale.html", "purchase.html"
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("describe", "prize"), UnknownNameError, "'prize'"),
        (("describe", "price", "--kind", "table"), UnknownNameError, "--kind is 'table'"),
        (("versions", "prize"), UnknownNameError, "'prize'"),
        (("rollback", "price", "9"), UnknownNameError, "has no version 9"),
        (("push", "price", "nowhere.parquet"), DataError, "there is no file nowhere.parquet"),
        (("push", "price", "rows.xls"), DataError, "none of .parquet"),
        (("push", "price", "nowhere.csv", "--to", "moon"), UnknownNameError, "--to is 'moon'"),
        (("get-online", "sku=1"), DataError, "is not JSON"),
        (("get-online", "[1]"), DataError, "no JSON object"),
        (("get-online", "{}", "--service", "selling"), UnknownNameError, "has no service 'selling'; it has: buying"),
        (("get-online", "{}", "--service", "buying", "--feature", "price:price"), UnknownNameError, "not both"),
    ],
)
def test_what_cannot_be_done_is_one_error(
    filled: Run, arguments: tuple[str, ...], error: type[MillraceError], message: str
) -> None:
    failed = filled(*arguments)
    assert isinstance(failed.exception, error), failed.output
    assert message in failed.exception.message


def test_a_file_that_is_not_what_its_name_says_is_named(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("sku,price\n1,2\n")
    failed = filled("push", "price", str(tmp_path / "rows.parquet"))
    assert isinstance(failed.exception, DataError) and "cannot be read as parquet" in failed.exception.message


def test_the_principal_of_the_settings_is_asked_about(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PRINCIPAL", "bob")
    denied = filled("get-online", '{"sku": 1}', "--feature", "price:price", project="shop_later:GUARDED")
    assert isinstance(denied.exception, AccessDeniedError)
    monkeypatch.setenv("MILLRACE_PRINCIPAL", "ann")
    assert filled("get-online", '{"sku": 1}', "--feature", "price:price", project="shop_later:GUARDED").exit_code == 0


def test_maintenance_says_how_many_files_there_were_and_are(filled: Run, tmp_path: Path) -> None:
    for _ in range(3):
        filled("push", "price", str(tmp_path / "prices.parquet"))
    said = filled("maintain").output
    assert "shop.raw_prices: 4 files before, 1 after; 192 rows rewritten" in said, said
    assert "shop.raw_prices: 1 files before, 1 after; 0 rows rewritten" in filled("maintain").output
