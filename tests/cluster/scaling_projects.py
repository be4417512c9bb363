"""The shop with as many green replicas as blue ones, and the shop whose replicas follow the load."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from app.spec import Autoscaling, Pause, RolloutPolicy, ServingPolicy, SetWeight
from tests.cluster.serving_project import PROJECT

BLUE_GREEN = replace(
    PROJECT, rollout=RolloutPolicy(strategy="blue-green", steps=(SetWeight(100), Pause(timedelta(days=1))))
)
ELASTIC = replace(
    PROJECT,
    serving=ServingPolicy(
        autoscaling=Autoscaling(
            min_replicas=1, max_replicas=2, target_ongoing_requests=1.0, upscale_delay_s=1.0, downscale_delay_s=3.0
        )
    ),
)
