"""What states and pauses mean and what to do about them: the one wording for all. Pure.

These are the English texts: `_` translates them where they are shown.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from daemon.language import _, mark
from daemon.lines import DISCARDED, KEPT_OUT, NO_ID, FeedName, LineKey, PauseReason, State


class Severity(StrEnum):
    """How urgent a status is; from good to bad."""

    GOOD = "good"
    CALM = "calm"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class StatusCard:
    """A status for people: a heading, a sentence or two, and what to do about it."""

    severity: Severity
    heading: str
    text: str
    remedy: str | None = None

    def translated(self) -> "StatusCard":
        """Return it in the current language; its texts must be in the catalog."""
        remedy = None if self.remedy is None else _(self.remedy)
        return StatusCard(self.severity, _(self.heading), _(self.text), remedy)


MEANINGS = {
    State.PENDING: mark("to be sent, or to be tried again"),
    State.DELIVERED: mark("Salesforce has it"),
    State.SKIPPED: mark(
        "not sent: no Salesforce id, kept out by a filter, or withdrawn by an operator"
    ),
    State.CONFLICT: mark("Salesforce refused it for good (409); it is not sent again"),
    State.NOT_FOUND: mark("Salesforce has no such record (404); it is not sent again"),
    State.REJECTED: mark("Salesforce refused it in another way (4xx); it needs your action"),
    State.EXPIRED: mark("retries failed for too long; it needs your action"),
    State.INVALID: mark("the ACD's data cannot become a record; it needs your action"),
}
"""Meaning of each state, in `callstatsd show` and `status`, on the page and in the demo."""

REMEDIES = {
    State.CONFLICT: mark(
        "Usually nothing: 409 means that it must not be sent again. If its cause was a "
        "fault that is fixed now, send it again:"
    ),
    State.NOT_FOUND: mark(
        "Nothing, if the record was deleted. If it exists, give the integration user "
        "access to it, then send it again:"
    ),
    State.REJECTED: mark("Fix what the reason names, then send it again:"),
    State.EXPIRED: mark("Find out why Salesforce kept failing, then send it again:"),
    State.INVALID: mark("Fix the row in the ACD's tables, then send it again:"),
    State.SKIPPED: mark(
        "Nothing, if it does not belong in Salesforce. Else have the ACD write the "
        "Salesforce id into UserData: within CALLSTATSD_LOOKBACK the daemon finds it; later, send "
        "it again:"
    ),
}
"""What to do about a line; a colon at the end is followed by `requeue_command`."""

FILTERED_REMEDY = mark(
    "Nothing, if it does not belong in Salesforce. Else change that setting, restart the daemon, "
    "and take the line with `callstatsd backfill --from T --to T`, a window around the call's end."
)
"""What to do about a skipped line that a filter keeps out."""

NEED_ACTION = (State.REJECTED, State.EXPIRED, State.INVALID)
"""States in which a line is kept until an operator requeues or discards it."""


def remedy(state: State) -> str:
    """Return what to do about lines in a state, without a command behind it."""
    return _(REMEDIES[state]).removesuffix(":") + "."


def error_text(error: str) -> str:
    """Return a line's last error, in the current language if it is why a line was not sent."""
    before_setting = KEPT_OUT.format(setting="")
    if error.startswith(before_setting):
        return _(KEPT_OUT, setting=error.removeprefix(before_setting))
    return _(error) if error in {NO_ID, DISCARDED} else error


def requeue_command(
    state: State, key: LineKey | None = None, feed: FeedName | None = None
) -> str | None:
    """Return the command that sends such lines again, if the remedy ends with one.

    Those of one call or event, or of one feed, or all.
    """
    if not REMEDIES.get(state, "").endswith(":"):
        return None
    which = "" if feed is None else f" --feed {feed}"
    if key is not None:
        option = "--callback" if key.feed is FeedName.CALLBACKS else "--call-id"
        which = f" {option} {key.source_id}"
    return f"callstatsd requeue --state {state}{which}"


RESUME = mark("`callstatsd resume` continues sending.")
"""What to do about a pause that an operator made."""

SENDING_PAUSES = mark("Sending pauses")

PAUSES: dict[str, StatusCard] = {
    PauseReason.UNAVAILABLE: StatusCard(
        Severity.WARN,
        SENDING_PAUSES,
        mark("Salesforce cannot be reached, or asks to try again later."),
        mark(
            "Usually nothing: this passes. If it lasts, check the network between this machine and "
            "Salesforce, and status.salesforce.com."
        ),
    ),
    PauseReason.UNANSWERED: StatusCard(
        Severity.WARN,
        SENDING_PAUSES,
        mark("Requests for two records in a row got no response in time."),
        mark(
            "Usually nothing: this passes. If it lasts, Salesforce or the Apex class is too slow, "
            "or something in the network cuts connections."
        ),
    ),
    PauseReason.UNAUTHORIZED: StatusCard(
        Severity.BAD,
        SENDING_PAUSES,
        mark("Salesforce does not accept the login."),
        mark(
            "`callstatsd check` requests a token and reports what is wrong; check the connected "
            "app, its secret and the integration user."
        ),
    ),
    PauseReason.API_LIMIT: StatusCard(
        Severity.WARN,
        SENDING_PAUSES,
        mark(
            "The day's API calls of the Salesforce org are used up, or the share of them that "
            "CALLSTATSD_API_BUDGET allows."
        ),
        mark("Nothing, or find out what else uses them: Setup, Company Information, API Requests."),
    ),
    PauseReason.CONFIGURATION: StatusCard(
        Severity.BAD,
        SENDING_PAUSES,
        mark("Salesforce refuses all requests, not single lines."),
        mark(
            "Check CALLSTATSD_ENDPOINT_URL and the rights of the integration user (API Enabled, "
            "access to the Apex class)."
        ),
    ),
    PauseReason.ENDPOINT_MISSING: StatusCard(
        Severity.BAD,
        SENDING_PAUSES,
        mark("Salesforce has no Apex class at the endpoint's address."),
        mark("Deploy writeCallStatistics, or correct CALLSTATSD_ENDPOINT_URL."),
    ),
    PauseReason.ENDPOINT_FAILING: StatusCard(
        Severity.BAD,
        SENDING_PAUSES,
        mark("Requests for many records in a row failed, so the fault is not in the records."),
        mark(
            "Check the Apex class and the last deployment; a debug log in Salesforce shows the "
            "error."
        ),
    ),
}
"""Every pause except the operator's: how urgent, why, and what to do."""

CALLBACK_PAUSES: dict[str, StatusCard] = PAUSES | {
    PauseReason.CONFIGURATION: replace(
        PAUSES[PauseReason.CONFIGURATION],
        remedy=mark(
            "Check CALLSTATSD_CALLBACK_URL and the rights of the integration user (API "
            "Enabled, access to the Apex class)."
        ),
    ),
    PauseReason.ENDPOINT_MISSING: replace(
        PAUSES[PauseReason.ENDPOINT_MISSING],
        remedy=mark("Deploy createCallback, or correct CALLSTATSD_CALLBACK_URL."),
    ),
}
"""The same for callback requests, which have an endpoint of their own."""
PAUSES_OF = {FeedName.STATISTICS: PAUSES, FeedName.CALLBACKS: CALLBACK_PAUSES}
