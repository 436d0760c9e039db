"""`check` names what is wrong, where, and what to do; it never sends a line."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiohttp import web

from daemon.cli.check import check
from daemon.demo.standin import DIAL_PATH
from daemon.settings.loading import load_settings
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running
from tests.support.pooler import free_port

MISSING = [{"errorCode": "NOT_FOUND", "message": "Could not find a match for URL"}]
NO_GET = [{"errorCode": "METHOD_NOT_ALLOWED", "message": "HTTP Method 'GET' not allowed."}]
NO_ACCESS = [
    {"errorCode": "FORBIDDEN", "message": "You do not have access to the Apex class named: X"}
]
USED_UP = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
EXPIRED = [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}]


async def findings(centre: CallCentre, **more: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Check in this process: the exit code, and the findings by name."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in centre.settings(**more).items():
            patch.setenv(name, value)
        settings = load_settings()
    found = [finding async for finding in check(settings)]
    by_name = {one.name: {"verdict": str(one.verdict), "text": one.text} for one in found}
    return max(one.exit_code for one in found), by_name


# The endpoint


@dataclass
class Org:
    """A server that answers every request alike, and remembers them."""

    status: int
    body: Any
    seen: list[tuple[str, bytes, str | None]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization")
        self.seen.append((request.method, await request.read(), authorization))
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body, content_type="text/html")
        return web.json_response(self.body, status=self.status)


@asynccontextmanager
async def answering(org: Org) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", org.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/services/apexrest/x"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (405, NO_GET, 0, "exists"),
        (200, {"calls": 3}, 0, "exists"),
        (404, {"message": "no such record"}, 0, "exists"),
        (400, {"message": "no record id"}, 0, "exists"),
        (500, [{"errorCode": "APEX_ERROR", "message": "x"}], 0, "exists"),
        (404, MISSING, 78, "no Apex REST class answers at"),
        (404, "<html>Not found</html>", 78, "answers with a web page"),
        (401, EXPIRED, 78, "refuses the token"),
        (403, NO_ACCESS, 78, "Apex class access"),
        (403, USED_UP, 69, "daily API calls are used up"),
        (302, {}, 78, "redirects"),
        (503, {}, 69, "try again later"),
    ],
)
async def test_check_asks_the_endpoint_and_sends_nothing(
    centre: CallCentre, status: int, body: Any, code: int, says: str
) -> None:
    org = Org(status, body)
    async with answering(org) as url:
        ended, found = await findings(
            centre, auth="bearer", bearer_token="a-token", endpoint_url=url
        )
    assert says in found["endpoint"]["text"]
    assert found["endpoint"]["verdict"] == ("fail" if code else "ok")
    assert ended == code
    assert org.seen == [("GET", b"", "Bearer a-token")]


async def test_check_of_an_endpoint_that_nobody_serves_names_host_port_and_setting(
    centre: CallCentre,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/x"
    code, found = await findings(centre, auth="none", endpoint_url=url)
    assert code == 69
    text = found["endpoint"]["text"]
    assert f"127.0.0.1:{port} cannot be reached: connection refused" in text
    assert "CALLSTATSD_ENDPOINT_URL" in text


async def test_check_takes_the_path_under_the_org_of_the_token(centre: CallCentre) -> None:
    code, found = await findings(centre)
    assert (code, found["endpoint"]["verdict"]) == (0, "ok")
    code, found = await findings(centre, endpoint_url="/services/apexrest/other")
    assert (code, found["endpoint"]["verdict"]) == (78, "fail")
    assert "deploy it" in found["endpoint"]["text"]
    assert centre.salesforce.received == 0
    assert centre.salesforce.violations == []


# A new installation, and whose calls there are


async def test_a_new_installation_shows_no_warning(centre: CallCentre) -> None:
    code, found = await findings(centre, clients_id="", http_listen=f"127.0.0.1:{free_port()}")
    assert code == 0
    assert {one["verdict"] for one in found.values()} == {"ok"}, found
    assert found["clock"]["text"] == "there is no call in StatisticsPartA yet"


async def test_before_migrate_only_the_ledger_is_to_be_made(
    centre: CallCentre, empty_dsn: str
) -> None:
    code, found = await findings(centre, ledger_dsn=empty_dsn, clients_id="7")
    assert code == 78
    assert {name for name, one in found.items() if one["verdict"] != "ok"} == {"ledger"}
    assert "run `callstatsd migrate`" in found["ledger"]["text"]


async def test_check_shows_the_newest_calls_local_time_to_compare(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.db.execute("UPDATE StatisticsPartA SET dtCallStart = now() - interval '5 h'")
    started = await centre.db.fetchval(
        "SELECT to_char(dtCallStart AT TIME ZONE 'Asia/Tokyo', 'YYYY-MM-DD HH24:MI:SS') "
        "FROM StatisticsPartA"
    )
    _, found = await findings(centre, source_timezone="Asia/Tokyo")
    assert f"started at {started} Asia/Tokyo" in found["clock"]["text"]
    assert found["clock"]["verdict"] == "ok"


async def test_check_names_a_client_that_no_call_has(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.db.execute("UPDATE ledger SET clients_id = 7")
    code, found = await findings(centre, clients_id="7")
    assert code == 0
    assert found["client"]["verdict"] == "warn"
    assert "none of the newest calls belongs to client 7" in found["client"]["text"]
    await centre.db.execute("UPDATE StatisticsPartA SET ClientsID = 7")
    _, found = await findings(centre, clients_id="7")
    assert found["client"]["verdict"] == "ok"


# The listener


async def test_check_says_who_has_the_address_of_the_page(centre: CallCentre) -> None:
    port = free_port()
    listen = {"http_listen": f"127.0.0.1:{port}"}
    _, found = await findings(centre, **listen)
    assert found["listen"]["verdict"] == "ok"
    with socket.create_server(("127.0.0.1", port)):
        code, found = await findings(centre, **listen)
    assert (code, found["listen"]["verdict"]) == (0, "warn")
    assert f"127.0.0.1:{port} is in use by another program" in found["listen"]["text"]
    assert "CALLSTATSD_HTTP_LISTEN" in found["listen"]["text"]


def api_at(port: int) -> dict[str, str]:
    """Settings of a listener for click to dial."""
    return {
        "click_to_dial_url": DIAL_PATH, "api_token": "a-Token-of-ours-0123",
        "api_listen": f"127.0.0.1:{port}",
    }  # fmt: skip


async def test_check_says_whether_the_address_of_the_api_can_be_used(
    centre: CallCentre, empty_dsn: str
) -> None:
    """Where nobody can say whether a daemon runs, it may be the one that has the address."""
    port = free_port()
    _, found = await findings(centre, **api_at(port))
    assert found["api"] == {"verdict": "ok", "text": f"127.0.0.1:{port} is free"}
    _, found = await findings(centre)
    assert "api" not in found
    with socket.create_server(("127.0.0.1", port)):
        code, found = await findings(centre, **api_at(port))
        assert (code, found["api"]["verdict"]) == (0, "warn")
        assert f"127.0.0.1:{port} is in use by another program" in found["api"]["text"]
        assert "CALLSTATSD_API_LISTEN" in found["api"]["text"]
        away = f"postgresql://x@127.0.0.1:{free_port()}/x"
        for unknown in ({"source_dsn": away, "ledger_dsn": centre.dsn}, {"ledger_dsn": empty_dsn}):
            _, found = await findings(centre, **api_at(port), **unknown)
            assert found["api"]["verdict"] == "ok"
            assert "is in use, perhaps by a daemon" in found["api"]["text"]


async def test_the_daemon_of_this_very_ledger_may_have_the_address(
    centre: CallCentre, empty_dsn: str
) -> None:
    listen = {"http_listen": f"127.0.0.1:{free_port()}"} | api_at(free_port())
    async with running(centre.settings(**listen), centre.folder) as daemon:
        await daemon.until("daemon.started")
        _, found = await findings(centre, **listen)
        assert found["api"]["verdict"] == "ok"
        assert "in use while a daemon of this ledger runs" in found["api"]["text"]
        assert found["listen"]["verdict"] == "ok"
        assert "by a daemon of this ledger" in found["listen"]["text"]
        _, found = await findings(centre, ledger_dsn=empty_dsn, **listen)
        assert found["listen"]["verdict"] == "warn"
        assert "by a callstatsd of another ledger" in found["listen"]["text"]
        assert await daemon.stop() == 0


# Databases that cannot be used


def through(dsn: str, host: str, **options: str) -> str:
    """The same database by another address."""
    parts = urlsplit(dsn)
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql://postgres:hush-hush@{host}{parts.path}?{query}"


async def test_a_refused_connection_names_host_port_and_setting(centre: CallCentre) -> None:
    port = free_port()
    dsn = through(centre.dsn, f"127.0.0.1:{port}")
    code, found = await findings(centre, source_dsn=centre.dsn, ledger_dsn=dsn)
    assert code == 69
    assert found["ledger"]["text"].startswith(
        f"the ledger database cannot be used now: 127.0.0.1:{port}: connection refused; "
        "start Postgres there, or correct host and port in CALLSTATSD_LEDGER_DSN"
    )
    assert "hush" not in str(found)


async def test_an_unknown_host_is_named(centre: CallCentre) -> None:
    dsn = through(centre.dsn, "no-such-host.invalid:5432")
    code, found = await findings(centre, source_dsn=dsn, ledger_dsn=centre.dsn)
    text = found["source"]["text"]
    assert code == 69
    assert "no-such-host.invalid:5432: " in text
    assert "name" in text  # unknown, or a name server that does not answer
    assert "CALLSTATSD_SOURCE_DSN" in text


async def test_a_database_that_does_not_exist_is_named(centre: CallCentre) -> None:
    other = urlsplit(centre.dsn)._replace(path="/nowhere").geturl()
    code, found = await findings(centre, source_dsn=centre.dsn, ledger_dsn=other)
    assert code == 69
    assert 'database "nowhere" does not exist at the socket in /' in found["ledger"]["text"]
    assert "correct the database in CALLSTATSD_LEDGER_DSN" in found["ledger"]["text"]


async def test_a_missing_right_is_named_with_the_statements_that_give_it(
    centre: CallCentre, empty_dsn: str
) -> None:
    name = await centre.db.fetchval("SELECT current_database()")
    await centre.db.execute(f"CREATE ROLE clerk_{name} LOGIN")
    try:
        clerk = empty_dsn.replace("postgres@", f"clerk_{name}@")
        reader = centre.dsn.replace("postgres@", f"clerk_{name}@")
        code, found = await findings(centre, source_dsn=reader, ledger_dsn=clerk)
        assert code == 78
        assert "this user may not create it" in found["ledger"]["text"]
        assert f"`callstatsd migrate --sql --grant-to clerk_{name}`" in found["ledger"]["text"]
        assert "grant USAGE on the schema" in found["columns"]["text"]
        await centre.db.execute(f"GRANT USAGE ON SCHEMA jtelstats TO clerk_{name}")
        _, found = await findings(centre, source_dsn=reader, ledger_dsn=clerk)
        assert "permission denied for" in found["rights"]["text"]
        assert f"--grant-to clerk_{name}`" in found["rights"]["text"]
    finally:
        await centre.db.execute(f"DROP OWNED BY clerk_{name}")
        await centre.db.execute(f"DROP ROLE clerk_{name}")


class Imitation:
    """A Postgres that offers TLS with its own certificate, or answers the start with an error."""

    def __init__(self, *, context: ssl.SSLContext | None = None, error: bytes = b"") -> None:
        self.context = context
        self.error = error

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(4), "big")
            body = await reader.readexactly(length - 4)
            if body == b"\x04\xd2\x16\x2f":  # SSLRequest
                writer.write(b"S" if self.context else b"N")
                await writer.drain()
                if self.context:
                    await writer.start_tls(self.context)
                    await reader.read(1)
                    return
                length = int.from_bytes(await reader.readexactly(4), "big")
                await reader.readexactly(length - 4)
            writer.write(b"E" + (len(self.error) + 5).to_bytes(4, "big") + self.error + b"\0")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


async def test_a_certificate_that_is_not_trusted_is_named(
    centre: CallCentre, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    await asyncio.to_thread(
        subprocess.run,
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-days", "2",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Imitation(context=context).listening() as port:
        dsn = through(centre.dsn, f"localhost:{port}", sslmode="verify-full")
        dsn += "&sslrootcert=/etc/ssl/certs/ca-certificates.crt"
        code, found = await findings(centre, source_dsn=centre.dsn, ledger_dsn=dsn)
    text = found["ledger"]["text"]
    assert code == 69, text
    assert f"localhost:{port}: its certificate is not trusted: self-signed certificate" in text
    assert "sslrootcert= in CALLSTATSD_LEDGER_DSN" in text


async def test_a_server_without_tls_is_named(centre: CallCentre) -> None:
    async with Imitation().listening() as port:
        dsn = through(centre.dsn, f"127.0.0.1:{port}", sslmode="require")
        code, found = await findings(centre, source_dsn=centre.dsn, ledger_dsn=dsn)
    assert code == 69
    assert "the server offers no TLS" in found["ledger"]["text"]


@pytest.mark.parametrize(
    ("sqlstate", "message", "says"),
    [
        ("28P01", 'password authentication failed for user "x"', "correct user and password in"),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.1"', "let a DBA allow it to log in"),
        ("53300", "sorry, too many clients already", "max_connections"),
    ],
)
async def test_a_refused_login_names_what_to_correct(
    centre: CallCentre, sqlstate: str, message: str, says: str
) -> None:
    error = f"SFATAL\0C{sqlstate}\0M{message}\0".encode()
    async with Imitation(error=error).listening() as port:
        dsn = through(centre.dsn, f"127.0.0.1:{port}", sslmode="disable")
        code, found = await findings(centre, source_dsn=centre.dsn, ledger_dsn=dsn)
    text = found["ledger"]["text"]
    assert code == 69
    assert f"{message} at 127.0.0.1:{port}; " in text
    assert says in text
    assert "hush" not in text


async def test_the_command_shows_it_too(centre: CallCentre) -> None:
    dsn = through(centre.dsn, f"127.0.0.1:{free_port()}")
    code, output, errors = await centre.run("check", source_dsn=centre.dsn, ledger_dsn=dsn)
    assert (code, errors) == (69, "")
    assert "connection refused; start Postgres there" in output
    assert "hush" not in output


async def test_no_class_of_an_exception_is_shown(
    centre: CallCentre, db: asyncpg.Connection
) -> None:
    """Of what a trigger says only its SQLSTATE: it may name a caller."""
    await db.execute(
        """
        CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'a caller'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON callstatsd.ledger
        FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
        """
    )
    code, _, errors = await centre.run("pause")
    assert code == 69
    assert "the server answered SQLSTATE P0001" in errors
    assert "Error" not in errors
    assert "a caller" not in errors
