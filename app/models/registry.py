"""Model versions in MLflow: what each was made from, who is champion, and a local copy of its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from app.errors import StoreUnavailableError, UnknownNameError
from app.models.artefact import MANIFEST, ServableModel
from app.models.logged_model import SIGNATURE_FILE, write_signature
from app.settings import Settings

ARTIFACT_PATH = "model"
SEAL = "seal_sha256"  # tag
MAX_TAG_CHARACTERS = 5_000
MAX_PARAM_CHARACTERS = 6_000
MAX_METRICS = 1_000  # in one call
RECORD = "record.json"
TRAINING_RUN = "millrace.run_id"  # tag of the run that a training reports its epochs to
TRAINING_RUN_TAG = "training_run"


@dataclass(frozen=True)
class LoggedRun:
    """What is kept of a run beside its model.

    `record`: all that is needed to make it again. `epochs`: its learning curve, each with `epoch`. `attachments`: texts
    by file name, such as the report. `sample`: rows whose types make the signature.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, float]] = ()
    attachments: Mapping[str, str] = field(default_factory=dict)
    sample: pd.DataFrame | None = None


def seal_of(folder: Path) -> str:
    """Hash of the manifest, which holds the hashes of all files."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


class ModelRegistry:
    """Versions of models by name. Each version is one MLflow run with the artefact folder attached."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None

    def register(self, name: str, folder: Path, logged: LoggedRun) -> str:
        """Records `folder` as the next version of `name` and gives the version.

        Repeating a registration that was cut off gives the version there is: one per model, run_id and content.
        """
        client = self._connected()
        sealed = {**logged.tags, SEAL: seal_of(folder)}
        found = client.search_model_versions(f"name = '{name}' AND tag.{SEAL} = '{sealed[SEAL]}'")
        same = [v.version for v in found if v.tags.get("run_id") == logged.tags.get("run_id")]
        if same:
            return str(same[0])
        run_id = self.log(name, folder, logged)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT_PATH}"
        tags = {k: v[:MAX_TAG_CHARACTERS] for k, v in sealed.items()}
        return str(client.create_model_version(name, source, run_id, tags=tags).version)

    def log(self, name: str, folder: Path, logged: LoggedRun) -> str:
        """Keeps a run with its model, its record and its report, whether or not it becomes a version.

        Gives MLflow's id of the run, the same again when it was kept before.
        """
        client = self._connected()
        experiment_id = self._experiment(name)
        seal = seal_of(folder)
        known = client.search_runs(
            [experiment_id], f"tags.{SEAL} = '{seal}' AND attributes.status = 'FINISHED'", max_results=100
        )
        for run in known:
            if run.data.tags.get("run_id") == logged.tags.get("run_id"):
                return str(run.info.run_id)
        run_id = str(client.create_run(experiment_id, run_name=logged.tags.get("purpose")).info.run_id)
        now_ms = time.time_ns() // 1_000_000
        steps = [Metric(k, float(v), now_ms, int(at["epoch"])) for at in logged.epochs for k, v in at.items()]
        client.log_batch(
            run_id,
            metrics=[*(Metric(k, float(v), now_ms, 0) for k, v in logged.metrics.items()), *steps][:MAX_METRICS],
            params=[Param(k, str(v)[:MAX_PARAM_CHARACTERS]) for k, v in logged.params.items()],
            tags=[RunTag(k, v[:MAX_TAG_CHARACTERS]) for k, v in {**logged.tags, SEAL: seal}.items()],
        )
        client.log_artifacts(run_id, str(folder), ARTIFACT_PATH)
        with tempfile.TemporaryDirectory() as scratch:
            attachments = {**logged.attachments, RECORD: json.dumps(dict(logged.record), indent=1, default=str)}
            for file, text in attachments.items():
                (Path(scratch) / file).write_text(text)
                client.log_artifact(run_id, str(Path(scratch) / file))
            if logged.sample is not None:
                signature = Path(scratch) / ARTIFACT_PATH / SIGNATURE_FILE
                signature.parent.mkdir()
                write_signature(signature, ServableModel.load(folder), logged.sample, run_id)
                client.log_artifact(run_id, str(signature), ARTIFACT_PATH)
        client.set_terminated(run_id)
        return run_id

    def record(self, name: str, reference: str) -> dict[str, Any]:
        """What a run was made from, with its model's files as `folder`.

        Args:
            name: the model, the project's name.
            reference: a version, MLflow's id of the run, or the training run's own id.

        Raises:
            UnknownNameError: there is no such run, or it has no record.
        """
        run_id = self._run_of(name, reference)
        target = self._settings.home / "records" / run_id
        target.mkdir(parents=True, exist_ok=True)
        try:
            path = self._connected().download_artifacts(run_id, RECORD, str(target))
            folder = self._connected().download_artifacts(run_id, ARTIFACT_PATH, str(target))
        except (MlflowException, OSError) as error:
            raise UnknownNameError(
                f"run {reference!r} of model {name!r} has no {RECORD}, so it cannot be told what it was made from.",
                run=reference,
            ) from error
        return {**json.loads(Path(path).read_text()), "folder": folder, "mlflow_run_id": run_id}

    def training_epochs(self, training_run: str) -> list[dict[str, float]]:
        """What a training run reported of each epoch: `epoch`, `loss` and more; empty where it reported nothing."""
        client = self._connected()
        experiments = [e.experiment_id for e in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`{TRAINING_RUN}` = '{training_run}'", max_results=1)
        by_epoch: dict[int, dict[str, float]] = {}
        for name in found[0].data.metrics if found else ():
            for metric in client.get_metric_history(found[0].info.run_id, name):
                by_epoch.setdefault(metric.step, {"epoch": float(metric.step)})[name] = metric.value
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def _run_of(self, name: str, reference: str) -> str:
        client = self._connected()
        with contextlib.suppress(MlflowException):
            return str(client.get_model_version(name, reference).run_id)
        experiment = client.get_experiment_by_name(name)
        tagged = f"tags.{TRAINING_RUN_TAG} = '{reference}'"
        places = [] if experiment is None else [experiment.experiment_id]
        for wanted in (tagged, f"attributes.run_id = '{reference}'") if places else ():
            with contextlib.suppress(MlflowException):
                if found := client.search_runs(places, wanted, max_results=1):
                    return str(found[0].info.run_id)
        raise UnknownNameError(
            f"model {name!r} has no version and no run {reference!r}. Give a version such as 1, or the id of a run "
            "that was kept (mlflow ui lists them).",
            run=reference,
        )

    def _experiment(self, name: str) -> str:
        client = self._connected()
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = (self._settings.home / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=place))

    def folder(self, name: str, version: str) -> Path:
        """The version's files on this host, fetched once and moved into place whole.

        Raises:
            UnknownNameError: no such version.
        """
        if not version.isalnum():  # "" and "." would be folders too
            raise UnknownNameError(f"model {name!r} has no version {version!r}.", model=name, version=version)
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
        """Points `champion` or `challenger` at a version.

        Raises:
            UnknownNameError: no such version.
        """
        try:
            self._connected().set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise UnknownNameError(
                f"the registry has no version {version!r} of model {name!r}.", model=name, version=version
            ) from error

    def alias(self, name: str, alias: str) -> str | None:
        """The version an alias points at."""
        try:
            return str(self._connected().get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def versions(self, name: str) -> list[str]:
        """All versions of a model, oldest first; empty where nothing was registered under that name.

        Raises:
            StoreUnavailableError: the registry does not answer.
        """
        try:
            found = self._connected().search_model_versions(f"name = '{name}'")
        except MlflowException as error:
            raise StoreUnavailableError(
                f"the model registry does not answer ({error.error_code}), so the versions of {name!r} are not known. "
                "Check that its server runs and can be reached, or set MILLRACE_MLFLOW_URL.",
                store="model registry",
            ) from error
        return sorted((str(v.version) for v in found), key=lambda version: (len(version), version))

    def tags(self, name: str, version: str) -> dict[str, str]:
        """Tags of a version."""
        return dict(self._connected().get_model_version(name, version).tags)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = MlflowClient(tracking_uri=self._settings.mlflow_url)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings, "_client": None}
