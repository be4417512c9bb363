"""How a feature is written down: `view:feature`, with an optional version, other join keys and another name.

| reference | meaning |
|---|---|
| `weather:wind` | feature `wind` of view `weather` |
| `weather:*` | all its features |
| `weather@v2:wind` | of its version 2 |
| `weather[airport=origin]:wind` | joined where the view's key `airport` is the rows' column `origin` |
| `origin_weather=weather[airport=origin]:wind` | the same, its column named `origin_weather__wind` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import UnknownNameError

_REFERENCE = re.compile(
    r"(?:(?P<name>\w+)=)?(?P<view>\w+)(?:@v(?P<version>\d+))?"
    r"(?:\[(?P<keys>\w+=\w+(?:,\w+=\w+)*)\])?:(?P<feature>\w+|\*)"
)


@dataclass(frozen=True)
class FeatureReference:
    """One reference, taken apart. `join_key_map`: the rows' column for each of the view's keys that differs."""

    view: str
    feature: str
    version: int | None = None
    join_key_map: tuple[tuple[str, str], ...] = ()
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> FeatureReference:
        """Reads a reference.

        >>> FeatureReference.parse("origin=weather@v2[airport=origin]:wind").join_key_map
        (('airport', 'origin'),)

        Raises:
            UnknownNameError: it is no reference.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise UnknownNameError(
                f"{text!r} is no feature reference; expected 'view:feature', 'view:*', 'view@v2:feature', "
                "'view[key=column]:feature' or 'name=view[key=column]:feature'.", reference=text,
            )
        pairs = tuple(sorted(tuple(pair.split("=", 1)) for pair in (match["keys"] or "").split(",") if pair))
        version = None if match["version"] is None else int(match["version"])
        return cls(match["view"], match["feature"], version, pairs, match["name"])

    def __str__(self) -> str:
        """The text that `parse` reads."""
        keys = ",".join(f"{key}={column}" for key, column in self.join_key_map)
        version = "" if self.version is None else f"@v{self.version}"
        name = "" if self.name is None else f"{self.name}="
        return f"{name}{self.view}{version}{f'[{keys}]' if keys else ''}:{self.feature}"

    @property
    def label(self) -> str:
        """What tells this join of a view from others: its name, else the reference without the feature."""
        if self.name is not None:
            return self.name
        keys = ",".join(f"{key}={column}" for key, column in self.join_key_map)
        version = "" if self.version is None else f"@v{self.version}"
        return f"{self.view}{version}{f'[{keys}]' if keys else ''}"

    def column(self, feature: str, full_feature_names: bool = False) -> str:
        """Name of a feature's column. The features of a join with a name of its own always carry that name.

        >>> FeatureReference.parse("weather@v2[airport=origin]:wind").column("wind", full_feature_names=True)
        'weather_v2_origin__wind'
        """
        if self.name is not None:
            return f"{self.name}__{feature}"
        if not full_feature_names:
            return feature
        version = "" if self.version is None else f"_v{self.version}"
        return f"{self.view}{version}{''.join(f'_{column}' for _, column in self.join_key_map)}__{feature}"


@dataclass(frozen=True)
class ViewAlias:
    """A view under other join keys, made by `FeatureView.with_join_key_map`; gives references for a service.

    >>> ViewAlias("weather", (("airport", "origin"),)).with_name("origin_weather")["wind", "rain"]
    ('origin_weather=weather[airport=origin]:wind', 'origin_weather=weather[airport=origin]:rain')
    """

    view: str
    join_key_map: tuple[tuple[str, str], ...] = ()
    name: str | None = None

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> ViewAlias:
        """The same with the rows' column for each of the view's keys that is called otherwise there."""
        return ViewAlias(self.view, tuple(sorted(join_key_map.items())), self.name)

    def with_name(self, name: str) -> ViewAlias:
        """The same with a name, which its columns carry in front."""
        return ViewAlias(self.view, self.join_key_map, name)

    def __getitem__(self, features: str | tuple[str, ...]) -> tuple[str, ...]:
        names = (features,) if isinstance(features, str) else features
        keys = ",".join(f"{key}={column}" for key, column in self.join_key_map)
        front = f"{'' if self.name is None else f'{self.name}='}{self.view}{f'[{keys}]' if keys else ''}"
        return tuple(f"{front}:{feature}" for feature in names)
