"""The demo's second instance: a Telegra ACD tells it of six calls, mixed up and partly twice."""

import asyncio
import random
import secrets
import sys
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from daemon.demo.record_ids import ids
from daemon.errors import CallstatsdError
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import open_ledger
from daemon.lines import State

SCHEMA, LEDGER_SCHEMA = "telegra", "callstatsd_telegra"
WAIT = 60.0
"""Seconds for what must happen."""
FORMS = (("HEAD", "params"), ("GET", "params"), ("PUT", "data"), ("PUT", "json"))
OFF = ("CALLBACK_URL", "CLICK_TO_DIAL_URL", "API_TOKEN", "ACD_URL", "ACD_TOKEN", "ALERT_GROUP_ID",
       "ALERT_INTERVAL", "ALERT_LINK")  # fmt: skip
"""Settings of the first instance that the second one does without."""
RECORD = ids(11)[1]

CALLS = {
    "answered": """
        0 CallStart; 1 Announcement; 4 WaitingQueue group=40; 9 Alerting agent=100001 group=40;
        12 Connected agent=100001 group=40; 30 Holdstart agent=100001; 41 Holdstop agent=100001;
        80 Working agent=100001; 81 CallEnd
    """,
    "missed": """
        0 CallStart; 1 Announcement; 4 WaitingQueue group=40; 9 Alerting agent=100001 group=40;
        24 Timeout agent=100001; 25 Alerting agent=100002 group=40; 40 Timeout agent=100002;
        41 WaitingQueue group=41; 60 CallEnd
    """,
    "transferred": """
        0 CallStart; 1 WaitingQueue group=40; 5 Alerting agent=100001 group=40;
        7 Connected agent=100001 group=40; 30 ConfAgent agent=100001 conf_agent=100003;
        33 ConfConnectedWithAgent agent=100001 conf_agent=100003; 45 ConfTransfer agent=100001;
        50 ForwardGroup agent=100003 group=41; 55 Alerting agent=100004 group=41;
        58 Connected agent=100004 group=41; 95 Working agent=100004; 96 CallEnd
    """,
    "outbound": """
        0 CallStart mode=1; 1 Alerting mode=1 agent=100002; 3 AConnected mode=1 agent=100002;
        14 BConnected mode=1 agent=100002; 70 OutWorking mode=1 agent=100002; 71 CallEnd mode=1
    """,
    "suppressed": """
        0 CallStart; 1 Announcement; 2 WaitingQueue group=41; 6 Alerting agent=100003 group=41;
        8 Connected agent=100003 group=41; 20 Holdstart agent=100003; 25 Holdstop agent=100003;
        50 Working agent=100003; 51 CallEnd
    """,
    "classified late": """
        0 CallStart; 2 WaitingQueue group=40; 6 Alerting agent=100002 group=40;
        9 Connected agent=100002 group=40; 42 Working agent=100002; 43 CallEnd
    """,
}
"""Seconds, eventtype and parameters of each step."""
LINES = 10
"""Data lines of these calls; a late classification gives one more."""
NAMES = {"group": (40, 41), "hotline": (7,), "mandator": (3,)}
Told = dict[str, str]


