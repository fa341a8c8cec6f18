"""The records that travel between stages: frozen, typed, JSON-able.

Providers return records and nothing else; whatever MLflow, DVC or KServe call their own
objects stays inside their plugin. Times are aware `datetime`s in UTC; digests are SHA-256 in
lower-case hex; sizes are bytes.
"""

from modelyard.records.base import Record, now
from modelyard.records.monitoring import Alert, ColumnScore, Prediction, Window
from modelyard.records.registry import (
    Actor,
    GateResult,
    ModelVersion,
    Promotion,
    PromotionAction,
    PromotionStatus,
)
from modelyard.records.services import Check, Service, ServiceStatus
from modelyard.records.serving import (
    Condition,
    Endpoint,
    Event,
    Explanation,
    Finding,
    GraphStep,
    Replica,
    RequestStats,
    Revision,
    Trust,
)
from modelyard.records.tracking import (
    Code,
    DataRef,
    DataUse,
    Environment,
    LoggedModel,
    Metric,
    Run,
    RunContext,
    RunStatus,
)

__all__ = [
    "Actor",
    "Alert",
    "Check",
    "Code",
    "ColumnScore",
    "Condition",
    "DataRef",
    "DataUse",
    "Endpoint",
    "Environment",
    "Event",
    "Explanation",
    "Finding",
    "GateResult",
    "GraphStep",
    "LoggedModel",
    "Metric",
    "ModelVersion",
    "Prediction",
    "Promotion",
    "PromotionAction",
    "PromotionStatus",
    "Record",
    "Replica",
    "RequestStats",
    "Revision",
    "Run",
    "RunContext",
    "RunStatus",
    "Service",
    "ServiceStatus",
    "Trust",
    "Window",
    "now",
]
