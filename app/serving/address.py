"""Where a project's application answers."""

from __future__ import annotations

from app.settings import Settings
from app.spec.serving import ServingPolicy


def model_url(settings: Settings, policy: ServingPolicy) -> str:
    """Address of the application, without a slash at the end."""
    return f"{settings.http_url}{policy.route_prefix.rstrip('/')}"
