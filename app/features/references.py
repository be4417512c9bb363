"""What is asked for: feature references resolved to views, versions and column names. Pure but for the registry."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from app.errors import FeatureStoreError, UnknownNameError
from app.features.registry import ViewRegistry
from app.spec import Project
from app.spec.features import FeatureService, FeatureView, Field, OnDemandFeatureView

_REFERENCE = re.compile(r"(?P<view>\w+)(?:@v(?P<version>\d+))?:(?P<feature>\w+|\*)")


@dataclass(frozen=True)
class ViewRead:
    """Features wanted of one version of one view. `label` is the view as it was written (`view` or `view@v2`)."""

    label: str
    view: FeatureView
    version: int
    features: tuple[Field, ...]


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
    full_feature_names: bool = False,
) -> ReadPlan:
    """Resolves references.

    Args:
        project: the project.
        registry: its registered versions.
        features: `"view:feature"`, `"view:*"`, `"view@v2:feature"`, or a service.
        given: columns that come with the question (keys, request fields, the moment).
        full_feature_names: name results `view__feature`.

    Raises:
        UnknownNameError: a view, version or feature that does not exist.
        FeatureStoreError: two results of one name, or an input of an on-demand view that nothing provides.
    """
    asked: list[tuple[str, str]] = []
    reads: dict[str, tuple[FeatureView, int]] = {}
    on_demand: dict[str, OnDemandFeatureView] = {}
    written = features.features if isinstance(features, FeatureService) else features
    for reference in written:
        label, name, version, feature = _parse(reference)
        view = _view(project, name)
        if isinstance(view, OnDemandFeatureView):
            on_demand[label] = view
            asked += [(label, f.name) for f in _select(view.fields, feature, label)]
        else:
            reads[label] = registry.view(name, version)
            asked += [(label, f.name) for f in _select(reads[label][0].feature_fields, feature, label)]
    asked = list(dict.fromkeys(asked))
    needed = [pair for pair in asked if pair[0] in reads]
    inputs: dict[str, dict[str, tuple[str, str] | None]] = {}
    for label, view in on_demand.items():
        inputs[label] = {
            name: None if name in given else _provider(project, registry, name, view, reads) for name in view.inputs
        }
        needed += [pair for pair in inputs[label].values() if pair is not None]
    return ReadPlan(
        joined=tuple(_reads(reads, needed)),
        on_demand=tuple(on_demand.values()),
        outputs=_named(asked, full_feature_names, given),
        on_demand_inputs=inputs,
    )


def _parse(reference: str) -> tuple[str, str, int | None, str]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UnknownNameError(
            f"{reference!r} is no feature reference; expected 'view:feature', 'view:*' or 'view@v2:feature'.",
            reference=reference,
        )
    version = None if match["version"] is None else int(match["version"])
    return reference.split(":")[0], match["view"], version, match["feature"]


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
    reads: dict[str, tuple[FeatureView, int]],
) -> tuple[str, str]:
    """The joined feature that an on-demand view means by `name`: one of the views asked for, else of any view."""
    providers = [label for label, (view, _) in reads.items() if name in {f.name for f in view.feature_fields}]
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
        reads[providers[0]] = registry.view(providers[0])
    return providers[0], name


def _reads(reads: dict[str, tuple[FeatureView, int]], needed: Sequence[tuple[str, str]]) -> list[ViewRead]:
    result = []
    for label, (view, version) in reads.items():
        names = {feature for of, feature in needed if of == label}
        fields = tuple(f for f in view.feature_fields if f.name in names)
        if fields:
            result.append(ViewRead(label, view, version, fields))
    return result


def _named(
    asked: Sequence[tuple[str, str]], full_feature_names: bool, given: Collection[str]
) -> tuple[tuple[tuple[str, str], str], ...]:
    names: dict[str, str] = {}
    outputs = []
    for label, feature in asked:
        name = f"{label.replace('@', '_')}__{feature}" if full_feature_names else feature
        if name in names or name in given:
            other = f"feature view {names[name]!r}" if name in names else "the rows that were given"
            raise FeatureStoreError(
                f"{label}:{feature} would be a second column {name!r}; {other} has one too. Ask with "
                "full_feature_names=True, or leave one out.", feature=name,
            )
        names[name] = label
        outputs.append(((label, feature), name))
    return tuple(outputs)
