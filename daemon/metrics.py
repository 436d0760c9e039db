"""The metrics of `/metrics`, named `callstatsd_*`, in a registry of our own."""

import math
import platform
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from daemon import __version__, logs
from daemon.lines import FeedName, PauseReason, State

# They would double the series, only to give the time when this process started.
leave_out_created: Callable[[], None] = disable_created_metrics
leave_out_created()

REGISTRY = CollectorRegistry()

BUILD_INFO = Gauge(
    "callstatsd_build_info",
    "1; the labels say which program this is, and by a short code on which ledger it works",
    ["version", "python", "ledger"],
    registry=REGISTRY,
)

LINES = Counter(
    "callstatsd_lines",
    "Lines that reached a state in the ledger, written by this process",
    ["state"],
    registry=REGISTRY,
)
TAKEN = Counter(
    "callstatsd_lines_taken",
    "Lines that polls took into the ledger",
    registry=REGISTRY,
)
LATE = Counter(
    "callstatsd_late_lines",
    "Lines that a sweep found after a poll had passed their time",
    registry=REGISTRY,
)
REQUESTS = Counter(
    "callstatsd_requests",
    "Requests by HTTP status; none for those that got no answer",
    ["status"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "callstatsd_request_seconds",
    "Seconds from a request's start to its answer",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60),
    registry=REGISTRY,
)
DELIVERY_SECONDS = Histogram(
    "callstatsd_end_to_delivered_seconds",
    "Seconds from the end of a call to the delivery of a line; backfills left out",
    buckets=(30, 60, 120, 180, 300, 600, 1800, 3600, 21600, 86400),
    registry=REGISTRY,
)
PAUSES = Counter(
    "callstatsd_pauses", "Pauses of the sender, of a feed or of all", ["reason"], registry=REGISTRY
)
PAUSED = Gauge(
    "callstatsd_paused", "1 while the sender pauses for this reason", ["reason"], registry=REGISTRY
)
CALLBACKS = Counter(
    "callstatsd_callbacks",
    "Callback requests that reached a state in the ledger, written by this process",
    ["state"],
    registry=REGISTRY,
)
CALLBACKS_TAKEN = Counter(
    "callstatsd_callbacks_taken",
    "Callback requests that were taken into the ledger, also by sweeps",
    registry=REGISTRY,
)
FEED_PAUSED = Gauge(
    "callstatsd_feed_paused",
    "1 while the sender pauses a feed for this reason; only where callbacks are on",
    ["feed", "reason"],
    registry=REGISTRY,
)
ALERTS = Counter(
    "callstatsd_alerts",
    "Alerts to a group of the ACD, by what came of them",
    ["result"],
    registry=REGISTRY,
)
ALERT_LINES_WAITING = Gauge(
    "callstatsd_alert_lines_waiting",
    "Lines that an alert counts and that are not in a raised one yet; only where alerts are on",
    registry=REGISTRY,
)
API_USAGE = Gauge(
    "callstatsd_api_usage_ratio",
    "Share of the org's daily calls that is used, as its last response says",
    registry=REGISTRY,
)
DECISIONS = (
    "allowed", "fallback", "refused", "undecided", "bad_request", "unauthorized", "busy",
)  # fmt: skip
"""What may become of a question of click to dial."""
DIALS = Counter(
    "callstatsd_dials",
    "Questions of click to dial by what became of them",
    ["decision"],
    registry=REGISTRY,
)
DIAL_SECONDS = Histogram(
    "callstatsd_dial_seconds",
    "Seconds that a question of click to dial took",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 30),
    registry=REGISTRY,
)
TELEGRA_RESULTS = ("kept", "repeated", "ignored", "bad", "refused", "unavailable")
"""What may become of a notification."""
TELEGRA_NOTIFICATIONS = Counter(
    "callstatsd_telegra_notifications",
    "Notifications of a Telegra ACD by command and by what became of them",
    ["cmd", "result"],
    registry=REGISTRY,
)
TELEGRA_OPEN_CALLS = Gauge(
    "callstatsd_telegra_open_calls",
    "Calls of a Telegra ACD whose end is not written",
    registry=REGISTRY,
)
TELEGRA_WAITING_CODES = Gauge(
    "callstatsd_telegra_waiting_codes",
    "Classifications that wait for their call",
    registry=REGISTRY,
)
POLL_SECONDS = Histogram(
    "callstatsd_poll_seconds",
    "Seconds that a poll took",
    buckets=(0.005, 0.02, 0.05, 0.2, 1, 5, 30),
    registry=REGISTRY,
)
SWEEP_SECONDS = Histogram(
    "callstatsd_sweep_seconds",
    "Seconds that a sweep took",
    ["reach"],
    buckets=(0.02, 0.1, 0.5, 2, 10, 60),
    registry=REGISTRY,
)
ACTIVE = Gauge(
    "callstatsd_active", "1 if this instance holds the ledger, 0 on standby", registry=REGISTRY
)
DATABASE_UP = Gauge(
    "callstatsd_database_up", "1 while the database answers", ["database"], registry=REGISTRY
)
PENDING = Gauge("callstatsd_lines_pending", "Lines to send or to try again", registry=REGISTRY)
OLDEST_PENDING = Gauge(
    "callstatsd_oldest_pending_seconds",
    "Seconds since the oldest pending line became so; 0 without one",
    registry=REGISTRY,
)
NEED_OPERATOR = Gauge(
    "callstatsd_lines_kept",
    "Lines that wait for an operator",
    ["state"],
    registry=REGISTRY,
)
OLDEST_KEPT = Gauge(
    "callstatsd_oldest_kept_seconds",
    "Seconds since the oldest line that waits for an operator was settled; 0 without one",
    registry=REGISTRY,
)
CALLBACKS_PENDING = Gauge(
    "callstatsd_callbacks_pending", "Callback requests to send or to try again", registry=REGISTRY
)
OLDEST_CALLBACK = Gauge(
    "callstatsd_callbacks_oldest_pending_seconds",
    "Seconds since the oldest pending callback request became so; 0 without one",
    registry=REGISTRY,
)
CALLBACKS_KEPT = Gauge(
    "callstatsd_callbacks_kept",
    "Callback requests that wait for an operator",
    ["state"],
    registry=REGISTRY,
)
WATERMARK = Gauge(
    "callstatsd_watermark_timestamp_seconds",
    "Up to when calls are taken, Unix time by the source's clock",
    registry=REGISTRY,
)


