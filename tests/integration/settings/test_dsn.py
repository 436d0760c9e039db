"""A password in a DSN: it connects, or one line says how it is written and shows none of it."""

import asyncio
import itertools
import string
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from daemon.database.pool import Database
from daemon.errors import CallstatsdError
from daemon.settings.dsn import CODES, Dsn, read_dsn
from tests.support.daemon_process import command, settings

SPECIAL = "@:/#?%[]"
WORD = "Xq7"
PASSWORDS = [
    pattern.replace("*", character)
    for character in SPECIAL
    for pattern in ("*", "**", f"*{WORD}", f"{WORD}*", f"{WORD}*{WORD}")
]

_numbers = itertools.count(1)


@pytest.fixture
async def admin(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser, of a server that asks everybody named `pw_…` for a password."""
    connection = await asyncpg.connect(empty_dsn)
    hba = await connection.fetchval("SHOW hba_file")
    with open(hba, encoding="ascii") as file:  # noqa: ASYNC230, PTH123
        rules = file.read()
    if "/^pw_" not in rules:
        with open(hba, "w", encoding="ascii") as file:  # noqa: ASYNC230, PTH123
            file.write(f"local all /^pw_ scram-sha-256\n{rules}")
        await connection.execute("SELECT pg_reload_conf()")
    try:
        yield connection
    finally:
        await connection.close()


async def user_with(admin: asyncpg.Connection, password: str) -> str:
    name = f"pw_{next(_numbers)}"
    literal = await admin.fetchval("SELECT quote_literal($1::text)", password)
    await admin.execute(f"SET scram_iterations = 1; CREATE ROLE {name} LOGIN PASSWORD {literal}")
    return name


def dsn_of(empty_dsn: str, user: str, password: str) -> str:
    return empty_dsn.replace("//postgres@", f"//{user}:{password}@")


def read_or_refuse(text: str) -> tuple[Dsn | None, str]:
    try:
        return read_dsn(text), ""
    except ValueError as refused:
        return None, str(refused)


async def connects(dsn: str) -> bool:
    """Whether the daemon's own way to a database gets in with a DSN that settings let pass."""
    async with Database("source", dsn, session={}, size=1) as database:
        connection = await database.connect()
        user: str = await connection.fetchval("SELECT current_user")
        await connection.close()
    return user.startswith("pw_")


async def test_the_server_asks_for_the_password(admin: asyncpg.Connection, empty_dsn: str) -> None:
    user = await user_with(admin, "right")
    with pytest.raises(CallstatsdError, match="password authentication failed"):
        await connects(dsn_of(empty_dsn, user, "wrong"))


@pytest.mark.parametrize("password", PASSWORDS)
async def test_an_encoded_password_connects(
    admin: asyncpg.Connection, empty_dsn: str, password: str
) -> None:
    user = await user_with(admin, password)
    written = "".join(CODES.get(character, character) for character in password)
    dsn = dsn_of(empty_dsn, user, written)
    assert await connects(read_dsn(dsn).url)
    option = empty_dsn.replace("//postgres@", "//") + f"&user={user}&password={written}"
    assert await connects(read_dsn(option).url)


@pytest.mark.parametrize("password", PASSWORDS)
async def test_a_raw_password_connects_or_is_refused_without_showing_it(
    admin: asyncpg.Connection, empty_dsn: str, password: str
) -> None:
    user = await user_with(admin, password)
    dsn, refusal = read_or_refuse(dsn_of(empty_dsn, user, password))
    if dsn is not None:
        assert await connects(dsn.url)
        assert WORD not in dsn.place
    else:
        assert WORD not in refusal
        assert all(f"{code} for {character}" in refusal for character, code in CODES.items())


async def test_random_passwords_connect_or_are_refused(
    admin: asyncpg.Connection, empty_dsn: str
) -> None:
    """In the login and as an option, raw and encoded; one event loop for all examples."""
    printable = string.ascii_letters + string.digits + string.punctuation + " äß€\t"
    loop = asyncio.get_running_loop()
    user = await user_with(admin, "first")

    @trials(deadline=None)
    @given(password=st.text(SPECIAL + "a1&=+;,. " + printable, min_size=1, max_size=12))
    def tried(password: str) -> None:
        asyncio.run_coroutine_threadsafe(trial(password), loop).result()

    async def trial(password: str) -> None:
        literal = await admin.fetchval("SELECT quote_literal($1::text)", password)
        await admin.execute(f"SET scram_iterations = 1; ALTER ROLE {user} PASSWORD {literal}")
        encoded = quote(password, safe="")
        assert await connects(read_dsn(dsn_of(empty_dsn, user, encoded)).url)
        option = empty_dsn.replace("//postgres@", "//") + f"&user={user}&password={encoded}"
        assert await connects(read_dsn(option).url)
        raw, _ = read_or_refuse(dsn_of(empty_dsn, user, password))
        if raw is not None and "%" not in password:
            assert await connects(raw.url)

    await asyncio.to_thread(tried)


@trials(deadline=None)
@given(
    password=st.text(SPECIAL + "a1=&,", min_size=1, max_size=10),
    host=st.sampled_from(["h", "h:5432", "h1,h2", "[::1]:5432", ""]),
    rest=st.sampled_from(["/acd", "/acd?sslmode=require", "", "?dbname=acd"]),
)
def test_no_piece_of_a_raw_password_is_ever_a_host_or_a_database(
    password: str, host: str, rest: str
) -> None:
    dsn, refusal = read_or_refuse(f"postgresql://acd:{password}@{host}{rest}")
    if dsn is None:
        assert "\n" not in refusal
    else:
        assert dsn.place.split(" on ")[0] == "acd"
        assert dsn.url.rpartition("@")[2] == f"{host}{rest}"


@pytest.mark.parametrize("variable", ["source_dsn", "ledger_dsn"])
@pytest.mark.parametrize("name", ["run", "migrate", "status"])
async def test_a_torn_dsn_ends_a_command_with_78_and_shows_nothing_of_it(
    name: str, variable: str, tmp_path: Path, empty_dsn: str
) -> None:
    for password in (f"@/{WORD}", f"1?{WORD}=x"):
        environment = settings(
            empty_dsn, "http://127.0.0.1:1", **{variable: f"postgresql://acd:{password}@h/acd"}
        )
        code, output, errors = await command(name, environment=environment, folder=tmp_path)
        assert code == 78, errors
        assert len((output + errors).splitlines()) == 1
        assert f"CALLSTATSD_{variable.upper()} is not a valid Postgres URL" in errors
        assert WORD not in output + errors


async def test_migrate_and_status_work_with_every_character_in_the_password(
    admin: asyncpg.Connection, empty_dsn: str, tmp_path: Path
) -> None:
    user = await user_with(admin, SPECIAL)
    await admin.execute(f"ALTER ROLE {user} SUPERUSER")
    dsn = dsn_of(empty_dsn, user, quote(SPECIAL, safe=""))
    environment = settings(dsn, "http://127.0.0.1:1", ledger_dsn=dsn)
    for arguments in (("migrate", "--reference-schema"), ("status",)):
        code, output, errors = await command(*arguments, environment=environment, folder=tmp_path)
        assert code == 0, errors
        assert quote(SPECIAL, safe="") not in output + errors
