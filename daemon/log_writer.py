"""Writes the log's lines so that no reader, slow or gone, can block or end the daemon."""

import atexit
import errno
import io
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, NamedTuple, TextIO

PATIENCE = 5.0
"""Seconds without a byte taken after which further lines are dropped."""
MOST_WAITING = 32 * 1024 * 1024
"""Bytes that may wait for a slow reader: about 100,000 lines."""
PIPE_BUF = 4096
"""Bytes that a pipe takes without blocking as soon as it is writable."""
RETRY = 0.05
"""Seconds to wait where a descriptor is reported as writable and takes nothing."""

STDERR = 2
"""The process's own descriptor."""

# A single write that does not block. O_NONBLOCK would hold for all who share the descriptor.
NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_NO_SUCH_WAY = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE}

Put = Callable[[bytes], int]
"""Writes some bytes without waiting; returns how many were taken."""


class _Waiting(NamedTuple):
    """Bytes to write. `begun`: after a part of a line; `reports` counts dropped ones."""

    data: bytes
    begun: bool
    lines: int
    reports: int = 0

    def rest(self, written: int) -> "_Waiting":
        """Return what is left when so many bytes are written."""
        if not written:
            return self
        left = self.data[written:]
        begun = self.data[written - 1 : written] != b"\n"
        return self._replace(data=left, begun=begun, lines=min(self.lines, left.count(b"\n")))


class LineWriter:
    """Writes each event with one call, in order; lines of threads never mix.

    What the descriptor takes at once is written at once. The rest waits for a thread of its own:
    the caller neither waits nor fails. Lines are dropped on an error, after `patience` seconds
    without a byte taken, and beyond `most_waiting` bytes. Once the log works again, `report`
    gives the line that says how many.
    """

    dropped: ClassVar[int] = 0
    """Lines that this process has dropped."""

    def __init__(
        self,
        stream: TextIO,
        encoding: str,
        report: Callable[[int], str | bytes],
        *,
        patience: float = PATIENCE,
        most_waiting: int = MOST_WAITING,
        nowait: int = NOWAIT,
    ) -> None:
        """Write to the stream's descriptor; a stream in memory is written to itself."""
        self._patience = patience
        self._most_waiting = most_waiting
        self._encoding = encoding
        self._report = report
        self.descriptor = _descriptor(stream)
        self._put = _way(stream, self.descriptor, nowait)
        # Python may collect garbage, and log what it finds, while this very thread holds it.
        self._lock = threading.RLock()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._taken_at = 0.0
        self._torn = False
        self._unreported = 0
        self._thread: threading.Thread | None = None

    def write(self, text: str | bytes) -> None:
        """Write a line, now or soon; bytes end with their own newline."""
        self._write(self._line(text), 1)

    def write_all(self, texts: Sequence[str | bytes]) -> None:
        """Write some lines with one call, now or soon."""
        self._write(b"".join(map(self._line, texts)), len(texts))

    def _write(self, data: bytes, lines: int) -> None:
        with self._lock:
            if self._waiting or self._unreported or self._torn:
                self._write_in_turn(data, lines)
                return
            try:
                written = self._put(data)
            except OSError:
                self._drop(lines)
                return
            if written < len(data):
                self._append(_Waiting(data, begun=False, lines=lines).rest(written))
                self._write_waiting()

    debug = info = warning = error = critical = write

    def flush(self) -> None:
        """Wait until all is written, as long as the reader takes a byte within `patience`."""
        while (thread := self._thread) is not None and not self._stalled:
            thread.join(RETRY)

    @property
    def _stalled(self) -> bool:
        return time.monotonic() - self._taken_at > self._patience

    def _line(self, text: str | bytes) -> bytes:
        if isinstance(text, bytes):
            return text
        return f"{text}\n".encode(self._encoding, "backslashreplace")

    def _write_in_turn(self, data: bytes, lines: int) -> None:
        """Write lines behind those that wait, and behind the report of those dropped before."""
        behind_others = bool(self._waiting)
        if behind_others and (self._stalled or self._bytes + len(data) > self._most_waiting):
            self._drop(lines)
            return
        self._append_report()
        self._append(_Waiting(data, begun=False, lines=lines))
        if not behind_others:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write what is taken now, and leave the rest to a thread."""
        try:
            while self._waiting and (written := self._put(self._waiting[0].data)):
                self._took(written)
        except OSError:
            self._drop_waiting()
        if self._waiting:
            self._wait()

    def _append_report(self) -> None:
        if self._unreported:
            line = self._line(self._report(self._unreported))
            self._append(_Waiting(line, begun=False, lines=0, reports=self._unreported))
            self._unreported = 0

    def _append(self, waiting: _Waiting) -> None:
        if not self._waiting:
            self._taken_at = time.monotonic()
        if self._torn:
            waiting = waiting._replace(data=b"\n" + waiting.data, begun=True)
            self._torn = False
        self._waiting.append(waiting)
        self._bytes += len(waiting.data)

    def _took(self, written: int) -> None:
        """Remove the written bytes from the first that waits."""
        first = self._waiting.popleft()
        self._bytes -= written
        self._taken_at = time.monotonic()
        if written < len(first.data):
            self._waiting.appendleft(first.rest(written))

    def _drop(self, lines: int) -> None:
        self._unreported += lines
        LineWriter.dropped += lines

    def _drop_waiting(self) -> None:
        self._torn = self._waiting[0].begun
        self._drop(sum(waiting.lines for waiting in self._waiting))
        self._unreported += sum(waiting.reports for waiting in self._waiting)
        self._waiting.clear()
        self._bytes = 0

    def _wait(self) -> None:
        if self._thread is not None:
            return
        # At the end of the process the reader still gets what waits for it.
        atexit.unregister(self.flush)
        atexit.register(self.flush)
        self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # none can be started while the interpreter ends
            self._thread = None
            self._drop_waiting()

    def _drain(self) -> None:
        """Write what waits; only this thread removes any of it meanwhile."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._append_report()
                if not self._waiting:
                    self._thread = None
                    return
                data = self._waiting[0].data
            try:
                written = self._write_patiently(data)
            except OSError:
                with self._lock:
                    self._drop_waiting()
                    self._thread = None
                return
            if written:
                with self._lock:
                    self._took(written)

    def _write_patiently(self, data: bytes) -> int:
        """Wait until the descriptor is writable; returns 0 if it took nothing after all."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        poll.poll()
        try:
            return os.write(self.descriptor, data[:PIPE_BUF])
        except BlockingIOError:  # made so by another process that shares the descriptor
            time.sleep(RETRY)
            return 0


def _descriptor(stream: TextIO) -> int:
    """Return the stream's descriptor; -1 if it has none or is wrapped."""
    if not isinstance(stream, io.TextIOWrapper):
        return -1  # as while a progress bar is drawn, into whose line nothing may be written
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1


