"""Every read and write through the store asks the policy; denials name view, field, action and principal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from app.errors import AccessDeniedError
from app.features.access import hidden_in_log
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_table
from app.features.store import FeatureStore
from app.features.training_set import training_set
from app.features.view_facts import view_facts
from app.pipeline.prepare import ingest_sources
from app.settings import Settings
from app.spec import AccessPolicy, Expectation, Field, Project, Role
from app.spec.policies import AccessAction
from tests.unit.features import shop

LATER = shop.BASE + timedelta(days=30)
ASKED = pd.DataFrame({"sku": [1], "shop": ["a"], "event_timestamp": [shop.BASE + timedelta(days=2, hours=12)]})
CALLS: dict[str, tuple[AccessAction, Callable[[FeatureStore], Any]]] = {
    "apply": ("apply", lambda s: s.apply()),
    "rollback": ("apply", lambda s: s.rollback("price", 1)),
    "delete": ("delete", lambda s: s.delete("spare")),
    "materialize": ("materialize", lambda s: s.materialize(shop.BASE, LATER, ["price"])),
    "materialize_incremental": ("materialize", lambda s: s.materialize_incremental(LATER, ["price"])),
    "load_online": ("materialize", lambda s: s.load_online(LATER, ["price"])),
    "ingest": ("materialize", lambda s: s.ingest()),
    "sweep": ("materialize", lambda s: s.sweep()),
    "compact": ("materialize", lambda s: s.compact()),
    "get_historical_features": ("read", lambda s: s.get_historical_features(ASKED, ["price:price"])),
    "get_online_features": ("read", lambda s: s.get_online_features(["price:price"], [{"sku": 1}])),
    "statistics": ("read", lambda s: s.statistics("price")),
    "quarantine": ("read", lambda s: s.quarantine(view="price")),
    "quarantine of a source": ("read", lambda s: s.quarantine("sales")),
    "facts": ("read", lambda s: view_facts(s, "price")),
    "push": ("push", lambda s: s.push("price", shop.prices_frame().head(1))),
    "push_source": ("push", lambda s: s.push_source("prices", shop.prices_frame().head(1))),
}


def guarded(policy: AccessPolicy, **changes: Any) -> Project:
    spare = dataclasses.replace(shop.PRICE, name="spare", fields=(Field("price", "int64"),))
    views = (shop.TURNOVER, shop.PRICE, shop.LAST_SALE, spare)
    # The on-demand view would find two features called `price`; this shop does without it.
    service = dataclasses.replace(shop.SERVICE, features=("turnover:*", "price:price", "last_sale:sale_id"))
    model = dataclasses.replace(shop.MODEL, service=service)
    told = {"views": views, "on_demand_views": (), "model": model, "baseline": model, **changes}
    return dataclasses.replace(shop.PROJECT, access=policy, **told)


@pytest.fixture
def prepared(settings: Settings) -> Settings:
    """Applied and filled by somebody when nothing was guarded yet."""
    store = FeatureStore(guarded(AccessPolicy()), settings)
    store.apply()
    for view in ("price", "spare"):
        store.push(view, shop.prices_frame())
    return settings


@pytest.mark.parametrize("call", CALLS)
def test_what_no_role_allows_is_denied_and_audited(prepared: Settings, call: str) -> None:
    action, attempt = CALLS[call]
    others: tuple[AccessAction, ...] = tuple(
        a for a in ("apply", "materialize", "read", "read_pii", "push", "delete") if a != action
    )  # type: ignore[assignment]
    changed = dataclasses.replace(shop.PRICE, ttl=None) if call == "apply" else shop.PRICE
    project = guarded(AccessPolicy(roles=(Role("others", ("bob",), others), Role("lead", ("ann",), (action,)))))
    project = dataclasses.replace(project, views=(shop.TURNOVER, changed, shop.LAST_SALE, project.views[3]))
    store = FeatureStore(project, prepared, "bob")
    versions = store.versions("price")
    with pytest.raises(AccessDeniedError, match=rf"'bob' may not .*the right '{action}' here is with role lead"):
        attempt(store)
    assert store.versions("price") == versions
    (denial,) = [entry for entry in store.audit() if entry["what"] == "denied"]
    assert (denial["principal"], denial["action"]) == ("bob", action)


@pytest.mark.parametrize("call", [c for c in CALLS if c not in ("materialize", "materialize_incremental", "ingest")])
def test_what_a_role_allows_is_done(prepared: Settings, call: str) -> None:
    """Backfills and ingests need Ray: they are allowed in tests/cluster."""
    action, attempt = CALLS[call]
    project = guarded(AccessPolicy(roles=(Role("lead", ("ann",), (action,)),)))
    attempt(FeatureStore(project, prepared, "ann"))


def test_a_role_for_one_view_opens_no_other(prepared: Settings) -> None:
    project = guarded(AccessPolicy(roles=(Role("pricing", ("*",), ("read",), views=("price",)),)))
    store = FeatureStore(project, prepared, "bob")
    assert store.get_online_features(["price:price"], [{"sku": 1}], at=ASKED["event_timestamp"][0])
    with pytest.raises(AccessDeniedError, match="'bob' may not read feature view 'turnover'"):
        store.get_online_features(["price:price", "turnover:*"], [{"sku": 1, "shop": "a"}])


def test_personal_fields_need_a_right_of_their_own(prepared: Settings) -> None:
    price = dataclasses.replace(shop.PRICE, fields=(Field("price", "int64", pii=True),))
    project = guarded(AccessPolicy(pii_readers=("ann",)), views=(shop.TURNOVER, price, shop.LAST_SALE))
    store = FeatureStore(project, prepared, "bob")
    denied = r"'bob' may not read personal data of feature view 'price' \(field price\)"
    for read in (
        lambda s: s.get_historical_features(ASKED, ["price:price"]),
        lambda s: s.get_historical_features(ASKED, ["price@v1:price"]),
        lambda s: s.get_online_features(["price:*"], [{"sku": 1}]),
    ):
        with pytest.raises(AccessDeniedError, match=denied):
            read(store)
        read(FeatureStore(project, prepared, "ann"))
    assert [e["fields"] for e in store.audit() if e["what"] == "denied"] == [["price"]] * 3


def test_an_on_demand_feature_is_as_personal_as_what_it_reads(settings: Settings) -> None:
    price = dataclasses.replace(shop.PRICE, fields=(Field("price", "int64", pii=True),))
    project = dataclasses.replace(
        shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE), access=AccessPolicy(pii_readers=("ann",))
    )
    store = FeatureStore(project, settings, "bob")
    store.apply()
    with pytest.raises(AccessDeniedError, match="field price"):
        store.get_online_features(["purchase:purchase"], [{"sku": 1, "quantity": 2}])


def test_windows_over_personal_columns_and_tagged_views_are_personal(prepared: Settings) -> None:
    amount = Field("amount", "float64", pii=True)
    sales = dataclasses.replace(
        shop.SALES, fields=tuple(amount if f.name == "amount" else f for f in shop.SALES.fields)
    )
    turnover = dataclasses.replace(shop.TURNOVER, source=sales)
    last_sale = dataclasses.replace(shop.LAST_SALE, source=sales, tags={"pii": "true"})
    project = guarded(
        AccessPolicy(pii_readers=("ann",)), sources=(sales, shop.PRICES, shop.CASES),
        views=(turnover, shop.PRICE, last_sale),
    )
    store = FeatureStore(project, prepared, "bob")
    with pytest.raises(AccessDeniedError, match="field amount_sum_1d, amount_count_1d"):
        store.get_online_features(["turnover:amount_sum_1d", "turnover:amount_count_1d"], [{"sku": 1, "shop": "a"}])
    with pytest.raises(AccessDeniedError, match="field sale_id"):
        store.get_online_features(["last_sale:sale_id"], [{"shop": "a"}])
    assert store.get_online_features(["price:price"], [{"sku": 1}])


def test_refused_rows_and_the_audit_trail_keep_personal_values_hidden(settings: Settings) -> None:
    shop_name = Field("shop", "string", pii=True)
    sales = dataclasses.replace(
        shop.SALES, fields=tuple(shop_name if f.name == "shop" else f for f in shop.SALES.fields),
        expectations=(Expectation("amount", minimum=0),),
    )
    views = tuple(dataclasses.replace(v, source=sales) if v.source.name == "sales" else v for v in shop.PROJECT.views)
    project = dataclasses.replace(
        shop.PROJECT, sources=(sales, shop.PRICES, shop.CASES), views=views, access=AccessPolicy(pii_readers=("ann",))
    )
    store = FeatureStore(project, settings, "bob")
    store.apply()
    store.push("turnover", shop.sales_frame().head(1).assign(amount=-5.0, shop="Ann's"))
    (row,) = store.quarantine()["row"].to_pylist()
    assert json.loads(row)["shop"] == "[redacted]" and json.loads(row)["amount"] == -5.0
    (row,) = FeatureStore(project, settings, "ann").quarantine()["row"].to_pylist()
    assert json.loads(row)["shop"] == "Ann's"
    assert "Ann's" not in json.dumps(store.audit(), default=str)


def personal_sales(*personal: str) -> Project:
    fields = tuple(dataclasses.replace(f, pii=f.name in personal) for f in shop.SALES.fields)
    sales = dataclasses.replace(shop.SALES, fields=fields)
    views = tuple(dataclasses.replace(v, source=sales) if v.source.name == "sales" else v for v in shop.PROJECT.views)
    return dataclasses.replace(
        shop.PROJECT, sources=(sales, shop.PRICES, shop.CASES), views=views, access=AccessPolicy(pii_readers=("ann",))
    )


def test_refused_rows_are_those_of_views_that_may_be_read(prepared: Settings) -> None:
    everybody = FeatureStore(guarded(AccessPolicy()), prepared)
    everybody.push("turnover", shop.sales_frame().head(1).assign(amount=-5.0))
    assert everybody.quarantine().num_rows == 1
    pricing = Role("pricing", ("bob",), ("read",), views=("price", "spare"))
    sales = Role("sales", ("cleo",), ("read",), views=("turnover", "last_sale"))
    project = guarded(AccessPolicy(roles=(pricing, sales)))
    assert FeatureStore(project, prepared, "bob").quarantine().num_rows == 0
    assert FeatureStore(project, prepared, "cleo").quarantine("sales").num_rows == 1


def test_a_row_key_made_of_personal_values_is_hidden(settings: Settings) -> None:
    project = personal_sales("sale_id")
    checked = tuple(
        dataclasses.replace(v, expectations=(Expectation("sale_id", maximum=10),)) if v.name == "last_sale" else v
        for v in project.views
    )
    store = FeatureStore(dataclasses.replace(project, views=checked), settings, "bob")
    store.apply()
    store.push("last_sale", shop.sales_frame().head(1).assign(sale_id=4711))
    (refused,) = store.quarantine().to_pylist()
    assert (refused["view"], refused["reason"]) == ("last_sale", "sale_id is above 10")
    assert json.loads(refused["row"])["row_key"] == "[redacted]"
    assert "4711" not in json.dumps(refused, default=str)


@pytest.mark.parametrize("text", ["Ann's 4711, no JSON", '["Ann\'s 4711"]', '{"amount": 1, "note": "Ann\'s 4711"}'])
def test_messages_that_are_no_rows_show_nothing_personal(settings: Settings, text: str) -> None:
    project = personal_sales("shop")
    store = FeatureStore(project, settings, "bob")
    row = {"source": "sales", "view": None, "reason": "offset 5: Ann's 4711 is no number", "row": text,
           "created_timestamp": shop.BASE}
    store.lake.ensure_table(quarantine_table("shop"), QUARANTINE_SCHEMA)
    store.lake.append(quarantine_table("shop"), pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA), {})
    (shown,) = store.quarantine().to_pylist()
    assert "4711" not in shown["row"] + shown["reason"]
    (shown,) = FeatureStore(project, settings, "ann").quarantine().to_pylist()
    assert (shown["row"], shown["reason"]) == (text, row["reason"])


def test_an_on_demand_view_s_page_needs_the_right_to_read_it(settings: Settings) -> None:
    roles = (Role("pricing", ("bob",), ("read",), views=("price",)), Role("lead", ("ann",), ("apply",)))
    project = dataclasses.replace(shop.PROJECT, access=AccessPolicy(roles=roles))
    FeatureStore(project, settings, "ann").apply()
    with pytest.raises(AccessDeniedError, match="'bob' may not read feature view 'purchase'"):
        view_facts(FeatureStore(project, settings, "bob"), "purchase")


def test_changes_are_in_the_audit_trail(settings: Settings) -> None:
    store = FeatureStore(shop.PROJECT, settings, "ann")
    store.apply()
    (entry,) = store.audit()
    assert (entry["principal"], entry["what"], entry["revision"]) == ("ann", "changed", 1)
    assert "price: new, version 1" in entry["reason"]


def personal(project: Project, **policy: Any) -> Project:
    """Amounts and quantities are personal."""
    def marked(fields: tuple[Field, ...]) -> tuple[Field, ...]:
        return tuple(dataclasses.replace(f, pii=f.name in ("price", "quantity")) for f in fields)

    cases = dataclasses.replace(
        project.cases, source=dataclasses.replace(project.cases.source, fields=marked(project.cases.source.fields))
    )
    views = tuple(dataclasses.replace(v, fields=marked(v.fields)) for v in project.views)
    return dataclasses.replace(project, cases=cases, views=views, access=AccessPolicy(**policy))


def test_the_prediction_log_hides_personal_inputs_unless_told_otherwise() -> None:
    assert hidden_in_log(shop.PROJECT) == frozenset()
    assert hidden_in_log(personal(shop.PROJECT)) == {"price", "quantity"}
    assert hidden_in_log(personal(shop.PROJECT, log_personal=True)) == frozenset()


@pytest.mark.parametrize(
    ("roles", "project", "denied"),
    [
        ((Role("r", ("ann",), ("read",), views=("turnover", "price", "last_sale", "purchase")),), shop.PROJECT, "read"),
        ((Role("r", ("ann",), ("read",)),), personal(shop.PROJECT), "read_pii"),
    ],
    ids=["only views", "personal"],
)
def test_a_training_set_asks_for_its_cases_and_labels_too(
    settings: Settings, roles: tuple[Role, ...], project: Project, denied: str
) -> None:
    """Roles of single views do not cover the rows of a source that none of them reads."""
    project = dataclasses.replace(project, access=AccessPolicy(roles=roles))
    store = FeatureStore(project, settings, principal="ann")
    with pytest.raises(AccessDeniedError, match=rf"source 'cases'.*the right '{denied}'"):
        training_set(project, store, store.lake, shop.BASE, LATER)
    assert store_audit_names(settings, project) == ["source 'cases'"]


def store_audit_names(settings: Settings, project: Project) -> list[str]:
    everybody = dataclasses.replace(project, access=AccessPolicy())
    return [denial["subject"] for denial in FeatureStore(everybody, settings).audit()]


def test_the_loop_may_ingest_only_what_its_principal_may(settings: Settings) -> None:
    project = dataclasses.replace(shop.PROJECT, access=AccessPolicy(roles=(Role("r", ("ann",), ("read",)),)))
    store = FeatureStore(project, settings, principal="ann")

    class Run:
        def perform(self, _name: str, action: Callable[[], Any]) -> None:
            action()

    session: Any = SimpleNamespace(project=project, store=store, run=Run())
    with pytest.raises(AccessDeniedError, match="materialize"):
        ingest_sources(session)
    assert store.lake.tables("shop") == []
