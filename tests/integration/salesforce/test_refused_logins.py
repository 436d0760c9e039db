"""What is said of a login that was refused: what to do, and no secret."""

from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest
from structlog.testing import capture_logs

from daemon.demo import grants
from daemon.demo.standin import Reply
from daemon.errors import CallstatsdError
from daemon.salesforce.oauth import ClientCredentials, Grant, OAuthTokens, Password, TokenError
from tests.support.org import CREDENTIALS, SECRET, Org
from tests.support.raw import free_port

CLOCK = "check this machine's clock, and the host in CALLSTATSD_TOKEN_URL"


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        ("invalid_client_id", "client identifier invalid", "check CALLSTATSD_CLIENT_ID"),
        (
            "invalid_client",
            "invalid client credentials",
            "check CALLSTATSD_CLIENT_ID and CALLSTATSD_CLIENT_SECRET",
        ),
        (
            "unsupported_grant_type",
            "grant type not supported",
            "enable this flow in the connected app",
        ),
        (
            "invalid_grant",
            "authentication failure",
            "check the login, that the flow is enabled and its run-as user active",
        ),
        ("invalid_grant", "Audience validation failed", CLOCK),
        ("invalid_grant", "expired authorization code", CLOCK),
        (
            "invalid_app_access",
            "User is not admin  approved to access this app",
            "let the run-as user use the connected app",
        ),
    ],
)
async def test_a_refused_login_says_what_to_do(org: Org, code: str, says: str, advice: str) -> None:
    org.answer_tokens(Reply(400, {"error": code, "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    phrase = " ".join(says.lower().split())
    assert str(caught.value) == (
        f"no token: the token endpoint answered 400 {code} ({phrase}); {advice}"
    )
    assert isinstance(caught.value, CallstatsdError)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        ("your audience is not ours", CLOCK),
        ("the assertion EXPIRED at noon", CLOCK),
        (
            "what nobody has documented",
            "check the login, that the flow is enabled and its run-as user active",
        ),
    ],
)
async def test_a_description_that_is_not_known_gives_advice_and_is_not_shown(
    org: Org, says: str, advice: str
) -> None:
    org.answer_tokens(Reply(400, {"error": "invalid_grant", "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    assert str(caught.value) == (
        f"no token: the token endpoint answered 400 invalid_grant; {advice}"
    )


async def test_an_unreachable_token_endpoint_is_named_by_its_host(org: Org) -> None:
    url = f"http://127.0.0.1:{free_port()}/token?key={SECRET}"
    with pytest.raises(TokenError) as caught:
        await OAuthTokens(org.session, url, CREDENTIALS).token()
    assert str(caught.value) == (
        "the token endpoint at 127.0.0.1 cannot be reached: connection refused; "
        "check CALLSTATSD_TOKEN_URL and the network (firewall, proxy)"
    )
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "grant",
    [
        ClientCredentials(grants.CLIENT_ID, SECRET),
        Password(grants.CLIENT_ID, SECRET, grants.USERNAME, SECRET),
        Password(grants.CLIENT_ID, grants.CLIENT_SECRET, grants.USERNAME, SECRET),
    ],
    ids=["client secret", "both", "password"],
)
async def test_no_error_of_a_refused_login_holds_a_secret(org: Org, grant: Grant) -> None:
    with pytest.raises(TokenError) as caught:
        await org.tokens(grant).token()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in repr(caught.value.answer)


SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "form": quote_plus,
    "percent": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "base64": lambda value: b64encode(value.encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "upper case": str.upper,
    "spaced": " ".join,
    "backwards": lambda value: value[::-1],
    "escaped": lambda value: "".join(f"\\u{ord(character):04x}" for character in value),
    "long": lambda value: value * 1000,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("status", [400, 503])
async def test_whatever_a_token_endpoint_echoes_is_neither_shown_nor_logged(
    org: Org, status: int, shape: Callable[[str], str]
) -> None:
    """Also in another shape: only known codes and phrases are, and our own words."""
    echo = shape(SECRET)
    org.answer_tokens(
        Reply(status, {"error": echo, "error_description": f"client_secret={echo} is wrong"})
    )
    grant = Password(grants.CLIENT_ID, SECRET, grants.USERNAME, f"{SECRET}Token")
    with capture_logs() as logs, pytest.raises(TokenError) as caught:
        await org.tokens(grant).token()
    advice = (
        "check CALLSTATSD_TOKEN_URL and the connected app" if status == 400 else "it is tried again"
    )
    assert str(caught.value) == f"no token: the token endpoint answered {status}; {advice}"
    assert echo[:20] not in repr(caught.value.answer) + repr(logs)


@pytest.mark.parametrize("error", [None, 1, True, [], {}, ["invalid_grant"], {"a": "b"}])
@pytest.mark.parametrize("says", [None, 1, True, [], {}, ["expired"], "x" * 60_000])
async def test_errors_of_another_type_say_nothing(org: Org, error: object, says: object) -> None:
    org.answer_tokens(Reply(400, {"error": error, "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    assert str(caught.value) == (
        "no token: the token endpoint answered 400; "
        "check CALLSTATSD_TOKEN_URL and the connected app"
    )
