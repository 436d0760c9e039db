"""Token requests to the Salesforce stand-in: checks the three OAuth flows as Salesforce does."""

import base64
import json
import time
from collections.abc import Mapping

CLIENT_ID = "callstatsd-demo"
CLIENT_SECRET = "not-a-secret"  # noqa: S105 - the demo's own, worth nothing
USERNAME = "callstatsd@demo.invalid"
PASSWORD = "demo"  # noqa: S105
SECURITY_TOKEN = "Token"  # noqa: S105
AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def grant_refusal(form: Mapping[str, str], origin: str) -> tuple[str, str] | None:
    """Return why a token request is refused, as error and description; None grants it."""
    grant = form.get("grant_type")
    if grant == JWT_BEARER:
        return assertion_refusal(form.get("assertion", ""), origin)
    if grant not in ("client_credentials", "password"):
        return "unsupported_grant_type", "grant type not supported"
    if form.get("client_id") != CLIENT_ID:
        return "invalid_client_id", "client identifier invalid"
    if form.get("client_secret") != CLIENT_SECRET:
        return "invalid_client", "invalid client credentials"
    login = (form.get("username"), form.get("password"))
    if grant == "password" and login != (USERNAME, PASSWORD + SECURITY_TOKEN):
        return "invalid_grant", "authentication failure"
    return None


def assertion_refusal(assertion: str, origin: str) -> tuple[str, str] | None:
    """Check the claims of a JWT; not its signature, because there is no key here."""
    try:
        head, claims, _ = (
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in assertion.split(".")
        )
        algorithm, claim = json.loads(head).get("alg"), json.loads(claims)
        left = float(claim["exp"]) - time.time()
    except (ValueError, KeyError, TypeError, AttributeError):
        return "invalid_grant", "invalid assertion"
    if algorithm != "RS256" or claim.get("aud") not in (*AUDIENCES, origin):
        return "invalid_grant", "audience is invalid"
    if claim.get("iss") != CLIENT_ID:
        return "invalid_client_id", "client identifier invalid"
    if claim.get("sub") != USERNAME:
        return "invalid_grant", "user hasn't approved this consumer"
    return None if 0 < left <= 300 else ("invalid_grant", "expired authorization code")
