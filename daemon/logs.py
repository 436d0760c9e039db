"""Logging: one event per thing that happened, one line per event, one write per line."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.lines import State
from daemon.log_writer import PATIENCE, STDERR, LineWriter
from daemon.terminal import columns, wrap

DAEMON_STARTED = "daemon.started"
DAEMON_STANDBY = "daemon.standby"
DAEMON_STOPPING = "daemon.stopping"
DAEMON_STOPPED = "daemon.stopped"
DAEMON_REFUSED = "daemon.refused"
POLL_TAKEN = "poll.taken"
LINE_DELIVERED = "line.delivered"
LINE_CONFLICT = "line.conflict"
LINE_NOT_FOUND = "line.not_found"
LINE_LOCKED = "line.locked"
LINE_RETRIED = "line.retried"
LINE_REJECTED = "line.rejected"
LINE_EXPIRED = "line.expired"
LINE_INVALID = "line.invalid"
LINE_SKIPPED = "line.skipped"
SENDER_PAUSED = "sender.paused"
SENDER_RESUMED = "sender.resumed"
TOKEN_REFRESHED = "token.refreshed"  # noqa: S105  an event's name
DATABASE_LOST = "database.lost"
DATABASE_BACK = "database.back"
BACKFILL_PROGRESS = "backfill.progress"
BACKFILL_DONE = "backfill.done"
RETENTION_PRUNED = "retention.pruned"
RETENTION_FAILED = "retention.failed"
MONITOR_UNAVAILABLE = "monitor.unavailable"
MONITOR_UNREAD = "monitor.unread"
SENDER_SPARES = "sender.spares_calls"
REQUEST_DONE = "request.done"
REQUESTS_THROUGH_SESSION = "request.through_session"
REQUEST_DEFECT = "request.defect"
LIBRARY_MESSAGE = "library.message"
LOG_DROPPED = "log.dropped"
FEED_OFF = "feed.off"
OPERATOR_ACTED = "operator.acted"
POLL_FAILED = "poll.failed"
SWEEP_FAILED = "sweep.failed"
POLL_PULLED_BACK = "poll.watermark_pulled_back"
SENDER_STILL_PAUSED = "sender.still_paused"
SENDER_UNREAD = "sender.unread"
SENDER_UNSETTLED = "sender.unsettled"
DAEMON_WAITING = "daemon.waiting"
DAEMON_UNHEARD = "daemon.unheard"
DIAL_ALLOWED = "dial.allowed"
DIAL_REFUSED = "dial.refused"
DIAL_UNDECIDED = "dial.undecided"
DIAL_UNMATCHED = "dial.unmatched"
DIAL_UNAUTHORIZED = "dial.unauthorized"
API_UNAVAILABLE = "api.unavailable"
ALERT_RAISED = "alert.raised"
ALERT_FAILED = "alert.failed"
ALERT_GIVEN_UP = "alert.given_up"
TELEGRA_REFUSED = "telegra.refused"
TELEGRA_BAD = "telegra.bad"
TELEGRA_LATE = "telegra.late"
TELEGRA_INCOMPLETE = "telegra.incomplete"
TELEGRA_CLOCK = "telegra.clock"
TELEGRA_GAP = "telegra.gap"
TELEGRA_WAITING = "telegra.waiting"

LINE_EVENTS = {
    State.DELIVERED: LINE_DELIVERED,
    State.CONFLICT: LINE_CONFLICT,
    State.NOT_FOUND: LINE_NOT_FOUND,
    State.REJECTED: LINE_REJECTED,
    State.EXPIRED: LINE_EXPIRED,
    State.INVALID: LINE_INVALID,
    State.SKIPPED: LINE_SKIPPED,
}
"""The event of a line that reached a final state."""

PERSONAL_FIELDS = ("record", "caller", "body", "number", "agent")
ALERT_EVENTS = {ALERT_RAISED, ALERT_FAILED, ALERT_GIVEN_UP}
"""Their number is an alert's, nobody's telephone's."""
SYSLOG_PREFIXES = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
    "critical": "<2>",
}
JSON_LINE = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
TRACEBACK_FRAMES = 20
LEVEL_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def configure(
    log_format: str,
    level: str,
    personal_data: bool,
    stream: TextIO | None = None,
    patience: float = PATIENCE,
) -> None:
    """Send our events and the libraries' warnings to the stream, by default stderr (section 9).

    `log_format` is auto, json or console; `level` the least level that is written; `patience`
    for how many seconds a reader that takes nothing is waited for. The last call counts.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    processors: list[Processor] = [structlog.processors.add_log_level]
    if not personal_data:
        processors.insert(0, drop_personal_data)
    processors.append(structlog.processors.format_exc_info)
    if console:
        form = "%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S"
        processors.append(structlog.processors.TimeStamper(fmt=form, utc=False))
        colours = terminal and not os.environ.get("NO_COLOR")
        processors.append(Console(stream, colours=colours))
    else:
        processors += [structlog.processors.TimeStamper(fmt="iso", utc=True), render_json]
    if is_journal(stream):
        processors.append(prefix_lines)
    encoding = stream.encoding if console and stream.encoding else "utf-8"
    writer = LineWriter(stream, encoding, partial(_dropped, processors), patience=patience)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        # A cached logger keeps its writer, so that only the process's own stderr may be cached.
        cache_logger_on_first_use=writer.descriptor == STDERR,
    )
    route_libraries()


def info_each(event: str, several: Sequence[Mapping[str, Any]]) -> None:
    """Log an event for each of these fields, all with one write."""
    log = structlog.get_logger()
    if not several or not log.is_enabled_for(logging.INFO):
        return
    config = structlog.get_config()
    writer = config["logger_factory"]()
    if not isinstance(writer, LineWriter):
        for fields in several:
            log.info(event, **fields)
        return
    writer.write_all([_render(config["processors"], "info", event, each) for each in several])


def dropped_lines() -> int:
    """Return how many lines of the log this process could not write."""
    return LineWriter.dropped


def _dropped(processors: Sequence[Processor], lines: int) -> str | bytes:
    """Return the event that reports how many lines are missing before it."""
    return _render(processors, "warning", LOG_DROPPED, {"lines": lines})


def _render(
    processors: Iterable[Processor], level: str, event: str, fields: Mapping[str, Any]
) -> str | bytes:
    """Return an event as the log has it."""
    rendered: Any = {"event": event, **fields}
    for processor in processors:
        rendered = processor(None, level, rendered)
    return rendered if isinstance(rendered, bytes) else str(rendered)


def drop_personal_data(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Drop the fields that may identify a person; all events pass here."""
    kept = {"number"} if event_dict["event"] in ALERT_EVENTS else set()
    for field in PERSONAL_FIELDS:
        if field not in kept:
            event_dict.pop(field, None)
    return event_dict


