"""The vocabulary a project is written in. No Ray, no torch, no effects."""

from app.spec.features import (
    Aggregation,
    CsvFiles,
    DatasetFunction,
    Entity,
    Expectation,
    FeatureService,
    FeatureView,
    Field,
    IcebergTable,
    OnDemandFeatureView,
    ParquetFiles,
    Source,
)
from app.spec.models import Cases, Gate, Label, SearchSpace, SklearnModel, TorchModel
from app.spec.policies import (
    AccessPolicy,
    Analysis,
    AnalysisMetric,
    DriftPolicy,
    Pause,
    RetrainPolicy,
    RolloutPolicy,
    SetWeight,
    Timeline,
)
from app.spec.project import Project

__all__ = [
    "AccessPolicy", "Aggregation", "Analysis", "AnalysisMetric", "Cases", "CsvFiles",
    "DatasetFunction", "DriftPolicy", "Entity", "Expectation", "FeatureService", "FeatureView",
    "Field", "Gate", "IcebergTable", "Label", "OnDemandFeatureView", "ParquetFiles", "Pause",
    "Project", "RetrainPolicy", "RolloutPolicy", "SearchSpace", "SetWeight", "SklearnModel",
    "Source", "Timeline", "TorchModel",
]
