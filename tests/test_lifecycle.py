"""What systemd is told, over a datagram socket of the test's own."""

import asyncio
import signal
import socket
from pathlib import Path

from tests.daemon_process import running
from tests.whole import Site


async def test_systemd_hears_of_ready_and_stopping(site: Site, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        path = tmp_path / "notify"
        systemd.bind(str(path))
        systemd.setblocking(False)
        environment = site.settings() | {"NOTIFY_SOCKET": str(path)}
        loop = asyncio.get_running_loop()
        async with running(environment, site.folder) as daemon, asyncio.timeout(20):
            assert await loop.sock_recv(systemd, 100) == b"READY=1\nSTATUS=active"
            async with running(environment, site.folder) as standby:
                assert await loop.sock_recv(systemd, 100) == b"READY=1\nSTATUS=standing by"
                assert await standby.stop() == 0
                assert await loop.sock_recv(systemd, 100) == b"STOPPING=1\nSTATUS=draining"
            daemon.signal(signal.SIGTERM)
            assert await loop.sock_recv(systemd, 100) == b"STOPPING=1\nSTATUS=draining"
            assert await daemon.ended() == 0
