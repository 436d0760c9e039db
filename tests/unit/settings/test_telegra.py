"""Settings of receiving notifications, by the contract's table."""

from ipaddress import ip_network
from typing import Any

import pytest

from tests.unit.settings.test_api import PATH, TOKEN, faults, settings

LISTEN = {"api_listen": "127.0.0.1:9465"}
ON = LISTEN | {"telegra_token": "a-Token_of-Telegra-01"}


@pytest.mark.parametrize(
    "texts",
    [
        ON,
        ON | {"click_to_dial_url": PATH, "api_token": TOKEN},
        ON | {"api_listen": "0.0.0.0:9465", "telegra_allow": "192.0.2.7"},
        ON | {"telegra_token": "-_-_-_-_-_-_-_-_"},
        ON | {"telegra_country_code": "1", "telegra_grace": "0"},
        ON | {"telegra_country_code": "423", "telegra_grace": "PT1M"},
    ],
)
def test_these_are_right(texts: dict[str, Any]) -> None:
    assert settings(**texts).telegra_token.get_secret_value() == texts["telegra_token"]


def test_networks_are_read() -> None:
    written = "192.0.2.7, 198.51.100.0/24,2001:db8::/32, ::ffff:10.0.0.1,::ffff:10.1.0.0/112"
    meant = ("192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32", "10.0.0.1/32", "10.1.0.0/16")
    read = settings(**ON, telegra_allow=written)
    assert list(read.telegra_allow) == [ip_network(one) for one in meant]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"telegra_token": "a-Token_of-Telegra-01"}, "API_LISTEN is missing"),
        (LISTEN, "nothing to serve"),
        (ON | {"telegra_token": "short"}, "TELEGRA_TOKEN is not a valid token"),
        (ON | {"telegra_token": "with.a-dot.0123456789"}, "TELEGRA_TOKEN is not a valid token"),
        (ON | {"api_token": "a-Token_of-Telegra-01"}, "use another secret for each"),
        (ON | {"api_listen": "0.0.0.0:9465"}, "TELEGRA_ALLOW is missing"),
        (ON | {"api_listen": "192.0.2.1:9465"}, "TELEGRA_ALLOW is missing"),
        (ON | {"telegra_allow": "192.0.2.0/33"}, "is not a list of addresses"),
        (ON | {"telegra_allow": "acd.example.com"}, "is not a list of addresses"),
        (ON | {"telegra_country_code": "+49"}, "is not a country code"),
        (ON | {"telegra_country_code": "0049"}, "is not a country code"),
        (ON | {"telegra_grace": "-1"}, "TELEGRA_GRACE"),
        (ON | {"api_listen": "127.0.0.1:9464"}, "is the address of CALLSTATSD_HTTP_LISTEN"),
    ],
)
def test_each_fault_has_a_sentence_without_a_secret(texts: dict[str, Any], said: str) -> None:
    (fault,) = faults(**texts)
    assert said in fault
    assert "a-Token_of" not in fault
