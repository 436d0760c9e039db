"""Settings of the API listener, which are right or wrong together. Pure.

Whatever else the listener serves has its faults here too, such as a token equal to another one.
"""

import re

LEAST = 16
"""Characters of a token that nobody guesses."""

Address = tuple[str, int]


def api_faults(
    listen: Address | None, token: str, http_listen: Address | None, *, click_to_dial: bool
) -> list[str]:
    """Return a sentence for each fault."""
    faults = []
    if token and not re.fullmatch(f"[!-~]{{{LEAST},}}", token):
        faults.append(
            f"CALLSTATSD_API_TOKEN is not a valid token: use at least {LEAST} printable ASCII "
            "characters without blanks, such as `openssl rand -hex 32` prints."
        )
    if listen is None:
        return faults
    if not click_to_dial:
        faults.append(
            "CALLSTATSD_API_LISTEN has nothing to serve: set CALLSTATSD_CLICK_TO_DIAL_URL, or "
            "remove CALLSTATSD_API_LISTEN."
        )
    elif not token:
        faults.append(
            "CALLSTATSD_API_TOKEN is missing, CALLSTATSD_API_LISTEN with "
            "CALLSTATSD_CLICK_TO_DIAL_URL needs it: set it to the secret of the clients, at least "
            f"{LEAST} printable ASCII characters without blanks."
        )
    if listen == http_listen:
        faults.append(
            "CALLSTATSD_API_LISTEN is the address of CALLSTATSD_HTTP_LISTEN: use another port."
        )
    return faults
