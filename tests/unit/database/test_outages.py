"""When a database counts as lost and as back: once per outage, whichever statement notices."""

from daemon.database.outages import CONNECT, QUIET, SHORT, UNTRIED, Outages


def test_a_server_that_is_gone_is_back_as_soon_as_anything_works() -> None:
    outages = Outages()
    assert outages.failed("settle", 0.0, answered=False)
    assert not outages.failed("take", 0.1, answered=False)
    assert outages.failing
    assert not outages.worked("read", 0.2)
    assert not outages.failing
    assert outages.worked("read", 0.1 + SHORT)
    assert not outages.worked("read", 2.0 + SHORT)


def test_a_server_that_comes_back_refusing_was_away_once() -> None:
    outages = Outages()
    assert outages.failed("read", 0.0, answered=False)
    assert not outages.worked("read", 0.5)
    assert not outages.failed("settle", 0.6, answered=True)
    assert not outages.worked("read", 5.0)
    assert outages.worked("settle", 5.5)


def test_what_the_server_refuses_one_use_is_not_over_while_others_work() -> None:
    outages = Outages()
    assert outages.failed("settle", 0.0, answered=True)
    for second in range(1, 50):
        assert not outages.worked("read", float(second))
        assert not outages.failed("settle", second + 0.5, answered=True)
    assert outages.failing
    assert not outages.worked("settle", 50.0)
    assert not outages.failing
    assert not outages.worked("read", 49.5 + QUIET - 0.1)
    assert outages.worked("read", 49.5 + QUIET)


def test_a_use_that_works_now_and_then_is_one_outage() -> None:
    outages = Outages()
    assert outages.failed("settle", 0.0, answered=True)
    for turn in range(1, 50):
        assert not outages.worked("settle", turn - 0.5)
        assert not outages.failed("settle", float(turn), answered=True)
    assert not outages.worked("settle", 49.0 + QUIET - 0.1)
    assert outages.worked("settle", 49.0 + QUIET)


def test_a_use_that_nobody_tries_again_does_not_count_for_ever() -> None:
    outages = Outages()
    outages.failed("a page's question", 0.0, answered=True)
    assert not outages.worked("read", UNTRIED - 0.1)
    assert outages.worked("read", UNTRIED)


def test_new_connections_that_are_refused_are_one_outage_while_old_ones_work() -> None:
    outages = Outages()
    assert outages.failed(CONNECT, 0.0, answered=False)
    assert not outages.worked("read", 1.0)
    assert not outages.failed(CONNECT, 2.0, answered=False)
    assert outages.worked(CONNECT, 3.0)


def test_an_outage_that_is_over_is_told_before_all_ends() -> None:
    outages = Outages()
    outages.failed("settle", 0.0, answered=True)
    outages.worked("settle", 0.5)
    assert outages.closed()
    outages.failed("settle", 0.0, answered=True)
    assert not outages.closed()
    assert not outages.closed()
