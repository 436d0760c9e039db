"""Simulated faults are repeatable, and every one ends."""

from collections import Counter

from daemon.demo.faults import MAX_PER_LINE, Expiry, FaultInjector, all_faults
from daemon.demo.standin import WRITE_PATH, Incoming, Reply


def request(line: int, started: float, token: str = "Bearer first") -> Incoming:
    headers = {"Authorization": token}
    return Incoming(0, WRITE_PATH, f"{line}-0-0-0", str(line), {}, b"", headers, started)


def a_day(start: float, seed: int) -> list[Reply | None]:
    """Send 200 lines in turn, ten times each, over 30 seconds."""
    day = all_faults(seed, start, seconds=20.0)
    return [day(request(n % 200, start + n / 64)) for n in range(2000)]


def test_the_same_seed_makes_the_same_day() -> None:
    def told(replies: list[Reply | None]) -> list[tuple[int | None, str | None, float]]:
        shown = (reply or Reply() for reply in replies)
        return [(reply.status, reply.cut, reply.delay) for reply in shown]

    assert told(a_day(0.0, seed=1)) == told(a_day(4096.0, seed=1))
    assert told(a_day(0.0, seed=1)) != told(a_day(0.0, seed=2))


def test_a_line_is_struck_by_chance_so_often_and_no_more() -> None:
    day = FaultInjector(1, 0.0)
    struck = Counter(n % 200 for n in range(4000) if day(request(n % 200, 0.0)) is not None)
    assert max(struck.values()) == MAX_PER_LINE
    assert day.counts.total() == struck.total()


def test_a_token_used_before_it_expired_is_refused_and_a_new_one_is_not() -> None:
    day = FaultInjector(1, 0.0, random_faults=(), expiries=(Expiry(10.0),))
    assert day(request(1, 9.9)) is None
    expired = day(request(1, 10.0))
    assert expired is not None
    assert expired.status == 401
    assert day(request(1, 10.1, token="Bearer second")) is None


def test_every_spell_ends_with_the_day() -> None:
    day = all_faults(1, 0.0, seconds=20.0)
    assert all(spell.until <= 20.0 for spell in day.outages)
    assert all(expiry.at <= 20.0 for expiry in day.expiries)
