"""Versioned tables: Iceberg through a SQL catalog."""

from app.foundation.lake.bucket_scan import BucketScan
from app.foundation.lake.buckets import BUCKETED_TYPES, NOBODY, Buckets, bucket_numbers, split_by_bucket
from app.foundation.lake.compaction import CompactionPolicy, CompactionResult
from app.foundation.lake.expiry import Retention
from app.foundation.lake.lake import Lake

__all__ = [
    "BUCKETED_TYPES", "NOBODY", "BucketScan", "Buckets", "CompactionPolicy", "CompactionResult", "Lake", "Retention",
    "bucket_numbers", "split_by_bucket",
]
