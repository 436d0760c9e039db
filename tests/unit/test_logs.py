"""Logs: one line per event, in the form that people, journald and collectors read."""

import asyncio
import io
import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
import time_machine

from daemon import logs
from tests.support.streams import Full, Pieces, Terminal

NOW = datetime(2026, 11, 20, 10, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture(autouse=True)
def original_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the process as it was."""
    for name in ("JOURNAL_STREAM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(False)
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.reset_defaults()


def json_log(level: str = "info", *, personal_data: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.configure("json", level, personal_data, stream)
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_what_people_look_for_in_front() -> None:
    stream = json_log()
    log = structlog.get_logger().bind(key="1201-2201-3201-0")

    with time_machine.travel(NOW, tick=False):
        log.info(logs.LINE_DELIVERED, call_id=1201, status=200, seconds=0.25, name="Süd")

    assert stream.getvalue() == (
        '{"event":"line.delivered","level":"info","timestamp":"2026-11-20T10:00:00.250000Z",'
        '"key":"1201-2201-3201-0","call_id":1201,"status":200,"seconds":0.25,"name":"Süd"}\n'
    )


def test_every_event_of_the_contract_has_its_name() -> None:
    names = {
        value
        for name, value in vars(logs).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }

    assert names >= {
        "daemon.started",
        "daemon.standby",
        "daemon.stopping",
        "daemon.stopped",
        "poll.taken",
        "line.delivered",
        "line.conflict",
        "line.not_found",
        "line.locked",
        "line.retried",
        "line.rejected",
        "line.expired",
        "line.invalid",
        "line.skipped",
        "sender.paused",
        "sender.resumed",
        "token.refreshed",
        "database.lost",
        "database.back",
        "backfill.progress",
        "backfill.done",
    }


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_what_is_below_the_level_is_not_written(level: str, written: list[str]) -> None:
    stream = json_log(level)
    log = structlog.get_logger()

    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(log, name)("poll.taken")

    assert [event["level"] for event in events(stream)] == written


def test_personal_fields_are_dropped_unless_allowed() -> None:
    fields = {"record": {"CallerID": "4989123"}, "caller": "4989123", "body": "no", "status": 400}
    dropped, kept = json_log(), io.StringIO()
    structlog.get_logger().warning(logs.LINE_REJECTED, **fields)
    logs.configure("json", "info", True, kept)
    structlog.get_logger().bind(**fields).warning(logs.LINE_REJECTED)

    (without,), (within,) = events(dropped), events(kept)
    assert without.keys() == {"event", "level", "timestamp", "status"}
    assert fields.items() <= within.items()


def test_the_number_of_an_alert_is_nobodys() -> None:
    stream = json_log()
    for event in (*sorted(logs.ALERT_EVENTS), logs.DIAL_ALLOWED):
        structlog.get_logger().warning(event, number=7)
    assert [(one["event"], one.get("number")) for one in events(stream)] == [
        ("alert.failed", 7),
        ("alert.given_up", 7),
        ("alert.raised", 7),
        ("dial.allowed", None),
    ]


def test_personal_fields_are_dropped_from_bound_loggers_and_the_console_too() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", False, stream)

    structlog.get_logger().bind(caller="4989123").info(logs.LINE_DELIVERED, status=200)

    assert "4989123" not in stream.getvalue()
    assert "status=200" in stream.getvalue()


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    stream = json_log()

    structlog.get_logger().info("x", path=Path("/a"), at=NOW, huge=2**70, broken="\udcff", n={1: 2})
    structlog.get_logger().info("x", path=Path("/a"), n={1: 2})

    strange, plain = events(stream)
    assert (strange["path"], strange["huge"], strange["broken"]) == ("/a", 2**70, "\udcff")
    assert (plain["path"], plain["n"]) == ("/a", {"1": 2})


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_logged_without_local_variables(log_format: str) -> None:
    stream = io.StringIO()
    logs.configure(log_format, "info", False, stream)

    def fail() -> None:
        token = "hunter2"
        raise LookupError(f"no {len(token)}")

    try:
        fail()
    except LookupError:
        structlog.get_logger().exception(logs.DATABASE_LOST)

    assert "LookupError: no 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    if log_format == "json":
        (event,) = events(stream)
        assert event.keys() == {"event", "level", "timestamp", "exception"}
        assert event["level"] == "error"
        assert event["exception"].startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_auto_is_console_on_a_terminal_and_json_elsewhere(
    log_format: str, stream: io.StringIO, is_json: bool
) -> None:
    logs.configure(log_format, "info", False, stream)
    structlog.get_logger().info(logs.DAEMON_STARTED)

    assert stream.getvalue().startswith("{") is is_json
    assert logs.DAEMON_STARTED in stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [
        (Terminal(), None, True),
        (Terminal(), "", True),
        (Terminal(), "1", False),
        (io.StringIO(), None, False),
    ],
)
def test_colours_are_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: str | None, coloured: bool
) -> None:
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    logs.configure("console", "info", False, stream)
    structlog.get_logger().info(logs.DAEMON_STARTED)

    assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, TextIO]]:
    """A pipe that JOURNAL_STREAM names, as systemd does: where to write, where to read."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    with (
        os.fdopen(reading, encoding="utf-8") as reader,
        os.fdopen(writing, "w", encoding="utf-8") as writer,
    ):
        yield writer, reader


