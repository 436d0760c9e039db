"""What states and pauses mean and what to do about them, in one wording for all. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from daemon.delivery.outcome import PauseReason
from daemon.lines import State


class Severity(StrEnum):
    """How much somebody should care."""

    GOOD = "good"
    CALM = "calm"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class StatusCard:
    """A state in words: a heading, a sentence or two, and what to do about it, if anything."""

    severity: Severity
    heading: str
    text: str
    remedy: str | None = None


MEANINGS = {
    State.PENDING: "to be sent, or to be tried again",
    State.DELIVERED: "Salesforce has it",
    State.SKIPPED: "not sent: no Salesforce id, or withdrawn by an operator",
    State.CONFLICT: "Salesforce refused it for good (409); it is not sent again",
    State.NOT_FOUND: "Salesforce has no such record (404); it is not sent again",
    State.REJECTED: "Salesforce refused it in another way (4xx); it needs your action",
    State.EXPIRED: "it failed for too long; it needs your action",
    State.INVALID: "the ACD's data cannot become a record; it needs your action",
}
"""What has become of a line; `callstatsd show`, `status`, the page and the demo all say this."""

REMEDIES = {
    State.CONFLICT: "Usually nothing: 409 says never to send it again. If its reason was a fault "
    "that is fixed by now, send it again:",
    State.NOT_FOUND: "Nothing, if the record was deleted. If it is there, let the integration user "
    "see it, then send it again:",
    State.REJECTED: "Fix what the reason names, then send it again:",
    State.EXPIRED: "See why Salesforce kept failing, then send it again:",
    State.INVALID: "Fix the row in the ACD's tables, then send it again:",
    State.SKIPPED: "Nothing, if it is not meant for Salesforce. Else have the ACD write the "
    "Salesforce id into UserData: within CALLSTATSD_LOOKBACK that is noticed by itself; later "
    "send it again:",
}
"""What to do about it; a colon at the end announces the command of `requeue_command`."""

NEED_ACTION = (State.REJECTED, State.EXPIRED, State.INVALID)
"""States in which a line waits for a person, however long that takes."""


def requeue_command(state: State, call_id: int | None = None) -> str | None:
    """Return the command that sends such lines again, where the remedy announces one."""
    if not REMEDIES.get(state, "").endswith(":"):
        return None
    call = "" if call_id is None else f" --call-id {call_id}"
    return f"callstatsd requeue --state {state}{call}"


RESUME = "`callstatsd resume` continues sending."
"""What to do about a pause that an operator made."""

PAUSES: dict[str, StatusCard] = {
    PauseReason.UNAVAILABLE: StatusCard(
        Severity.WARN,
        "Sending pauses",
        "Salesforce cannot be reached, or asks to try later.",
        "Usually nothing: this passes. If it lasts, look at the network between this machine and "
        "Salesforce, and at status.salesforce.com.",
    ),
    PauseReason.UNANSWERED: StatusCard(
        Severity.WARN,
        "Sending pauses",
        "Two records in a row got no answer in time.",
        "Usually nothing: this passes. If it lasts, Salesforce or the Apex class is too slow, or "
        "something on the way cuts connections.",
    ),
    PauseReason.UNAUTHORIZED: StatusCard(
        Severity.BAD,
        "Sending pauses",
        "Salesforce does not accept the login.",
        "`callstatsd check` asks for a token and says what is wrong; look at the connected app, "
        "its secret and the integration user.",
    ),
    PauseReason.API_LIMIT: StatusCard(
        Severity.WARN,
        "Sending pauses",
        "The day's API calls of the Salesforce org are used up, or the share of them that "
        "CALLSTATSD_API_BUDGET allows.",
        "Nothing, or find out what else uses them: Setup, Company Information, API Requests.",
    ),
    PauseReason.CONFIGURATION: StatusCard(
        Severity.BAD,
        "Sending pauses",
        "Salesforce refuses the requests as such, not single lines.",
        "Check CALLSTATSD_ENDPOINT_URL and the rights of the integration user (API Enabled, "
        "access to the Apex class).",
    ),
    PauseReason.ENDPOINT_MISSING: StatusCard(
        Severity.BAD,
        "Sending pauses",
        "At the endpoint's address Salesforce has no Apex class.",
        "Deploy writeCallStatistics, or correct CALLSTATSD_ENDPOINT_URL.",
    ),
    PauseReason.ENDPOINT_FAILING: StatusCard(
        Severity.BAD,
        "Sending pauses",
        "Many records in a row were answered with an error, so the fault is not in the records.",
        "Look at the Apex class and at what was deployed last; a debug log in Salesforce shows "
        "the error.",
    ),
}
"""Every pause but the operator's: how bad, why, and what to do."""