def render_json(_: WrappedLogger, __: str, event_dict: EventDict) -> bytes:
    """Render the event as one JSON object on a line, its name, level and time first."""
    first = {key: event_dict.pop(key) for key in ("event", "level", "timestamp")}
    ordered = {**first, **event_dict}
    try:
        return orjson.dumps(ordered, default=str, option=JSON_LINE)
    except TypeError:
        # Lone surrogates (bytes of a file name) and integers over 64 bits: slower, not lost.
        return f"{json.dumps(ordered, default=str, skipkeys=True)}\n".encode()


class Console:
    """Renders an event for a console: local time, level, event, and the fields that are set."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        """Wrap lines to the stream's width if it is a terminal."""
        self._stream = stream
        self._colours = colours

    def __call__(self, _: WrappedLogger, level: str, event_dict: EventDict) -> str:
        """Return the event's line, and the lines of a traceback below it."""
        exception = event_dict.pop("exception", None)
        timestamp, event = event_dict.pop("timestamp"), str(event_dict.pop("event"))
        del event_dict["level"]
        fields = [
            self._painted("2", f"{name}=") + shown(value)
            for name, value in event_dict.items()
            if value is not None
        ]
        parts = [
            self._painted("2", timestamp),
            self._painted(LEVEL_COLOURS[level], f"{level:7}"),
            self._painted("1", f"{event:16}"),
            *fields,
        ]
        line = wrap(" ".join(parts).rstrip(), columns(self._stream), hanging=4)
        return line if exception is None else f"{line}\n{exception}"

    def _painted(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def shown(value: Any) -> str:
    """Quote a field's value where it has spaces or could control a terminal."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)


def without_messages(error: BaseException) -> str:
    """Return an error's traceback with class names only: a message may quote an answer."""
    parts: list[str] = []
    met: set[int] = set()
    fault: BaseException | None = error
    while fault is not None and id(fault) not in met:
        met.add(id(fault))
        frames = "".join(traceback.format_tb(fault.__traceback__, limit=-TRACEBACK_FRAMES))
        parts.append(f"{frames}{type(fault).__module__}.{type(fault).__qualname__}")
        fault = fault.__cause__ or fault.__context__
    return "\n".join(parts)


def is_journal(stream: TextIO) -> bool:
    """Whether systemd connected the stream to the journal, which then reads prefixes."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def prefix_lines(_: WrappedLogger, level: str, text: Any) -> str | bytes:
    """Put the syslog level before each line, as the journal makes an entry of each."""
    prefix = SYSLOG_PREFIXES[level]
    if isinstance(text, bytes):
        return prefix.encode() + text
    return prefix + str(text).replace("\n", f"\n{prefix}")


class LibraryHandler(logging.Handler):
    """Turns what libraries log into events: asyncio, aiohttp, asyncpg, Python's warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record, at one of our levels."""
        try:
            message = record.getMessage().strip()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)  # its arguments do not fit; better than a failing library
        fields: dict[str, Any] = {"library": record.name, "message": message}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, LIBRARY_MESSAGE, **fields)


def route_libraries() -> None:
    """Route standard logging and `warnings` from WARNING on, whatever our own level is."""
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(LibraryHandler(logging.WARNING))
    root.setLevel(logging.WARNING)
    # Off and on: after a test that kept its warnings apart, on alone would do nothing.
    logging.captureWarnings(False)
    logging.captureWarnings(True)
