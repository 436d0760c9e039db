"""What may leave a room as an exception; what concerns one line is an outcome instead."""


class CallstatsdError(Exception):
    """The root. Its message says what to do next; `exit_code` is what the command ends with."""

    exit_code = 1


class ConfigurationError(CallstatsdError):
    """Settings, source schema or ledger version are wrong; `faults` has one sentence for each."""

    exit_code = 78

    def __init__(self, *faults: str) -> None:
        """Keep every fault, so that all of them are shown at once."""
        super().__init__("\n".join(faults))
        self.faults = faults


class UnreachableError(CallstatsdError):
    """A database or Salesforce cannot be reached now; the same call may work later.

    `answered` if the server itself said no to one statement, and may say yes to another; `noted`
    once the log has it.
    """

    exit_code = 69

    def __init__(self, message: str, *, answered: bool = False) -> None:
        """Tell a server that answers from one that is away."""
        super().__init__(message)
        self.answered = answered
        self.noted = False


class DatabaseSetupError(UnreachableError):
    """A database is there but lacks a right or a table: exit 78, but for a daemon under way."""

    exit_code = 78


class LeaseLostError(CallstatsdError):
    """The instance may no longer send: the ledger's lock is gone, or might be."""


class SettleTimeoutError(CallstatsdError):
    """Outcomes could not be written for so long that going on would forget them."""


class UnreadableRowError(CallstatsdError):
    """A value that the source cannot give: no text in its encoding; its call is `invalid`."""


class InvalidLineError(CallstatsdError):
    """A row cannot become a record; the message names the column and the kind of value only."""


def first_error(group: BaseExceptionGroup[CallstatsdError]) -> CallstatsdError:
    """Return one error of ours from a task group's, however deep it lies."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CallstatsdError)  # noqa: S101 - `except*` has chosen them
    return error
