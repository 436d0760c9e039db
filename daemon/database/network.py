"""Why a connection failed, as text without class names, paths or secrets."""

import errno
import os
import re
import socket
import ssl

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.ECONNABORTED: "the connection was cut",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the host",
    errno.ETIMEDOUT: "no answer in time",
    errno.ENOENT: "no socket there",
    errno.EACCES: "no permission to connect",
}


def reason(error: BaseException) -> str:
    """Return the cause behind an error of a driver or an HTTP client."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted: {cause.verify_message.rstrip('.')}"
            case ssl.SSLError():
                said = (cause.reason or "no TLS").replace("_", " ").lower()
                return f"TLS failed: {said}"
            case socket.gaierror():
                again = cause.errno == socket.EAI_AGAIN
                return "the name server does not answer" if again else "unknown host name"
            case TimeoutError():
                return "no answer in time"
            case ConnectionError() if cause.errno is None and str(cause):
                return str(cause).split("\n", maxsplit=1)[0]
            case OSError() if words := _words(cause):
                return words
    return _other(error)


def _other(error: BaseException) -> str:
    """Return a library's message without what it quotes: an address may hold a secret."""
    if isinstance(error, ValueError):
        return "the address cannot be used"
    if isinstance(error, EOFError):
        return "the connection was cut"
    if isinstance(status := getattr(error, "status", None), int) and status:
        return f"answered {status}"
    said = re.split(r"\n|: <", str(error), maxsplit=1)[0]
    return (said[:1].lower() + said[1:])[:200] or "the connection was cut"


def _causes(error: BaseException) -> list[BaseException]:
    """Return what an error wraps, innermost first."""
    found: list[BaseException] = []
    inner: BaseException | None = error
    while isinstance(inner, BaseException) and inner not in found:
        found.insert(0, inner)
        inner = (
            getattr(inner, "certificate_error", None)
            or getattr(inner, "os_error", None)
            or inner.__cause__
        )
    return found


def _words(error: OSError) -> str:
    """Return the system's message; several addresses of one host may be in one error."""
    number = error.errno
    if number is None:
        texts = {number: os.strerror(number) for number in _WORDS}
        number = next(
            (n for n, text in texts.items() if f"Errno {n}]" in str(error) or text in str(error)),
            None,
        )
    if number is None:
        return ""
    return _WORDS.get(number) or os.strerror(number).lower()