class DroppedLogLines(Collector):
    """Reads the log's own count, as the log is below this module."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the present count."""
        yield CounterMetricFamily(
            "callstatsd_log_lines_dropped",
            "Lines of the log that could not be written",
            value=logs.dropped_lines(),
        )


REGISTRY.register(DroppedLogLines())

# What was never read is unknown, not zero.
PENDING.set(math.nan)
OLDEST_PENDING.set(math.nan)
OLDEST_KEPT.set(math.nan)
CALLBACKS_PENDING.set(math.nan)
OLDEST_CALLBACK.set(math.nan)
ALERT_LINES_WAITING.set(math.nan)
TELEGRA_OPEN_CALLS.set(math.nan)
TELEGRA_WAITING_CODES.set(math.nan)

# What has not happened yet is zero, not unknown: the first one is an increase too.
for _state in State:
    if _state is not State.PENDING:
        LINES.labels(_state)
        CALLBACKS.labels(_state)
for _reason in PauseReason:
    PAUSES.labels(_reason)
for _result in ("raised", "failed", "given_up"):
    ALERTS.labels(_result)
for _status in (200, 400, 401, 403, 404, 409, 423, 429, 500, 502, 503, 504, "none"):
    REQUESTS.labels(_status)
for _decision in DECISIONS:
    DIALS.labels(_decision)
for _reach in ("near", "lookback"):
    SWEEP_SECONDS.labels(_reach)


_requests = cache(REQUESTS.labels)
_lines = cache(LINES.labels)
_callbacks = cache(CALLBACKS.labels)
_notifications = cache(TELEGRA_NOTIFICATIONS.labels)


def observe_request(status: int | str, seconds: float, api_usage: float | None) -> None:
    """Count a request by its HTTP status, or `none`, and note its duration."""
    _requests(status).inc()
    REQUEST_SECONDS.observe(seconds)
    if api_usage is not None:
        API_USAGE.set(api_usage)


def count_dial(decision: str) -> None:
    """Count a question of click to dial."""
    DIALS.labels(decision).inc()


def observe_dial(decision: str, seconds: float) -> None:
    """Count a question that went to Salesforce, and note its duration."""
    count_dial(decision)
    DIAL_SECONDS.observe(seconds)


def count_lines(feed: FeedName, state: State, lines: int = 1) -> None:
    """Count lines of a feed that reached a final state in the ledger."""
    (_callbacks if feed is FeedName.CALLBACKS else _lines)(state).inc(lines)


def mark_feed_paused(feed: FeedName, reason: str | None) -> None:
    """Set why the sender pauses a feed; None if it does not."""
    for each in PauseReason:
        FEED_PAUSED.labels(feed, each).set(each == reason)


def begin_telegra(commands: Iterable[str]) -> None:
    """Show a zero for what may become of each command; only where notifications are received."""
    for command in commands:
        for result in TELEGRA_RESULTS:
            _notifications(command, result)


def count_notification(command: str, result: str) -> None:
    """Count a notification of a Telegra ACD."""
    _notifications(command, result).inc()


def counted(name: str, **labels: str) -> int:
    """Return a counter's value, 0 for one that has counted nothing yet."""
    return int(REGISTRY.get_sample_value(name, labels) or 0)


def describe_build(ledger: str) -> None:
    """Set the labels that name this program's version and its ledger."""
    BUILD_INFO.labels(__version__, platform.python_version(), ledger).set(1)
