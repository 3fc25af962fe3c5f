"""What a trainer reports: one event a line in `events.jsonl`, and the table of every metric.

A run's events carry a sequence number that counts up by one from 1 within an attempt; with the run
and the attempt it identifies the event for good, so that storing it twice changes nothing. No torch here.
"""

from nat_core.events.event import (
    AnyEvent,
    CheckpointEvent,
    EvaluationEvent,
    Event,
    LogEvent,
    MetricsEvent,
    SampleEvent,
    StateEvent,
    parse_event,
)
from nat_core.events.metrics import (
    METRICS,
    Direction,
    MetricInfo,
    Panel,
    evaluation_path,
    interval_keys,
    metric_info,
)

__all__ = [
    "METRICS",
    "AnyEvent",
    "CheckpointEvent",
    "Direction",
    "EvaluationEvent",
    "Event",
    "LogEvent",
    "MetricInfo",
    "MetricsEvent",
    "Panel",
    "SampleEvent",
    "StateEvent",
    "evaluation_path",
    "interval_keys",
    "metric_info",
    "parse_event",
]
