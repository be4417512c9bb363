"""`Project`: a whole use case as one value, and the checks that make its errors readable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.errors import ProjectError, UnknownNameError
from app.spec.features import Aggregation, Entity, FeatureService, FeatureView, OnDemandFeatureView, Source, SqlQuery
from app.spec.gates import AnyGate, check_gates
from app.spec.model_check import check_model
from app.spec.models import Cases, Label, Model, SearchSpace, SklearnModel
from app.spec.policies import AccessPolicy, DriftPolicy, RetrainPolicy, RolloutPolicy, Timeline
from app.spec.references import FeatureReference
from app.spec.serving import ServingPolicy


@dataclass(frozen=True)
class Project:
    """Everything Millrace needs to know about a use case.

    Raises:
        ProjectError: on construction, when names repeat or refer to nothing.
    """

    name: str
    sources: tuple[Source, ...]
    views: tuple[FeatureView, ...]
    cases: Cases
    label: Label
    model: Model
    baseline: SklearnModel
    timeline: Timeline
    on_demand_views: tuple[OnDemandFeatureView, ...] = ()
    search: SearchSpace | None = None
    gates: tuple[AnyGate, ...] = ()
    rollout: RolloutPolicy = RolloutPolicy()
    drift: DriftPolicy = DriftPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    access: AccessPolicy = AccessPolicy()
    serving: ServingPolicy = ServingPolicy()
    services: tuple[FeatureService, ...] = ()  # further ones, beside those of the models
    description: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        _check_unique("source", (s.name for s in self.sources))
        _check_unique("feature view", [v.name for v in self.all_views])
        _check_sources(self)
        for view in self.views:
            _check_view(view)
        _check_same_entities(self.views)
        _check_unique("feature service", [s.name for s in self.all_services])
        for service in self.all_services:
            self.expand(service)
        sent = {f.name for f in self.cases.request_fields}
        for model in (self.model, self.baseline):
            check_model(model, self.name, sent | {name for _, name in self.expand(model.service)})
        _check_gates(self)
        _check_access(self)

    @property
    def all_views(self) -> tuple[FeatureView | OnDemandFeatureView, ...]:
        """Stored and on-demand views, in the order they were declared."""
        return (*self.views, *self.on_demand_views)

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Every entity of the views, each once."""
        return tuple({e.name: e for v in self.views for e in v.entities}.values())

    @property
    def all_services(self) -> tuple[FeatureService, ...]:
        """The services of the models and the further ones, each once."""
        return tuple(dict.fromkeys([self.model.service, self.baseline.service, *self.services]))

    @property
    def service(self) -> FeatureService:
        """The features of the project's model."""
        return self.model.service

    def view(self, name: str) -> FeatureView | OnDemandFeatureView:
        """Finds a view by name.

        Raises:
            ProjectError: there is none; the message lists those there are.
        """
        for view in self.all_views:
            if view.name == name:
                return view
        known = ", ".join(v.name for v in self.all_views) or "none"
        raise ProjectError(f"project {self.name!r} has no feature view {name!r}; it has: {known}.", view=name)

    def references(self, service: FeatureService) -> tuple[FeatureReference, ...]:
        """The service's features, wildcards resolved, each once.

        Raises:
            ProjectError: a reference that cannot be read or names nothing.
        """
        found: list[FeatureReference] = []
        for text in service.features:
            try:
                reference = FeatureReference.parse(text)
            except UnknownNameError as error:
                raise ProjectError(f"feature service {service.name!r}: {error.message}", feature=text) from error
            found.extend(replace(reference, feature=name) for name in _features(self, reference))
        return tuple(dict.fromkeys(found))

    def expand(self, service: FeatureService) -> tuple[tuple[str, str], ...]:
        """The service's features as `(view, column)` pairs, wildcards resolved.

        Raises:
            ProjectError: a reference that cannot be read or names nothing.
        """
        return tuple(dict.fromkeys((r.view, r.column(r.feature)) for r in self.references(service)))


def _features(project: Project, reference: FeatureReference) -> list[str]:
    view_name, feature = reference.view, reference.feature
    view = project.view(view_name)
    keys = () if isinstance(view, OnDemandFeatureView) else view.join_keys
    unknown = [key for key, _ in reference.join_key_map if key not in keys]
    if unknown:
        raise ProjectError(
            f"feature view {view_name!r} has no join key {', '.join(map(repr, unknown))}; it has: "
            f"{', '.join(keys) or 'none'}.", view=view_name,
        )
    fields = view.fields if isinstance(view, OnDemandFeatureView) else view.feature_fields
    names = [f.name for f in fields]
    if feature == "*":
        return names
    if feature not in names:
        raise ProjectError(
            f"feature view {view_name!r} has no feature {feature!r}; it has: {', '.join(names)}.",
            view=view_name,
            feature=feature,
        )
    return [feature]


