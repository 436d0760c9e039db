"""What may leave a package as an exception; what concerns one line is an outcome instead."""


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


class NotPermittedError(CallstatsdError):
    """The command needs rights that this user does not have."""

    exit_code = 77


class UnusableError(CallstatsdError):
    """A database or Salesforce cannot be used now; a daemon under way tries again.

    `answered` if the server itself refused one statement, and may accept another; `unfit` if that
    was for its values, which it will refuse again; `noted` once the log has it.
    """

    def __init__(self, message: str, *, answered: bool = False, unfit: bool = False) -> None:
        super().__init__(message)
        self.answered = answered
        self.unfit = unfit
        self.noted = False


class UnreachableError(UnusableError):
    """It cannot be reached, or gives no answer; the same call may work later."""

    exit_code = 69


class DatabaseSetupError(UnusableError):
    """A database is there but lacks a right or a table, or is behind an unsuitable pooler."""

    exit_code = 78


class LeaseLostError(CallstatsdError):
    """The instance may no longer send: it lost the ledger's lock, or may have lost it."""


class SettleTimeoutError(CallstatsdError):
    """Outcomes could not be written for so long that the process ends rather than forget them."""


class UnreadableRowError(CallstatsdError):
    """The source cannot give a value: no text in its encoding; the call is `invalid`."""


class InvalidLineError(CallstatsdError):
    """A row cannot become a record; the message names the column and the kind of value only."""


def first_error(group: BaseExceptionGroup[CallstatsdError]) -> CallstatsdError:
    """Return one error of ours from a task group's, however deep it lies."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CallstatsdError)  # noqa: S101 - `except*` has chosen them
    return error
