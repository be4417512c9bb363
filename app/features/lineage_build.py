"""Builds the lineage graph out of what is declared, registered and recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.features.column_lineage import Origin, origins
from app.features.declared import Declared, Key
from app.features.definitions import kept_aggregations, kept_features
from app.features.lineage_graph import Edge, LineageGraph, Node, NodeKind, Role
from app.features.registry_plan import Kept
from app.features.uses import Answering, ModelUse
from app.spec import Project
from app.spec.references import FeatureReference


def build_graph(
    project: Project, declared: Mapping[Key, Declared], kept: Mapping[Key, Kept], uses: Sequence[ModelUse],
    answers: Mapping[str, Answering],
) -> LineageGraph:
    """The graph of a project.

    Active versions are in it (for what is not registered, the declared meaning), and every earlier version that a
    recorded model learned from.
    """
    return _Builder(project, declared, kept).build(uses, answers)


class _Builder:
    def __init__(self, project: Project, declared: Mapping[Key, Declared], kept: Mapping[Key, Kept]) -> None:
        self._project = project
        self._declared = declared
        self._kept = kept
        self._active = _active_versions(declared, kept)
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str, Role], Edge] = {}
        self._entities = {v.name: [e.name for e in v.entities] for v in project.views}

    def build(self, uses: Sequence[ModelUse], answers: Mapping[str, Answering]) -> LineageGraph:
        for source in self._project.sources:
            for field in source.fields:
                self._node("source", source.name, f"{source.name}.{field.name}", dtype=field.dtype, pii=field.pii)
        for (kind, name), (version, definition) in self._active.items():
            if kind == "view":
                self._view(name, version, definition, active=True)
        for (kind, name), (version, definition) in self._active.items():
            if kind == "on_demand_view":
                self._on_demand(name, version, definition)
        for (kind, name), (version, definition) in self._active.items():
            if kind == "service":
                self._service(name, version, definition["features"], active=True)
        for use in uses:
            self._model(use, answers.get(use.version))
        return LineageGraph(self._nodes, tuple(self._edges.values()))

    def _view(self, name: str, version: int, definition: Mapping[str, Any], active: bool) -> None:
        source = definition["source"]
        columns = [column for column, _ in source["fields"]]
        fields = {field: dtype for field, dtype in definition["fields"]}
        found = origins(definition["transform"], [*fields, *definition["join_keys"]], columns)
        windows = kept_aggregations(dict(definition))
        features = {a.name: a.column for a in windows} if windows else {field: field for field in fields}
        types = {f.name: f.dtype for f in kept_features(dict(definition))}
        told = self._facts("view", name)
        for feature, field in features.items():
            id = self._node(
                "view", name, f"{name}@v{version}:{feature}", active, entities=tuple(self._entities.get(name, ())),
                dtype=types[feature], **told.get(field, {}),
            )
            self._from_source(source["name"], found[field], id)
            for key in definition["join_keys"]:
                for column in found[key].columns if found[key].exact else [key] if key in columns else []:
                    self._edge(f"source/{source['name']}.{column}", id, "key")
            for column in {source["event_timestamp"], source["available_timestamp"] or source["event_timestamp"]}:
                self._edge(f"source/{source['name']}.{column}", id, "time")

    def _from_source(self, source: str, origin: Origin, id: str) -> None:
        for column in origin.columns:
            self._edge(f"source/{source}.{column}", id, "value", origin.exact)
        for column in origin.rows:
            self._edge(f"source/{source}.{column}", id, "rows")

    def _on_demand(self, name: str, version: int, definition: Mapping[str, Any]) -> None:
        found = origins(definition["function"], [f for f, _ in definition["fields"]], definition["inputs"])
        told = self._facts("on_demand_view", name)
        for feature, dtype in definition["fields"]:
            id = self._node(
                "on_demand_view", name, f"{name}@v{version}:{feature}", dtype=dtype, **told.get(feature, {})
            )
            for name_of_input in found[feature].columns:
                for provider in self._providers(name_of_input):
                    self._edge(provider, id, "value", found[feature].exact)

    def _providers(self, name: str) -> list[str]:
        """Stored features of that name; without one it comes with the request."""
        stored = [n.id for n in self._nodes.values() if n.kind == "view" and n.id.endswith(f":{name}")]
        return stored or [self._node("request", "request", name)]

    def _service(self, name: str, version: int, features: Iterable[str], active: bool) -> str:
        id = self._node("service", name, f"{name}@v{version}", active)
        for text in features:
            reference = FeatureReference.parse(text)
            pinned = {} if reference.version is None else {reference.view: reference.version}
            part = self._feature(f"{reference.view}:{reference.feature}", pinned)
            if part is not None:
                self._edge(part, id, "part")
        return id

    def _model(self, use: ModelUse, answers: Answering | None) -> None:
        service = self._service_of(use)
        rows = self._node("training_set", use.model, use.training_set)
        self._edge(service, rows, "learned")
        parts = {edge.source for edge in self._edges.values() if edge.target == service}
        for feature in use.features:
            part = self._feature(feature, use.views)
            if part is not None and part not in parts:
                self._edge(part, rows, "learned")
        for field in self._project.cases.request_fields:
            self._edge(self._node("request", "request", field.name, dtype=field.dtype), rows, "learned")
        label = self._project.label
        self._edge(f"source/{label.source.name}.{label.column}", rows, "label")
        model = self._node(
            "model", use.model, use.name, answers=answers, run_id=use.run_id, recorded_at=use.recorded_at.isoformat()
        )
        self._edge(rows, model, "learned")
        log = self._node("predictions", use.model, use.name, table=f"{self._project.name}.predictions")
        self._edge(model, log, "answered")

    def _service_of(self, use: ModelUse) -> str:
        """The service version a model learned from; one that was never registered is told as version 0."""
        version = use.service_version or 0
        id = f"service/{use.service}@v{version}"
        if id not in self._nodes:
            known = self._kept.get(("service", use.service))
            features = [v.definition["features"] for v in known.versions if v.version == version] if known else []
            self._service(use.service, version, features[0] if features else [], active=False)
        return id

    def _feature(self, feature: str, views: Mapping[str, int]) -> str | None:
        """Id of `view:feature`, of the version given or the active one; earlier versions are added when needed."""
        view, _, name = feature.partition(":")
        for kind in ("view", "on_demand_view"):
            known = self._active.get((kind, view))
            version = views.get(view) or (known[0] if known else None)
            id = f"{kind}/{view}@v{version}:{name}"
            if kind == "view" and version is not None and id not in self._nodes:
                kept = self._kept.get(("view", view))
                earlier = next((v for v in kept.versions if v.version == version), None) if kept else None
                if earlier is not None:
                    self._view(view, version, earlier.definition, active=False)
            if id in self._nodes:
                return id
        return None

    def _facts(self, kind: str, name: str) -> Mapping[str, Any]:
        """Meaning and PII mark of fields: as declared, else as registered."""
        key: Any = (kind, name)
        told = self._declared.get(key) or self._kept.get(key)
        return {} if told is None else told.fields

    def _node(self, kind: NodeKind, group: str, name: str, active: bool = True, **detail: Any) -> str:
        id = f"{kind}/{name}"
        if id not in self._nodes or detail:
            self._nodes[id] = Node(id, kind, name, f"{kind}/{group}", active, detail)
        return id

    def _edge(self, source: str, target: str, role: Role, exact: bool = True) -> None:
        """Adds an edge; a column that is no longer declared gets its node by it."""
        if source not in self._nodes:
            kind, _, name = source.partition("/")
            self._node("source" if kind == "source" else "request", name.partition(".")[0], name, active=False)
        self._edges.setdefault((source, target, role), Edge(source, target, role, exact))


def _active_versions(
    declared: Mapping[Key, Declared], kept: Mapping[Key, Kept]
) -> dict[Key, tuple[int, dict[str, Any]]]:
    """The active version of everything registered; what is only declared counts as the version it would become."""
    found: dict[Key, tuple[int, dict[str, Any]]] = {}
    for key, known in kept.items():
        if known.active is not None:
            found[key] = known.active.version, known.active.definition
    for key, wanted in declared.items():
        if key not in found:
            known_versions = kept[key].versions if key in kept else ()
            found[key] = (known_versions[-1].version + 1 if known_versions else 1), wanted.definition
    return found
