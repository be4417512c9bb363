"""whylogs profiles of any table or stream."""

from app.profiles.summary import Bins, ColumnSummary, shared_bins, summary
from app.profiles.whylogs_profile import merge_profiles, profile_table, read_profile

__all__ = ["Bins", "ColumnSummary", "merge_profiles", "profile_table", "read_profile", "shared_bins", "summary"]
