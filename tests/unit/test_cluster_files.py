"""The files in cluster/ are what Ray and KubeRay accept."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from app.assembly.ray_environment import GUARDED, ray_environment
from app.serving.haproxy import WRAPPER
from app.settings import load_settings

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


def test_every_container_has_what_ray_must_be_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # where a container of the image has its temporary files
    resource = yaml.safe_load((CLUSTER / "raycluster.yaml").read_text())["spec"]
    groups = [resource["headGroupSpec"], *resource["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        given = {v["name"]: v["value"] for v in container["env"] if "value" in v}
        settings = load_settings({"MILLRACE_HOME": given["MILLRACE_HOME"]}, in_job=False)
        expected = {**in_image(ray_environment(settings)), **GUARDED, "MILLRACE_HOME": str(settings.home)}
        assert {name: given.get(name) for name in expected} == expected
        unknown = given.keys() - expected.keys() - {"MILLRACE_HTTP_HOST"}
        assert not unknown, "set here and nowhere else"


def in_image(variables: dict[str, str]) -> dict[str, str]:
    """The same with this checkout's paths as the image of the Dockerfile has them."""
    image = (CLUSTER / "Dockerfile").read_text()
    workdir = re.findall(r"^WORKDIR (\S+)$", image, flags=re.MULTILINE)[0]
    version = re.findall(r"^FROM python:(\d+\.\d+)", image, flags=re.MULTILINE)[0]
    packages = Path(ray.__file__).parents[1]
    return {
        **variables,
        "MILLRACE_PYTHON": "/usr/local/bin/python",
        "RAY_SERVE_HAPROXY_BINARY_PATH": f"{workdir}/{WRAPPER.relative_to(ROOT)}",
        "MILLRACE_HAPROXY_BINARY": (
            f"/usr/local/lib/python{version}/site-packages/"
            f"{Path(variables['MILLRACE_HAPROXY_BINARY']).relative_to(packages)}"
        ),
    }


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
