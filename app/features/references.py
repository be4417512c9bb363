"""What is asked for: feature references resolved to views, versions and column names. Pure but for the registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from app.errors import FeatureStoreError, UnknownNameError
from app.features.registry import ViewRegistry
from app.spec import Project
from app.spec.features import FeatureService, FeatureView, Field, OnDemandFeatureView
from app.spec.references import FeatureReference


@dataclass(frozen=True)
class ViewRead:
    """Features wanted of one version of one view, joined once. `label`: `FeatureReference.label`.

    `join_key_map`: the rows' column for each of the view's keys that is called otherwise there.
    """

    label: str
    view: FeatureView
    version: int
    features: tuple[Field, ...]
    join_key_map: tuple[tuple[str, str], ...] = ()

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The rows' column for each of the view's join keys."""
        renamed = dict(self.join_key_map)
        return tuple(renamed.get(key, key) for key in self.view.join_keys)


@dataclass(frozen=True)
class ReadPlan:
    """Everything one read does.

    `joined`: views to join, those that only on-demand views need included. `on_demand`: computed after the joins.
    `outputs`: `(label, feature)` of each result column with its name, in the order asked.
    """

    joined: tuple[ViewRead, ...]
    on_demand: tuple[OnDemandFeatureView, ...]
    outputs: tuple[tuple[tuple[str, str], str], ...]
    on_demand_inputs: dict[str, dict[str, tuple[str, str] | None]] = field(default_factory=dict)


def plan_read(
    project: Project, registry: ViewRegistry, features: Sequence[str] | FeatureService, given: Collection[str],
    full_feature_names: bool = False, pinned_views: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> ReadPlan:
    """Resolves references.

    Args:
        project: the project.
        registry: its registered versions.
        features: references as `app.spec.references` explains, or a service.
        given: columns that come with the question (keys, request fields, the moment).
        full_feature_names: name results `view__feature`.
        pinned_views: of an earlier manifest, whose `version` of a view counts where a reference names none.

    Raises:
        UnknownNameError: a view, version or feature that does not exist.
        FeatureStoreError: two results of one name, or an input of an on-demand view that nothing provides.
    """
    asked: list[tuple[tuple[str, str], str]] = []
    reads: dict[str, ViewRead] = {}
    on_demand: dict[str, OnDemandFeatureView] = {}
    written = features.features if isinstance(features, FeatureService) else features
    for reference in map(FeatureReference.parse, written):
        label, view = reference.label, _view(project, reference.view)
        if isinstance(view, OnDemandFeatureView):
            if reference.join_key_map or reference.version is not None:
                raise FeatureStoreError(
                    f"{reference.view!r} is an on-demand view: it has neither versions nor join keys.", view=view.name
                )
            on_demand[label] = view
            fields = view.fields
        else:
            read = _read(registry, reference, pinned_views)
            if reads.setdefault(label, read) != read:
                raise FeatureStoreError(
                    f"{label!r} names two different joins. Give each a name of its own.", reference=label
                )
            fields = read.view.feature_fields
        asked += [
            ((label, f.name), reference.column(f.name, full_feature_names))
            for f in _select(fields, reference.feature, label)
        ]
    asked = list(dict.fromkeys(asked))
    needed = [pair for pair, _ in asked if pair[0] in reads]
    inputs: dict[str, dict[str, tuple[str, str] | None]] = {}
    for label, view in on_demand.items():
        inputs[label] = {
            name: None if name in given else _provider(project, registry, name, view, reads, pinned_views)
            for name in view.inputs
        }
        needed += [pair for pair in inputs[label].values() if pair is not None]
    return ReadPlan(
        joined=tuple(_reads(reads, needed)),
        on_demand=tuple(on_demand.values()),
        outputs=_named(asked, given),
        on_demand_inputs=inputs,
    )


def _read(
    registry: ViewRegistry, reference: FeatureReference, pinned_views: Mapping[str, Mapping[str, Any]]
) -> ViewRead:
    pinned = pinned_views.get(reference.label, {}).get("version")
    view, version = registry.view(reference.view, pinned if reference.version is None else reference.version)
    unknown = [key for key, _ in reference.join_key_map if key not in view.join_keys]
    if unknown:
        raise UnknownNameError(
            f"feature view {view.name!r} has no join key {', '.join(map(repr, unknown))}; it has: "
            f"{', '.join(view.join_keys) or 'none'}.", view=view.name, keys=unknown,
        )
    return ViewRead(reference.label, view, version, (), reference.join_key_map)


def _view(project: Project, name: str) -> FeatureView | OnDemandFeatureView:
    known: dict[str, FeatureView | OnDemandFeatureView] = {v.name: v for v in project.views}
    known.update({v.name: v for v in project.on_demand_views})
    if name not in known:
        raise UnknownNameError(
            f"project {project.name!r} has no feature view {name!r}; it has: {', '.join(known) or 'none'}.", view=name
        )
    return known[name]


def _select(fields: Sequence[Field], feature: str, label: str) -> list[Field]:
    found = [f for f in fields if feature in ("*", f.name)]
    if not found:
        raise UnknownNameError(
            f"feature view {label!r} has no feature {feature!r}; it has: {', '.join(f.name for f in fields)}.",
            view=label, feature=feature,
        )
    return found


def _provider(
    project: Project, registry: ViewRegistry, name: str, wanted_by: OnDemandFeatureView,
    reads: dict[str, ViewRead], pinned_views: Mapping[str, Mapping[str, Any]],
) -> tuple[str, str]:
    """The joined feature that an on-demand view means by `name`: one of the views asked for, else of any view."""
    providers = [label for label, read in reads.items() if name in {f.name for f in read.view.feature_fields}]
    if not providers:
        providers = [v.name for v in project.views if name in {f.name for f in v.feature_fields}]
    if len(providers) != 1:
        several = f"several views have one: {', '.join(providers)}"
        found = several if providers else "no view has a feature of that name"
        raise FeatureStoreError(
            f"on-demand view {wanted_by.name!r} needs {name!r}; it did not come with the request and {found}. Send it, "
            "or give the feature a name of its own.", view=wanted_by.name, input=name,
        )
    if providers[0] not in reads:
        reads[providers[0]] = _read(registry, FeatureReference(providers[0], name), pinned_views)
    return providers[0], name


def _reads(reads: dict[str, ViewRead], needed: Sequence[tuple[str, str]]) -> list[ViewRead]:
    result = []
    for label, read in reads.items():
        names = {feature for of, feature in needed if of == label}
        fields = tuple(f for f in read.view.feature_fields if f.name in names)
        if fields:
            result.append(replace(read, features=fields))
    return result


def _named(
    asked: Sequence[tuple[tuple[str, str], str]], given: Collection[str]
) -> tuple[tuple[tuple[str, str], str], ...]:
    names: dict[str, str] = {}
    for (label, feature), name in asked:
        if name in names or name in given:
            other = f"feature view {names[name]!r}" if name in names else "the rows that were given"
            raise FeatureStoreError(
                f"{label}:{feature} would be a second column {name!r}; {other} has one too. Ask with "
                "full_feature_names=True, or leave one out.", feature=name,
            )
        names[name] = label
    return tuple(asked)
