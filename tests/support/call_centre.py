"""A whole call centre of a test's own: databases, Salesforce, settings, and commands over them."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from daemon.demo.standin import StandIn
from tests.support.daemon_process import PATIENCE, command, settings
from tests.support.preloaded import Process

STOPPED_IN_ORDER = """
INSERT INTO instance (host, pid, version, started_at, beat_at, stopped_at, state, lease, ledger_oid)
VALUES ('earlier', 1, '0', now(), now(), now(), 'stopped', 'earlier-1', 'ledger'::regclass)
"""
"""An instance was here before, so that the next one sends at once."""


@dataclass
class CallCentre:
    """A call centre of the test's own: its database, its Salesforce, its settings."""

    dsn: str
    url: str
    salesforce: StandIn
    db: asyncpg.Connection
    folder: Path

    def settings(self, **more: str) -> dict[str, str]:
        return settings(self.dsn, self.url, **more)

    async def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        return await command(*arguments, environment=self.settings(**more), folder=self.folder)

    async def start(self, *arguments: str, **more: str) -> Process:
        """Start a command; whoever starts it waits for its end."""
        environment = self.settings(**more)
        return await Process.start(*arguments, environment=environment, folder=self.folder)

    async def run_json(self, *arguments: str, **more: str) -> Any:
        """Run a command with --json that must succeed; returns what it says."""
        code, output, errors = await self.run(*arguments, "--json", **more)
        assert code == 0, errors
        return json.loads(output)

    async def states(self) -> Counter[str]:
        rows = await self.db.fetch("SELECT state, count(*) AS n FROM line GROUP BY state")
        return Counter({row["state"]: row["n"] for row in rows})

    async def until(self, **states: int) -> None:
        """Wait until exactly these states are in the ledger."""
        async with asyncio.timeout(PATIENCE):
            while await self.states() != Counter(states):
                await asyncio.sleep(0.02)