async def play(
    environment: Mapping[str, str], folder: str, port: int, chance: random.Random
) -> Counter[str]:
    """Run the second instance until its lines are settled; returns how many are in each state."""
    own = _environment(environment, port)
    await _migrate(own, folder)
    dsn = own["CALLSTATSD_LEDGER_DSN"]
    async with _running(own, folder), open_ledger(dsn, LEDGER_SCHEMA) as ledger:
        told = _notifications(datetime.now(UTC))
        mixed = told + chance.sample(told, len(told) // 3)
        chance.shuffle(mixed)
        store = OperatorStore(ledger.database)
        async with aiohttp.ClientSession() as session:
            for number, one in enumerate(mixed):
                await _tell(session, own, one, *FORMS[number % len(FORMS)])
            await _settled(store, LINES)
            late = {
                "cmd": "classificationevent", "callid": f"0{_task(len(CALLS) - 1)}",
                "agent": "100002", "classificationreason": "SOLD", "customerNumber": "4711",
            }  # fmt: skip
            await _tell(session, own, late, *FORMS[0])
            return await _settled(store, LINES + 1)


def _notifications(now: datetime) -> list[Told]:
    """Return what is told of the six calls, which have just ended, and of names."""
    told: list[Told] = [
        {"cmd": "agentstate", kind: f"Demo {kind} {row}", f"{kind}id": str(row)}
        for kind, rows in NAMES.items()
        for row in rows
    ]
    for call, steps in enumerate(CALLS.values()):
        parsed = [step.split() for step in steps.split(";")]
        start = now - timedelta(seconds=float(parsed[-1][0]))
        for at, kind, *pairs in parsed:
            one = _event(call, kind, dict(pair.split("=") for pair in pairs))
            when = start + timedelta(seconds=float(at))
            told.append(
                one | {"id": str(1000 + len(told)), "eventtime": f"{when.timestamp() * 1000:.0f}"}
            )
    told.append(
        {"cmd": "agentstate", "taskid": _task(3), "customerNumber": "4711",
         "requesttext": f"Contact {RECORD}"}
    )  # fmt: skip
    return told


def _event(call: int, kind: str, pairs: Mapping[str, str]) -> Told:
    told = {"cmd": "callevent", "customerNumber": "4711", "taskid": _task(call), "eventtype": kind}
    short = {"agent": "agentid", "group": "groupid"}
    told |= {short.get(name, name): value for name, value in pairs.items()}
    suppressed = list(CALLS)[call] == "suppressed"
    caller = "02212601xxx" if suppressed else f"+49221260{call}"
    if told.get("mode") == "1":
        told |= {"mandatorid": "3", "callingnumber": "08001007", "callednumber": caller}
    else:
        told |= {"hotlineid": "7", "callingnumber": caller, "callednumber": "08001007"}
    if kind == "CallEnd":
        told |= {"tried": "1", "connected": "1" if list(CALLS)[call] != "missed" else "0"}
    return told


def _task(call: int) -> str:
    return f"5F0A1BC{call}"


async def _tell(
    session: aiohttp.ClientSession, own: Mapping[str, str], told: Told, method: str, form: str
) -> None:
    """Tell of something until it is kept, as an ACD with a queue does."""
    url = f"http://{own['CALLSTATSD_API_LISTEN']}/telegra/{own['CALLSTATSD_TELEGRA_TOKEN']}"
    async with asyncio.timeout(WAIT):
        while True:
            with suppress(aiohttp.ClientError):
                given: dict[str, Any] = {form: told}
                async with session.request(method, url, **given) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


async def _settled(store: OperatorStore, least: int) -> Counter[str]:
    """Wait until so many lines are there and settled; returns their states."""
    async with asyncio.timeout(WAIT):
        while True:
            lines = Counter((await store.overview()).lines)
            if lines.total() >= least and not lines[State.PENDING]:
                return +lines
            await asyncio.sleep(0.2)


def _environment(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """Return the settings of the second instance: only the org is the first one's."""
    left_out = {f"CALLSTATSD_{name}" for name in OFF}
    own = {name: value for name, value in environment.items() if name not in left_out}
    return own | {
        "CALLSTATSD_SOURCE_SCHEMAS": SCHEMA,
        "CALLSTATSD_LEDGER_DSN": environment["CALLSTATSD_SOURCE_DSN"],
        "CALLSTATSD_LEDGER_SCHEMA": LEDGER_SCHEMA,
        "CALLSTATSD_SEND_WITHOUT_SALESFORCE_ID": "true",
        "CALLSTATSD_SETTLE_DELAY": "1",
        "CALLSTATSD_TELEGRA_GRACE": "0.5",
        "CALLSTATSD_TELEGRA_TOKEN": secrets.token_hex(16),
        "CALLSTATSD_API_LISTEN": f"127.0.0.1:{port}",
        "CALLSTATSD_HTTP_LISTEN": "",
    }


async def _migrate(own: Mapping[str, str], folder: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "migrate", "--telegra",
        env=own, cwd=folder, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip
    if await process.wait() != 0:
        raise CallstatsdError("callstatsd migrate --telegra failed")


@asynccontextmanager
async def _running(own: Mapping[str, str], folder: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "run",
        env=own, cwd=folder, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def cells(states: Mapping[str, int]) -> Sequence[str]:
    """Return the cells of the last table's line."""
    ended = ", ".join(f"{lines:,} {state}" for state, lines in states.items())
    return ("Telegra", f"{sum(states.values()):,}", f"of {len(CALLS)} calls told by HTTP: {ended}")
