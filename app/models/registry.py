"""Model versions in MLflow: what each was made from, who is champion, and a local copy of its files."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from app.errors import UnknownNameError
from app.models.artefact import MANIFEST
from app.settings import Settings

ARTIFACT_PATH = "model"
SEAL = "seal_sha256"  # tag: hash of the manifest, which holds the hashes of all files
MAX_TAG_CHARACTERS = 5_000
MAX_PARAM_CHARACTERS = 6_000


class ModelRegistry:
    """Versions of models by name. Each version is one MLflow run with the artefact folder attached."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None

    def register(
        self,
        name: str,
        folder: Path,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> str:
        """Records `folder` as the next version of `name` and gives the version.

        Repeating a registration that was cut off gives the version there is: one per model, run_id and content.

        Args:
            name: model name, the project's.
            folder: a sealed artefact; it is copied.
            params: configuration it was trained with.
            metrics: what it scored.
            tags: short facts to find it by.
            provenance: everything needed to make it again, kept as `provenance.json` beside the model.
        """
        client = self._connected()
        tags = {**tags, SEAL: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}
        if (known := self._registered(name, tags)) is not None:
            return known
        experiment = client.get_experiment_by_name(name)
        experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else client.create_experiment(name, artifact_location=(self._settings.home / "mlartifacts" / name).as_uri())
        )
        run = client.create_run(experiment_id, run_name=tags.get("purpose"))
        now_ms = time.time_ns() // 1_000_000
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(k, float(v), now_ms, 0) for k, v in metrics.items()],
            params=[Param(k, str(v)[:MAX_PARAM_CHARACTERS]) for k, v in params.items()],
            tags=[RunTag(k, v[:MAX_TAG_CHARACTERS]) for k, v in tags.items()],
        )
        client.log_artifacts(run.info.run_id, str(folder), ARTIFACT_PATH)
        with tempfile.TemporaryDirectory() as scratch:
            record = Path(scratch) / "provenance.json"
            record.write_text(json.dumps(dict(provenance), indent=1, default=str))
            client.log_artifact(run.info.run_id, str(record))
        client.set_terminated(run.info.run_id)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{run.info.artifact_uri}/{ARTIFACT_PATH}"
        version = client.create_model_version(name, source, run.info.run_id, tags=dict(tags))
        return str(version.version)

    def _registered(self, name: str, tags: Mapping[str, str]) -> str | None:
        found = self._connected().search_model_versions(f"name = '{name}' AND tag.{SEAL} = '{tags[SEAL]}'")
        same = [v.version for v in found if v.tags.get("run_id") == tags.get("run_id")]
        return str(same[0]) if same else None

    def folder(self, name: str, version: str) -> Path:
        """The version's files on this host, fetched once and moved into place whole.

        Raises:
            UnknownNameError: no such version.
        """
        target = self._settings.artefacts / name / version
        if target.exists():
            return target
        try:
            found = self._connected().get_model_version(name, version)
        except MlflowException as error:
            raise UnknownNameError(
                f"model {name!r} has no version {version!r}.", model=name, version=version
            ) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fetched = Path(self._connected().download_artifacts(str(found.run_id), ARTIFACT_PATH, scratch))
            try:
                fetched.rename(target)
            except OSError:
                if not target.exists():
                    raise
                # else another process of this host was first with the same files
        return target

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points `champion` or `challenger` at a version."""
        self._connected().set_registered_model_alias(name, alias, version)

    def alias(self, name: str, alias: str) -> str | None:
        """The version an alias points at."""
        try:
            return str(self._connected().get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def tags(self, name: str, version: str) -> dict[str, str]:
        """Tags of a version."""
        return dict(self._connected().get_model_version(name, version).tags)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = MlflowClient(tracking_uri=self._settings.mlflow_url)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings, "_client": None}
