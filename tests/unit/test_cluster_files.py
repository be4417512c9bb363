"""The files in cluster/ are what Ray and KubeRay accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
CRDS = ROOT.parent / "shared" / "crds"


def test_laptop_cluster_is_valid_against_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((CLUSTER / "laptop.yaml").read_text()), schema)


@pytest.mark.parametrize(
    ("file", "crd"), [("raycluster.yaml", "ray.io_rayclusters.yaml"), ("rayjob.yaml", "ray.io_rayjobs.yaml")]
)
def test_kuberay_resource_is_valid_and_names_only_known_fields(file: str, crd: str) -> None:
    if not (CRDS / crd).exists():
        pytest.skip(f"the custom resource definition {crd} is not beside this checkout (../shared/crds)")
    resource = yaml.safe_load((CLUSTER / file).read_text())
    definition = yaml.safe_load((CRDS / crd).read_text())
    (schema,) = [
        v["schema"]["openAPIV3Schema"]
        for v in definition["spec"]["versions"]
        if v["name"] == resource["apiVersion"].split("/")[1]
    ]
    jsonschema.validate(resource, closed(schema))


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as `kubectl apply --validate=strict` does."""
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        is_metadata = not schema["properties"]
        if not is_metadata and not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        result["items"] = closed(schema["items"])
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result
