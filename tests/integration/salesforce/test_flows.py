"""Each login flow, and that nothing secret is shown."""

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from daemon.demo import grants
from daemon.demo.standin import TOKEN_PATH, WRITE_PATH, Reply
from daemon.errors import ConfigurationError
from daemon.salesforce.client import EndpointUrl
from daemon.salesforce.oauth import (
    ASSERTION_LIFE,
    ClientCredentials,
    FixedToken,
    Password,
    Token,
    TokenError,
    jwt_bearer,
)
from tests.support.org import SECRET, Org


async def test_the_client_credentials_flow_sends_id_and_secret(org: Org) -> None:
    org.answer_tokens()
    token = await org.tokens().token()
    assert org.token_forms == [
        {
            "grant_type": "client_credentials",
            "client_id": grants.CLIENT_ID,
            "client_secret": grants.CLIENT_SECRET,
        }
    ]
    assert token == Token(f"Bearer {next(iter(org.standin.tokens))}", org.url)


async def test_the_password_flow_sends_the_password_with_its_security_token(org: Org) -> None:
    org.answer_tokens()
    password = grants.PASSWORD + grants.SECURITY_TOKEN
    await org.tokens(
        Password(grants.CLIENT_ID, grants.CLIENT_SECRET, grants.USERNAME, password)
    ).token()
    assert org.token_forms == [
        {
            "grant_type": "password",
            "client_id": grants.CLIENT_ID,
            "client_secret": grants.CLIENT_SECRET,
            "username": grants.USERNAME,
            "password": password,
        }
    ]


async def test_a_form_may_hold_any_character(org: Org) -> None:
    org.answer_tokens(Reply(400, {}))
    odd = "a&b=c+d %20ö\N{GRINNING FACE}"
    with pytest.raises(TokenError):
        await org.tokens(Password("id", odd, "user", odd)).token()
    assert (org.token_forms[0]["client_secret"], org.token_forms[0]["password"]) == (odd, odd)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def key_file(private_key: rsa.RSAPrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(private_key))
    return path


async def test_the_jwt_bearer_flow_signs_who_asks_for_whom_and_until_when(
    org: Org, private_key: rsa.RSAPrivateKey, key_file: Path
) -> None:
    org.answer_tokens()
    before = int(time.time())
    await org.tokens(
        jwt_bearer(grants.CLIENT_ID, grants.USERNAME, key_file, org.url + TOKEN_PATH)
    ).token()
    after = int(time.time())
    [form] = org.token_forms
    assertion = form.pop("assertion")
    assert form == {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
    assert jwt.get_unverified_header(assertion)["alg"] == "RS256"
    claims = jwt.decode(
        assertion,
        private_key.public_key(),
        algorithms=["RS256"],
        audience="https://login.salesforce.com",
    )
    expires = claims.pop("exp")
    assert before + ASSERTION_LIFE <= expires <= after + ASSERTION_LIFE
    assert 0 < ASSERTION_LIFE <= 300
    assert claims == {
        "iss": grants.CLIENT_ID,
        "sub": grants.USERNAME,
        "aud": "https://login.salesforce.com",
    }


@pytest.mark.parametrize(
    ("host", "audience"),
    [
        ("login.salesforce.com", "https://login.salesforce.com"),
        ("example.my.salesforce.com", "https://login.salesforce.com"),
        ("test.salesforce.com", "https://test.salesforce.com"),
        ("example--dev.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("EXAMPLE--DEV.SANDBOX.my.salesforce.com", "https://test.salesforce.com"),
        ("test.salesforce.com.example.com", "https://login.salesforce.com"),
    ],
)
def test_the_audience_is_productions_or_the_sandboxes_login_host(
    key_file: Path, host: str, audience: str
) -> None:
    grant = jwt_bearer("id", "user", key_file, f"https://{host}{TOKEN_PATH}")
    claims = jwt.decode(grant.form()["assertion"], options={"verify_signature": False})
    assert claims["aud"] == audience


@pytest.mark.parametrize("content", [None, b"\xff\xfe not ascii"], ids=["missing", "not ascii"])
def test_a_key_that_cannot_be_read_is_a_fault_of_the_configuration(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="CALLSTATSD_PRIVATE_KEY_FILE"):
        jwt_bearer("id", "user", path, "https://login.salesforce.com/")


NO_KEYS = {
    "empty": b"",
    "text": b"not a key",
    "broken": b"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
    "elliptic": pem(ec.generate_private_key(ec.SECP256R1())),
}


@pytest.mark.parametrize("content", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_a_file_that_holds_no_rsa_key_is_a_fault_of_the_configuration(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="CALLSTATSD_PRIVATE_KEY_FILE must be a PEM file"):
        jwt_bearer("id", "user", path, "https://login.salesforce.com/")


def test_a_public_or_locked_key_is_a_fault_of_the_configuration(
    private_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    public = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    locked = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"phrase"),
    )
    path = tmp_path / "key.pem"
    for content in (public, locked):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="private key without a pass phrase"):
            jwt_bearer("id", "user", path, "https://login.salesforce.com/")


# Nothing secret in sight


def test_no_repr_holds_a_secret(key_file: Path) -> None:
    private = key_file.read_text()
    holders: list[object] = [
        Token(f"Bearer {SECRET}", "https://a.my.salesforce.com"),
        FixedToken(SECRET),
        ClientCredentials(SECRET, SECRET),
        Password("id", SECRET, "user", SECRET),
        jwt_bearer("id", "user", key_file, "https://login.salesforce.com/"),
    ]
    for holder in [*holders, holders]:
        for text in (repr(holder), str(holder), f"{holder}"):
            assert SECRET not in text
            assert private.splitlines()[1] not in text
    assert repr(holders[0]) == "Token(instance_url='https://a.my.salesforce.com')"


async def test_no_repr_of_what_holds_the_tokens_shows_one(org: Org) -> None:
    tokens = org.tokens()
    token = await tokens.token()
    salesforce = org.client(EndpointUrl(WRITE_PATH), tokens)
    assert token.authorization is not None
    for holder in (tokens, salesforce, token):
        assert token.authorization.removeprefix("Bearer ") not in repr(holder)


async def test_a_fixed_token_is_its_own_renewal() -> None:
    tokens = FixedToken(SECRET)
    token = await tokens.token()
    assert token.authorization == f"Bearer {SECRET}"
    assert await tokens.renew(token) is token
    assert (await FixedToken(None).token()).authorization is None
