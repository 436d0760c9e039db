"""Settings of the API listener, which are right or wrong together. Pure.

Whatever else the listener serves has its faults here too, such as a token equal to another one.
"""

import re
from typing import NamedTuple

from daemon.urls import allows_secrets

LEAST = 16
"""Characters of a token that nobody guesses."""

Address = tuple[str, int]


class ApiSettings(NamedTuple):
    """What the API listener serves, where, and to whom."""

    listen: Address | None
    http_listen: Address | None
    click_to_dial: bool
    api_token: str
    telegra_token: str = ""
    telegra_allow: bool = False


def api_faults(found: ApiSettings) -> list[str]:
    """Return a sentence for each fault."""
    faults = _token_faults(found)
    if found.telegra_token and found.listen is None:
        faults.append(
            "CALLSTATSD_API_LISTEN is missing, CALLSTATSD_TELEGRA_TOKEN needs it: set it to the "
            "HOST:PORT at which notifications come."
        )
    if found.listen is None:
        return faults
    if not (found.click_to_dial or found.telegra_token):
        faults.append(
            "CALLSTATSD_API_LISTEN has nothing to serve: set CALLSTATSD_CLICK_TO_DIAL_URL or "
            "CALLSTATSD_TELEGRA_TOKEN, or remove CALLSTATSD_API_LISTEN."
        )
    if found.click_to_dial and not found.api_token:
        faults.append(
            "CALLSTATSD_API_TOKEN is missing, CALLSTATSD_API_LISTEN with "
            "CALLSTATSD_CLICK_TO_DIAL_URL needs it: set it to the secret of the clients, at least "
            f"{LEAST} printable ASCII characters without blanks."
        )
    if found.listen == found.http_listen:
        faults.append(
            "CALLSTATSD_API_LISTEN is the address of CALLSTATSD_HTTP_LISTEN: use another port."
        )
    open_to_all = found.telegra_token and not found.telegra_allow
    if open_to_all and not allows_secrets("http", found.listen[0]):
        faults.append(
            "CALLSTATSD_TELEGRA_ALLOW is missing, CALLSTATSD_API_LISTEN beyond loopback needs it: "
            "set it to the addresses of the ACD, separated by commas."
        )
    return faults


def _token_faults(found: ApiSettings) -> list[str]:
    faults = []
    if found.api_token and not re.fullmatch(f"[!-~]{{{LEAST},}}", found.api_token):
        faults.append(
            f"CALLSTATSD_API_TOKEN is not a valid token: use at least {LEAST} printable ASCII "
            "characters without blanks, such as `openssl rand -hex 32` prints."
        )
    if found.telegra_token and not re.fullmatch(f"[A-Za-z0-9_-]{{{LEAST},}}", found.telegra_token):
        faults.append(
            f"CALLSTATSD_TELEGRA_TOKEN is not a valid token: use at least {LEAST} of A to Z, a to "
            "z, 0 to 9, - and _, such as `openssl rand -hex 32` prints."
        )
    if found.telegra_token and found.telegra_token == found.api_token:
        faults.append(
            "CALLSTATSD_API_TOKEN is CALLSTATSD_TELEGRA_TOKEN: use another secret for each."
        )
    return faults
