"""A real PgBouncer before a Postgres; it refuses to run as root, so it runs as `nobody` then."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.daemon_process import PATIENCE

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")

ALL_OURS = (
    "search_path,default_transaction_read_only,plan_cache_mode,"
    "idle_in_transaction_session_timeout,idle_session_timeout"
)
"""What an administrator lets PgBouncer ignore, so that it accepts our connections."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def pgbouncer(dsn: str, mode: str, *, ignore: str = ALL_OURS) -> AsyncIterator[str]:
    """Run PgBouncer in that pool mode; gives the DSN that leads through it."""
    assert PROGRAM is not None
    parts = urlsplit(dsn)
    folder = unquote(parse_qs(parts.query)["host"][0])
    user = parts.username or "postgres"
    port = free_port()
    # Not under tmp_path, which belongs to root alone where the tests run as root.
    home = Path(tempfile.mkdtemp(prefix="callstatsd-pgbouncer-"))
    os.chmod(home, 0o755)  # noqa: PTH101
    (home / "users").write_text(f'"{user}" ""\n')
    (home / "ini").write_text(
        f"""[databases]
* = host={folder} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {home}/users
pool_mode = {mode}
ignore_startup_parameters = {ignore}
default_pool_size = 20
"""
    )
    process = await asyncio.create_subprocess_exec(
        PROGRAM, str(home / "ini"),
        stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=asyncio.subprocess.STDOUT,
        user="nobody" if os.geteuid() == 0 else None,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while b"process up" not in (line := await process.stdout.readline()):
                assert line, "pgbouncer ended"
        draining = asyncio.create_task(process.stdout.read())
        try:
            yield f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
            await draining
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        shutil.rmtree(home)
