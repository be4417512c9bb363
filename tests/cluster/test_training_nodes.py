"""Training on several raylets: a node that is lost, workers that become fewer and more, stores that fail."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from app.assembly.ray_environment import TRAIN_VARIABLES
from app.errors import TrainingError
from app.settings import Settings, load_settings
from app.training.progress import EpochReport
from app.training.train import TrainedModel, train
from tests.cluster.dying_network import LAST_STEP
from tests.cluster.training_rows import NETWORK, answers, project, rows
from tests.e2e.conftest import free_port

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

STILL = {**NETWORK.hyperparameters, "dropout": 0.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and two nodes of one CPU each, all raylets of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TRAIN_VARIABLES.items():
            patch.setenv(name, value)
        nodes = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0, "include_dashboard": True, "dashboard_port": free_port(),
                "object_store_memory": 200_000_000,
            },
        )
        for _ in range(2):
            nodes.add_node(num_cpus=1, object_store_memory=100_000_000)
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


def until(true: Callable[[], object]) -> None:
    """Waits; the test's own timeout ends it."""
    while not true():
        time.sleep(0.2)


def num_checkpoints(settings: Settings, run_id: str) -> int:
    return len(list((settings.runs / run_id).glob("checkpoint_*/sha256-0.json")))


@contextlib.contextmanager
def in_background(settings: Settings, run_id: str, model: object) -> Iterator[tuple[list[EpochReport], list[object]]]:
    told: list[EpochReport] = []
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(train(project(), model, rows(), settings, run_id, told.append))  # type: ignore[arg-type]
        except TrainingError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield told, ended
    thread.join()


def test_workers_become_fewer_with_a_lost_node_and_more_with_a_new_one(cluster: Cluster, settings: Settings) -> None:
    model = replace(
        NETWORK, min_workers=1, epochs=30, checkpoint_every_steps=5, deadline_s=400,
        factory="tests.cluster.dying_network:slow", hyperparameters={**STILL, "pause_s": 0.1},
    )
    with in_background(settings, "elastic", model) as (told, ended):
        until(lambda: num_checkpoints(settings, "elastic") or ended)
        lost = list(cluster.worker_nodes)[-1]
        cluster.remove_node(lost, allow_graceful=False)  # SIGKILL of the raylet, its workers go with it
        until(lambda: [r for r in told if r.workers == 1] or ended)
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    (trained,) = ended
    assert isinstance(trained, TrainedModel), trained
    assert [r.epoch for r in told] == list(range(1, 31)), "each epoch is told once"
    workers = [r.workers for r in told]
    assert workers[0] in (1, 2) and 1 in workers and workers[-1] == 2
    undisturbed = train(project(), replace(model, hyperparameters={**STILL, "pause_s": 0.0}), rows(), settings, "calm")
    np.testing.assert_allclose(answers(trained), answers(undisturbed), atol=2e-3)


def test_a_lost_node_is_replaced_and_the_weights_are_as_if_it_had_not_been(
    cluster: Cluster, settings: Settings
) -> None:
    model = replace(
        NETWORK, epochs=6, checkpoint_every_steps=3, factory="tests.cluster.dying_network:slow",
        hyperparameters={**NETWORK.hyperparameters, "pause_s": 0.1},
    )
    with in_background(settings, "lost", model) as (_, ended):
        until(lambda: num_checkpoints(settings, "lost") or ended)
        lost = list(cluster.worker_nodes)[-1]
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    (trained,) = ended
    assert isinstance(trained, TrainedModel), trained
    whole = train(
        project(), replace(model, hyperparameters={**model.hyperparameters, "pause_s": 0.0}), rows(), settings, "calm"
    )
    np.testing.assert_array_equal(answers(trained), answers(whole))


def test_a_run_that_cannot_be_scheduled_fails_by_its_deadline_and_says_what_there_is(
    cluster: Cluster, settings: Settings
) -> None:
    @ray.remote(num_cpus=1)
    class Occupant:
        def there(self) -> bool:
            return True

    occupant = Occupant.remote()
    ray.get(occupant.there.remote())
    started_s = time.monotonic()
    with pytest.raises(TrainingError, match=r"asks for 2 workers of 1 CPU; the cluster has 2, free now 1"):
        train(project(), replace(NETWORK, deadline_s=15.0), rows(), settings, "crowded")
    assert time.monotonic() - started_s < 120, "it does not wait for Ray Train, which would wait without end"
    states = [group["state"] for group in placement_group_table().values()]  # type: ignore[no-untyped-call]
    assert set(states) == {"REMOVED"}, "a group left behind would take the next free CPUs and give them to no one"
    ray.kill(occupant)


def test_a_full_disk_leaves_the_last_good_checkpoint_and_the_run_goes_on_from_it(
    cluster: Cluster, tmp_path: Path, settings: Settings
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        small = load_settings({"MILLRACE_HOME": str(disk), "MILLRACE_MLFLOW_URL": settings.mlflow_url}, in_job=False)
        settings.home.mkdir(parents=True, exist_ok=True)
        filler = disk / "filler"
        model = replace(
            NETWORK, checkpoint_every_steps=4, factory="tests.cluster.dying_network:fills_the_disk",
            hyperparameters={**NETWORK.hyperparameters, "marker": str(filler)},
        )
        with pytest.raises(TrainingError, match=r"No space left on device"):
            train(project(), model, rows(), small, "full")
        assert num_checkpoints(small, "full") >= 1
        assert not (small.home / "trained" / "full").exists()
        filler.write_bytes(b"")  # room again, and the marker stays
        again = train(project(), model, rows(), small, "full")
        whole = train(project(), NETWORK, rows(), settings, "calm")
        np.testing.assert_array_equal(answers(again), answers(whole))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
    assert LAST_STEP > 4


def test_a_damaged_checkpoint_is_an_error_that_names_it(cluster: Cluster, settings: Settings) -> None:
    """The run is cut off by its deadline, its checkpoints are truncated, and it is started again."""
    model = replace(
        NETWORK, epochs=2, checkpoint_every_steps=4, deadline_s=45.0, factory="tests.cluster.dying_network:slow",
        hyperparameters={**STILL, "pause_s": 1.5},
    )
    with pytest.raises(TrainingError, match="deadline"):
        train(project(), model, rows(), settings, "cut")
    shards = list((settings.runs / "cut").glob("checkpoint_*/state/*model_states.pt"))
    assert shards
    for shard in shards:  # which of them Ray Train had noted last depends on when the deadline came
        shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"model_states\.pt is missing or truncated"):
        train(project(), replace(model, deadline_s=200.0), rows(), settings, "cut")
    other = replace(model, deadline_s=200.0, learning_rate=0.1)
    with pytest.raises(TrainingError, match="of another model"):
        train(project(), other, rows(), settings, "cut")
    assert not (settings.home / "trained" / "cut").exists()
