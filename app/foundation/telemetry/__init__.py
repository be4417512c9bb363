"""Progress a person can watch."""

from app.foundation.telemetry.progress import Progress, StepProgress

__all__ = ["Progress", "StepProgress"]
