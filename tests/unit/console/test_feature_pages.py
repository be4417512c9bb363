"""Pages of views: all that is known is on them, nothing can become markup, they need no other file."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.console.feature_pages import write_feature_pages
from app.features.store import FeatureStore
from app.features.uses import record_model_use
from app.foundation.state import StateDatabase
from app.settings import Settings
from app.spec import AccessPolicy, Field, Project, Role
from tests.unit.features import shop

NOW = datetime(2013, 1, 14, tzinfo=UTC)
NASTY = "<script>alert(1)</script>"


def told(**changes: object) -> Project:
    price = dataclasses.replace(
        shop.PRICE, description="What an article costs.", owner="pricing team", tags={"tier": "1"},
        fields=(Field("price", "int64", "Price in cents."),), **changes,  # type: ignore[arg-type]
    )
    return dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE))


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """Two versions of `price`, the second with rows, and a model that learned from the first."""
    FeatureStore(told(), settings, "ann").apply()
    manifest = {"views": {"price": {"version": 1}}, "features": ["price:price"], "row_hash": "5d0c"}
    record_model_use(StateDatabase.open(settings.state_url), shop.PROJECT, "shop", "3", manifest, "run-1")
    later = FeatureStore(told(ttl=timedelta(days=3)), settings, "ann")
    later.apply()
    later.push("price", shop.prices_frame())
    later.load_online(NOW, ["price"])
    return later


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Where the pages go."""
    return tmp_path / "pages"


class Balance(HTMLParser):
    """Elements opened and not closed, and addresses that lead off the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed where it is opened."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_tells_all_that_is_known_of_a_view(store: FeatureStore, pages: Path) -> None:
    write_feature_pages(store, pages, now=NOW)
    page = (pages / "price.html").read_text()
    for said in (
        "What an article costs.", "pricing team", "tier: 1", "Price in cents.", "v2", "active version",
        "2 days → 3 days", "shop@3", "buying", "purchase", "source columns", "prices.price", "48", "2 days",
        "2013-01-12 00:00", "online until 2013-01-14 00:00", "18.8%", "ann",
    ):  # fmt: skip
        assert said in page, said
    assert "amount ≥ 0 (source sales)" in (pages / "turnover.html").read_text()
    assert "sum of amount over 1 day, hop 1 hour" in (pages / "turnover.html").read_text()
    assert "def total(frame" in (pages / "purchase.html").read_text()


def test_pages_are_whole_and_lead_only_to_each_other(store: FeatureStore, pages: Path) -> None:
    index = write_feature_pages(store, pages, now=NOW)
    names = {p.name for p in pages.iterdir()}
    assert index.name in names and names == {f"{v.name}.html" for v in store.project.all_views} | {"index.html"}
    for path in pages.iterdir():
        page = Balance(path.read_text())
        assert page.open == [] and set(page.addresses) <= names


def test_the_index_lists_views_services_entities_and_changes(store: FeatureStore, pages: Path) -> None:
    page = write_feature_pages(store, pages, now=NOW).read_text()
    assert all(f'href="{v.name}.html"' in page for v in store.project.all_views)
    assert "price: new version, version 2 (ttl_us changed)" in page
    assert "Not applied yet" not in page


def test_every_edge_of_the_lineage_is_drawn_between_boxes(store: FeatureStore, pages: Path) -> None:
    write_feature_pages(store, pages, now=NOW)
    page = (pages / "price.html").read_text()
    graph = store.lineage("view/price")
    boxes, edges = re.findall(r'<g class="box', page), re.findall(r'<path class="edge', page)
    assert len(boxes) == len(graph.nodes) > 5
    assert len(edges) == len({(e.source, e.target) for e in graph.edges}) > 5
    assert page.count("own earlier") == 1, "version 1, from which the model learned"


def test_text_of_the_project_cannot_become_markup(settings: Settings, pages: Path) -> None:
    price = dataclasses.replace(
        shop.PRICE, description=NASTY, owner=NASTY, tags={NASTY: NASTY}, fields=(Field("price", "int64", NASTY),)
    )
    project = dataclasses.replace(
        shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE), description=NASTY
    )
    store = FeatureStore(project, settings, NASTY)
    store.apply()
    write_feature_pages(store, pages)
    for path in pages.iterdir():
        assert NASTY not in path.read_text()


def test_views_that_may_not_be_read_have_no_page(store: FeatureStore, settings: Settings, pages: Path) -> None:
    policy = AccessPolicy(roles=(Role("sales", ("bob",), ("read",), views=("turnover", "purchase")),))
    guarded = FeatureStore(dataclasses.replace(store.project, access=policy), settings, "bob")
    page = write_feature_pages(guarded, pages).read_text()
    assert {p.stem for p in pages.iterdir()} == {"index", "turnover", "purchase"}
    assert "price.html" not in page


def test_personal_values_are_not_shown(settings: Settings, pages: Path) -> None:
    price = dataclasses.replace(shop.PRICE, fields=(Field("price", "int64", pii=True),))
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE))
    store = FeatureStore(project, settings)
    store.apply()
    store.push("price", shop.prices_frame())
    write_feature_pages(store, pages)
    page = (pages / "price.html").read_text()
    assert "personal data" in page and "411" not in page, "the highest price"


def test_what_was_never_applied_says_what_to_do(settings: Settings, pages: Path) -> None:
    page = write_feature_pages(FeatureStore(shop.PROJECT, settings), pages).read_text()
    assert "price: new, version 1" in page and "Nothing was ever applied" in page
    assert "millrace features apply" in (pages / "price.html").read_text()