def test_the_journal_gets_the_syslog_level_before_each_line(
    journal: tuple[TextIO, TextIO],
) -> None:
    writer, reader = journal
    logs.configure("auto", "debug", False, writer)
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(log, name)("poll.taken")
    writer.close()

    lines = reader.read().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert all(json.loads(line[3:])["event"] == "poll.taken" for line in lines)


def test_each_line_of_a_traceback_on_the_console_has_its_level_in_the_journal(
    journal: tuple[TextIO, TextIO],
) -> None:
    writer, reader = journal
    logs.configure("console", "info", False, writer)
    structlog.get_logger().error(logs.DATABASE_LOST, exc_info=OSError("gone"))
    writer.close()

    lines = reader.read().splitlines()
    assert len(lines) > 1
    assert all(line.startswith("<3>") for line in lines)


def test_another_stream_than_the_journals_gets_no_prefix(
    journal: tuple[TextIO, TextIO], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        logs.configure("json", "info", False, stream)
        structlog.get_logger().info(logs.DAEMON_STARTED)

    assert path.read_text().startswith('{"event":"daemon.started"')


def test_what_libraries_log_becomes_events_from_warning_on() -> None:
    stream = json_log("debug")
    library = logging.getLogger("asyncpg.pool")
    library.debug("a query")
    library.info("connected")
    with time_machine.travel(NOW, tick=False):
        library.warning("slow: %d s", 3)
    logging.getLogger("asyncio").log(35, "in between")

    first, second = events(stream)
    assert first == {
        "event": "library.message",
        "level": "warning",
        "timestamp": "2026-11-20T10:00:00.250000Z",
        "library": "asyncpg.pool",
        "message": "slow: 3 s",
    }
    assert (second["level"], second["library"]) == ("warning", "asyncio")


def test_a_library_that_was_made_talkative_still_starts_at_warning() -> None:
    stream = json_log("debug")
    library = logging.getLogger("callstatsd-test-talkative")
    library.setLevel(logging.DEBUG)
    library.debug("a query")

    assert stream.getvalue() == ""


def test_our_level_holds_for_libraries_too() -> None:
    stream = json_log("error")
    logging.getLogger("aiohttp").warning("odd")
    logging.getLogger("aiohttp").error("bad")

    assert [event["message"] for event in events(stream)] == ["bad"]


def test_a_librarys_exception_is_a_field() -> None:
    stream = json_log()
    logging.getLogger("aiohttp").error("failed", exc_info=OSError("gone"))

    (event,) = events(stream)
    assert event["message"] == "failed"
    assert event["exception"].endswith("OSError: gone")


def test_a_library_message_whose_arguments_do_not_fit_is_not_lost() -> None:
    logging.getLogger().handlers.clear()  # pytest's own refuse it
    stream = json_log()
    logging.getLogger("aiohttp").warning("%d lines", "many")

    (event,) = events(stream)
    assert event["message"] == "%d lines"


async def test_what_asyncio_reports_is_an_event() -> None:
    stream = json_log()
    asyncio.get_running_loop().call_exception_handler({"message": "Task was destroyed"})

    (event,) = events(stream)
    assert (event["library"], event["message"]) == ("asyncio", "Task was destroyed")


def test_pythons_warnings_are_events() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        stream = json_log()
        warnings.warn("old habits", DeprecationWarning, stacklevel=1)

    (event,) = events(stream)
    assert (event["event"], event["library"]) == ("library.message", "py.warnings")
    assert "DeprecationWarning: old habits" in event["message"]


def test_the_last_configuration_counts_also_for_loggers_made_before() -> None:
    log = structlog.get_logger()
    first = json_log("error")
    log.error("poll.taken")
    second = json_log("debug")
    log.debug("poll.taken")
    logging.getLogger("aiohttp").error("once")

    assert len(events(first)) == 1
    assert [event["level"] for event in events(second)] == ["debug", "error"]


def test_the_default_stream_is_the_stderr_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info", False)
    structlog.get_logger().info(logs.DAEMON_STARTED)

    output = capsys.readouterr()
    assert json.loads(output.err)["event"] == "daemon.started"
    assert output.out == ""


def test_each_event_is_one_write_and_threads_do_not_mix_them() -> None:
    stream = Pieces()
    logs.configure("json", "info", False, stream)
    log = structlog.get_logger()

    def write() -> None:
        for number in range(50):
            log.info("poll.taken", lines=number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stream.pieces) == 200
    assert all(piece.endswith("}\n") and json.loads(piece) for piece in stream.pieces)


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("personal_data", [False, True])
@time_machine.travel(NOW, tick=False)
def test_events_logged_together_are_what_they_would_be_alone(
    log_format: str, *, personal_data: bool
) -> None:
    several = [{"key": f"{number}-0-0-0", "record": "0711"} for number in range(3)]
    together, alone = Pieces(), Pieces()
    logs.configure(log_format, "info", personal_data, alone)
    for fields in several:
        structlog.get_logger().info(logs.LINE_DELIVERED, **fields)
    logs.configure(log_format, "info", personal_data, together)
    logs.info_each(logs.LINE_DELIVERED, several)

    assert len(alone.pieces) == 3
    assert together.pieces == ["".join(alone.pieces)]
    assert ("0711" in together.pieces[0]) == personal_data


def test_events_logged_together_keep_to_the_level() -> None:
    stream = Pieces()
    logs.configure("json", "warning", False, stream)
    logs.info_each(logs.LINE_DELIVERED, [{"key": "1-0-0-0"}])
    logs.info_each(logs.LINE_DELIVERED, [])
    assert stream.pieces == []


def test_a_reader_that_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    before = logs.dropped_lines()
    with os.fdopen(writing, "w") as stream:
        logs.configure("json", "info", False, stream)
        structlog.get_logger().info(logs.DAEMON_STOPPED)
    structlog.get_logger().info(logs.DAEMON_STOPPED)
    assert logs.dropped_lines() == before + 2


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_when_the_log_works_again_it_says_how_many_events_are_missing(log_format: str) -> None:
    stream = Full()
    logs.configure(log_format, "error", False, stream)
    before = logs.dropped_lines()
    for _ in range(3):
        structlog.get_logger().error(logs.DATABASE_LOST)
    stream.full = False
    structlog.get_logger().error(logs.DATABASE_LOST)

    missing, event = stream.getvalue().splitlines()
    assert logs.dropped_lines() == before + 3
    if log_format == "json":
        fields = json.loads(missing)
        assert list(fields) == ["event", "level", "timestamp", "lines"]
        assert (fields["event"], fields["level"]) == ("log.dropped", "warning")
        assert (fields["lines"], json.loads(event)["event"]) == (3, "database.lost")
    else:
        assert missing.split()[-3:] == ["warning", "log.dropped", "lines=3"]
