"""The feature store's documentation: a page for each view and an index, self-contained HTML."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jinja2 import Environment

from app.console.lineage_svg import lineage_svg
from app.errors import AccessDeniedError
from app.features.store import FeatureStore
from app.features.view_facts import ViewFacts, view_facts
from app.foundation.templates import template_environment

PAGE, INDEX = "feature_page.html.j2", "feature_index.html.j2"


def write_feature_pages(
    store: FeatureStore, folder: Path, note: Callable[[str], None] | None = None, now: datetime | None = None
) -> Path:
    """Writes `index.html` and `NAME.html` for each view the principal may read; gives the index.

    Args:
        store: an open store.
        folder: it is made when it is missing; pages of views that are no longer declared stay.
        note: called with each view's name when its page is written.
        now: the moment that freshness is told at (default: now).
    """
    folder.mkdir(parents=True, exist_ok=True)
    moment = now or datetime.now(UTC)
    pages: list[ViewFacts] = []
    for view in store.project.all_views:
        try:
            facts = view_facts(store, view.name)
        except AccessDeniedError:
            continue  # the denial is in the audit trail; the index lists what may be read
        pages.append(facts)
        _write(folder / f"{view.name}.html", render_page(store.project.name, facts, moment))
        if note is not None:
            note(view.name)
    index = folder / "index.html"
    _write(index, render_index(store, pages, moment))
    return index


def render_page(project: str, facts: ViewFacts, now: datetime) -> str:
    """One view's page as text."""
    lineage = facts.lineage
    svg = "" if lineage is None else lineage_svg(lineage, f"{facts.kind}/{facts.name}")
    return _environment().get_template(PAGE).render(project=project, view=facts, lineage_svg=svg, now=now)


def render_index(store: FeatureStore, pages: list[ViewFacts], now: datetime) -> str:
    """The index as text."""
    return _environment().get_template(INDEX).render(
        project=store.project, pages=pages, entities=store.project.entities, services=store.project.all_services,
        plan=store.plan(), history=store.history()[::-1], now=now,
    )


def age(span: timedelta | None) -> str:
    """A length of time in words for a reader.

    >>> age(timedelta(hours=30)), age(timedelta(seconds=20)), age(None)
    ('30 hours', '20 seconds', '–')
    """
    if span is None:
        return "–"
    seconds = max(0, round(span.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _moment(value: datetime | str | None) -> str:
    if value is None:
        return "–"
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{moment:%Y-%m-%d %H:%M}"


def _environment() -> Environment:
    return template_environment(Path(__file__).parent, age=age, number=_number, moment=_moment)


def _write(path: Path, page: str) -> None:
    """A reader never sees half of a page."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)
