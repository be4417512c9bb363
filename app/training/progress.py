"""What a run reports: one line of JSON for each report, read by whoever waits for the run.

The callback runs in Ray Train's controller and appends to `progress.jsonl` in the run's folder, our own record: Ray's
is in memory and gone with it. The driver passes each finished epoch on to the terminal and to MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train import Checkpoint, UserCallback

from app.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "progress.jsonl"
RUN_ID_TAG = "millrace.run_id"


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch. Shares are of the epoch's time; rows are of all workers together."""

    epoch: int
    epochs: int
    loss: float
    rows_per_s: float
    data_wait_share: float
    checkpoint_stall_s: float
    workers: int

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch} of {self.epochs}: loss {self.loss:.4f}, {self.rows_per_s:,.0f} rows/s, "
            f"{self.data_wait_share:.1%} waiting for data"
        )


class RunRecord(UserCallback):
    """Appends each report of a run to its file."""

    def __init__(self, run_folder: Path) -> None:
        self._file = run_folder / FILE

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Rank 0's figures; the longest wait and stall of any rank."""
        line = dict(metrics[0])
        for name in ("data_wait_s", "data_wait_share", "checkpoint_stall_s"):
            line[name] = max(rank[name] for rank in metrics)
        with self._file.open("a") as written:
            written.write(json.dumps({**line, "at": time.time()}) + "\n")


class ProgressReader:
    """Passes on what is new in a run's file."""

    def __init__(self, run_folder: Path, epochs: int, listen: Callable[[EpochReport], None]) -> None:
        self._file, self._epochs, self._listen = run_folder / FILE, epochs, listen
        self._read = 0
        self.checkpoints = 0  # reports seen: each came with a checkpoint

    def catch_up(self) -> None:
        """Reads the lines that were added since."""
        if not self._file.exists():
            return
        with self._file.open() as lines:
            lines.seek(self._read)
            while (line := lines.readline()).endswith("\n"):
                self._read = lines.tell()
                self.checkpoints += 1
                told = json.loads(line)
                if told["epoch_ended"]:
                    names = ("epoch", "loss", "rows_per_s", "data_wait_share", "checkpoint_stall_s", "workers")
                    self._listen(EpochReport(epochs=self._epochs, **{name: told[name] for name in names}))


class MlflowRun:
    """The MLflow run of a training run, found again by its run id after a restart.

    It connects when there is something to log: a new database takes seconds, in which workers can start.
    """

    def __init__(self, settings: Settings, experiment: str, run_id: str, params: dict[str, Any]) -> None:
        self._url, self._experiment, self._run_id, self._params = settings.mlflow_url, experiment, run_id, params
        self._connection: tuple[MlflowClient, str] | None = None
        self._logged: set[int] = set()

    def log(self, report: EpochReport) -> None:
        """Keeps the epoch's figures, once."""
        client, run = self._connected()
        if report.epoch in self._logged:
            return
        self._logged.add(report.epoch)
        for name in ("loss", "rows_per_s", "data_wait_share", "checkpoint_stall_s", "workers"):
            client.log_metric(run, name, float(getattr(report, name)), step=report.epoch)

    def end(self, *, failed: bool) -> None:
        """Closes the run; one that failed before its first epoch is kept too."""
        client, run = self._connected()
        client.set_terminated(run, "FAILED" if failed else "FINISHED")

    def _connected(self) -> tuple[MlflowClient, str]:
        if self._connection is None:
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=self._url)
            self._connection = client, self._found(client) or self._created(client)
        return self._connection

    def _found(self, client: MlflowClient) -> str | None:
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return None
        runs = client.search_runs(
            [experiment.experiment_id], f"tags.`{RUN_ID_TAG}` = '{self._run_id}'", max_results=1
        )
        if not runs:
            return None
        run: str = runs[0].info.run_id
        client.update_run(run, status="RUNNING")
        self._logged = {m.step for m in client.get_metric_history(run, "loss")}
        return run

    def _created(self, client: MlflowClient) -> str:
        known = client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known is not None else client.create_experiment(self._experiment)
        run: str = client.create_run(experiment, run_name=self._run_id, tags={RUN_ID_TAG: self._run_id}).info.run_id
        for name, value in self._params.items():
            client.log_param(run, name, str(value)[:6_000])
        return run
