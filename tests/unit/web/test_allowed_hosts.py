"""Host names under which the page is served."""

import socket

from daemon.web.allowed_hosts import AllowedHosts


def test_where_the_listener_is_not_on_loopback_the_machine_has_more_names() -> None:
    own = socket.gethostname()
    everywhere = AllowedHosts(("0.0.0.0", 9464))
    assert all(
        everywhere.allows(host) for host in (own, f"{own}:9464", "10.1.2.3:9464", "[fd00::1]")
    )
    assert not any(
        everywhere.allows(host) for host in ("evil.example", f"{own}.evil.example", "[x]")
    )
    assert AllowedHosts(("acd.example.com", 9464)).allows("ACD.example.com.:9464")
    assert not AllowedHosts(("127.0.0.1", 9464)).allows("10.1.2.3:9464")
    assert not AllowedHosts(("localhost", 9464)).allows(own + ".example")
    assert "http://[::1]:9464/" in AllowedHosts(("::1", 9464)).advice(("::1", 9464, 0, 0))
