"""Which URLs may receive a secret."""

import pytest

from daemon.urls import allows_secrets, is_safe_base


@pytest.mark.parametrize(
    ("scheme", "host", "allowed"),
    [
        ("https", "example.my.salesforce.com", True),
        ("http", "example.my.salesforce.com", False),
        ("http", "localhost", True),
        ("http", "127.0.0.1", True),
        ("http", "::1", True),
        ("http", "[::1]", True),
        ("http", "localhost.example.com", False),
        ("http", "127.0.0.1.example.com", False),
        ("ftp", "localhost", False),
    ],
)
def test_secrets_leave_this_machine_by_https_only(scheme: str, host: str, allowed: bool) -> None:
    assert allows_secrets(scheme, host) is allowed


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://example.my.salesforce.com", True),
        ("https://example.my.salesforce.com:8443/base/", True),
        ("https://10.20.30.40", True),
        ("http://127.0.0.1:8080/", True),
        ("http://[::1]:8080", True),
        ("http://127.0.0.1/path", False),
        ("http://127.0.0.999", False),
        ("http://example.com", False),
        ("https://[::1]", False),
        ("https://example.com:0", False),
        ("https://example.com:65536", False),
        ("https://10.20.30.400", False),
        ("https://user@example.com", False),
        ("https://-example.com", False),
        ("https://example.com/a?b", False),
        ("", False),
    ],
)
def test_a_base_url_is_safe_if_its_host_can_exist(url: str, safe: bool) -> None:
    assert is_safe_base(url) is safe