def _check_unique(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name.isidentifier():
            raise ProjectError(f"{kind} name {name!r} must be letters, digits and underscores.", name=name)
        if name in seen:
            raise ProjectError(f"{kind} {name!r} is declared twice; names must differ.", name=name)
        seen.add(name)


def _check_same_entities(views: Iterable[FeatureView]) -> None:
    seen: dict[str, Entity] = {}
    for entity in (e for view in views for e in view.entities):
        first = seen.setdefault(entity.name, entity)
        if first != entity:
            raise ProjectError(
                f"entity {entity.name!r} is declared twice and differently (join keys {first.join_keys} and "
                f"{entity.join_keys}); names must differ.",
                name=entity.name,
            )


def _check_gates(project: Project) -> None:
    _check_unique("gate", (g.name for g in project.gates))
    sent = {f.name for f in project.cases.request_fields}
    inputs = frozenset(sent | {name for _, name in project.expand(project.service)})
    columns = frozenset({project.cases.key, project.cases.prediction_timestamp})
    check_gates(project.gates, project.label.task, inputs, columns)


def _check_access(project: Project) -> None:
    known = {"*", *(v.name for v in project.all_views)}
    for role in project.access.roles:
        for name in role.views:
            if name not in known:
                raise ProjectError(
                    f"role {role.name!r} covers feature view {name!r}, which the project has not; it has: "
                    f"{', '.join(v.name for v in project.all_views)}. Name one of them, or '*'.",
                    role=role.name,
                    view=name,
                )


def _check_sources(project: Project) -> None:
    known = {s.name for s in project.sources}
    used = {
        **{f"feature view {v.name!r}": v.source for v in project.views},
        "cases": project.cases.source,
        "label": project.label.source,
    }
    for user, source in used.items():
        if source.name not in known:
            raise ProjectError(
                f"{user} reads source {source.name!r}, which is not in the project's sources "
                f"({', '.join(sorted(known))}). Add it to Project(sources=…).",
                source=source.name,
            )
    for source in project.sources:
        columns = {f.name for f in source.fields}
        needed = [source.event_timestamp, *source.key]
        if source.available_timestamp:
            needed.append(source.available_timestamp)
        if isinstance(source.reader, SqlQuery) and source.reader.cursor is not None:
            needed.append(source.reader.cursor)
        for column in [*needed, *(e.column for e in source.expectations)]:
            if column not in columns:
                raise ProjectError(
                    f"source {source.name!r} refers to column {column!r}, which is not among its "
                    f"fields ({', '.join(sorted(columns))}).",
                    source=source.name,
                    column=column,
                )


def _check_view(view: FeatureView) -> None:
    fields = {f.name for f in view.fields}
    for expectation in view.expectations:
        if expectation.column not in {*fields, *view.join_keys}:
            raise ProjectError(
                f"feature view {view.name!r} expects something of {expectation.column!r}, which is not among its "
                f"fields ({', '.join(sorted(fields))}).",
                view=view.name, column=expectation.column,
            )
    for aggregation in view.aggregations:
        if aggregation.column not in fields:
            raise ProjectError(
                f"feature view {view.name!r} aggregates {aggregation.column!r}, which is not among "
                f"its fields ({', '.join(sorted(fields))}).",
                view=view.name,
            )
        _check_function(view, aggregation)
        tiles = aggregation.window / aggregation.hop
        if tiles > 100 or aggregation.window % aggregation.hop:
            raise ProjectError(
                f"aggregation {aggregation.name!r} of view {view.name!r}: window / hop is {tiles:g}; "
                "expected a whole number, at most 100. Choose a larger hop.",
                view=view.name,
            )


def _check_function(view: FeatureView, aggregation: Aggregation) -> None:
    """A quantile says which; sketches and counts aside, a column must be a number."""
    where = f"aggregation of {aggregation.column!r} in view {view.name!r}"
    if (aggregation.function == "quantile") != (aggregation.quantile is not None):
        raise ProjectError(
            f"{where}: function {aggregation.function!r} with quantile={aggregation.quantile}; give a quantile with "
            "the function 'quantile' and with no other.", view=view.name,
        )
    if aggregation.quantile is not None and not 0 <= aggregation.quantile <= 1:
        raise ProjectError(f"{where}: quantile={aggregation.quantile}; expected 0 to 1.", view=view.name)
    dtype = next(f.dtype for f in view.fields if f.name == aggregation.column)
    takes_any = aggregation.function == "distinct_count" and not dtype.startswith("list<")
    if not takes_any and dtype not in ("int64", "float64", "bool"):
        raise ProjectError(
            f"{where}: {aggregation.function!r} of a {dtype} column; expected int64, float64 or bool. Of other single "
            "values only 'distinct_count' can be taken.", view=view.name,
        )