def _way(stream: TextIO, descriptor: int, nowait: int) -> Put:
    """Return how to write to a stream without waiting, as its kind allows.

    Regular files and devices take what they get, or fail.
    """
    if descriptor < 0:
        return lambda data: _to_memory(stream, data)
    if os.isatty(descriptor):
        return _to_terminal(descriptor)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return _ToReader(descriptor, nowait).put
    if descriptor == STDERR:  # never closed
        return partial(os.write, STDERR)
    return lambda data: _to_file(stream, descriptor, data)


def _to_memory(stream: TextIO, data: bytes) -> int:
    if stream.closed:
        raise OSError(errno.EBADF, "the stream is closed")
    stream.write(data.decode(errors="replace"))
    stream.flush()
    return len(data)


def _to_file(stream: TextIO, descriptor: int, data: bytes) -> int:
    if stream.closed:  # its number may be another file's by now
        raise OSError(errno.EBADF, "the stream is closed")
    return os.write(descriptor, data)


def _to_terminal(descriptor: int) -> Put:
    """Open the terminal anew for writes that do not block; where that fails, a thread waits."""
    try:
        own = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return lambda _: 0

    def put(data: bytes) -> int:
        try:
            return os.write(own, data)
        except BlockingIOError:
            return 0

    return put


class _ToReader:
    """Writes to a pipe or a socket: without blocking where the system knows how to.

    Elsewhere only what surely fits is written, unless another process fills the pipe first.
    """

    def __init__(self, descriptor: int, nowait: int) -> None:
        self._descriptor = descriptor
        self._nowait = nowait

    def put(self, data: bytes) -> int:
        """Write what is taken now."""
        try:
            if self._nowait:
                return os.pwritev(self._descriptor, [data], -1, self._nowait)
            return self._put_if_writable(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if not self._nowait or error.errno not in _NO_SUCH_WAY:
                raise
            self._nowait = 0
            return self.put(data)

    def _put_if_writable(self, data: bytes) -> int:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return os.write(self._descriptor, data) if len(data) <= PIPE_BUF and poll.poll(0) else 0
