"""Versioned tables: Iceberg through a SQL catalog."""

from app.foundation.lake.lake import Lake

__all__ = ["Lake"]
