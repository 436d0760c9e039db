"""Settings of click to dial and its listener, by the contract's table."""

from typing import Any

import pytest

from daemon.errors import ConfigurationError
from daemon.settings.loading import validate
from daemon.settings.model import Settings
from daemon.settings.sources import Found

PATH = "/services/apexrest/jtelACD/onClickToDial"
TOKEN = "0123456789abcdef"


def settings(**texts: str) -> Settings:
    found = Found("the test")
    usual = {
        "source_dsn": "postgresql://acd@db.example.com/jtel",
        "token_url": "https://org.example.com/services/oauth2/token",
        "client_id": "id",
        "client_secret": "secret",
    }
    found.texts.update(usual | texts)
    return validate(found, to_send=True)


def faults(**texts: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        settings(**texts)
    assert raised.value.exit_code == 78
    return raised.value.faults


def test_it_is_off_until_it_is_set() -> None:
    read = settings()
    assert (read.click_to_dial_url, read.api_listen, read.click_to_dial_fallback) == ("", None, "")
    assert read.click_to_dial_timeout == 3


@pytest.mark.parametrize(
    "texts",
    [
        {"click_to_dial_url": PATH},
        {"click_to_dial_url": "https://org.example.com/ask?tenant=1"},
        {"click_to_dial_url": PATH, "api_listen": "127.0.0.1:9465", "api_token": TOKEN},
        {"click_to_dial_url": PATH, "api_listen": "[::1]:9465", "api_token": "!~" * 8},
        {"click_to_dial_url": PATH, "click_to_dial_timeout": "0.1"},
        {"click_to_dial_url": PATH, "click_to_dial_timeout": "PT30S"},
        {"api_token": TOKEN},
    ],
)
def test_these_are_right(texts: dict[str, Any]) -> None:
    assert settings(**texts).click_to_dial_url == texts.get("click_to_dial_url", "")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"click_to_dial_url": PATH, "api_listen": "127.0.0.1:9465"}, "API_TOKEN is missing"),
        ({"api_listen": "127.0.0.1:9465", "api_token": TOKEN}, "nothing to serve"),
        ({"api_listen": "127.0.0.1:9465"}, "nothing to serve"),
        ({"api_token": TOKEN[:-1]}, "at least 16 printable ASCII"),
        ({"api_token": "with a blank in it"}, "at least 16 printable ASCII"),
        ({"api_token": "füllwörter-genug-da"}, "at least 16 printable ASCII"),
        (
            {
                "click_to_dial_url": PATH,
                "api_listen": "127.0.0.1:9464",
                "api_token": TOKEN,
            },
            "CALLSTATSD_API_LISTEN is the address of CALLSTATSD_HTTP_LISTEN",
        ),
        ({"click_to_dial_url": PATH, "click_to_dial_timeout": "0.05"}, "use at least 0.1"),
        ({"click_to_dial_url": PATH, "click_to_dial_timeout": "31"}, "use at most 30"),
        ({"click_to_dial_url": "http://org.example.com/ask"}, "is not encrypted"),
        ({"click_to_dial_url": "//org.example.com/ask"}, "is not an absolute URL"),
    ],
)
def test_each_fault_is_one_sentence(texts: dict[str, str], said: str) -> None:
    [fault] = faults(**texts)
    assert said in fault
    assert texts.get("api_token", TOKEN) not in fault


@pytest.mark.parametrize("auth", ["none", "bearer"])
def test_a_path_needs_a_token_that_gives_the_host(auth: str) -> None:
    [fault] = faults(
        auth=auth,
        bearer_token="t",
        endpoint_url="https://org.example.com/write",
        click_to_dial_url=PATH,
    )
    assert fault.startswith("CALLSTATSD_CLICK_TO_DIAL_URL=")
    assert "is a path" in fault
