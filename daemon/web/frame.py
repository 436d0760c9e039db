"""What all pages have in common: their headers, who may see them, and what surrounds each."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from pydantic import SecretStr

from daemon import __version__
from daemon.language import Language, _, language, mark, of_header, use_language
from daemon.settings.dsn import read_dsn
from daemon.settings.model import Settings
from daemon.urls import show_address
from daemon.web.allowed_hosts import AllowedHosts
from daemon.web.rendering import Renderer

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
LEDGER_AWAY = mark("The ledger's database cannot be used now; please try again later.")

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Frame:
    """Fills templates into the frame of all pages, and serves them to allowed hosts only.

    `choose_language` reads the header Accept-Language.
    """

    def __init__(
        self, settings: Settings, choose_language: Callable[[str], Language] = of_header
    ) -> None:
        self._choose_language = choose_language
        self._hosts = AllowedHosts(settings.http_listen)
        self._renderer = Renderer(settings.command_option)
        self._settings = settings
        self._values: Mapping[str, object] = {
            "settings": settings,
            "api_address": settings.api_listen and show_address(settings.api_listen),
            "version": __version__,
            "query": "",
            "host": None,
            "fault": None,
        }

    def add_route(self, app: web.Application, path: str, handler: Handler) -> None:
        """Serve a path, unless the Host header is not ours (protection against DNS rebinding)."""

        async def guarded(request: web.Request) -> web.Response:
            if self._hosts.allows(request.headers.get("Host", "")):
                accepted = ",".join(request.headers.getall("Accept-Language", []))
                with use_language(self._choose_language(accepted)):
                    response = await handler(request)
            else:
                address = request.get_extra_info("sockname")
                response = web.Response(status=421, text=self._hosts.advice(address))
            response.headers.update(HEADERS)
            return response

        app.router.add_get(path, guarded)

    def respond(
        self, template: str, values: Mapping[str, object], status: int = 200
    ) -> web.Response:
        """Return a response with a template's HTML, in the visitor's language."""
        own = {"language": language().code, "whose": whose(self._settings)}
        text = self._renderer.render(template, {**self._values, **own, **values})
        headers = {
            "Cache-Control": "no-store",
            "Content-Language": language().code,
            "Vary": "Accept-Language",
        }
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def whose(settings: Settings) -> tuple[str, ...]:
    """Return whose calls the instance takes and where from, without users and passwords."""
    client = _("All clients")
    if settings.clients_id is not None:
        client = _("Client {client}", client=settings.clients_id)
    source, ledger = (_place(dsn) for dsn in (settings.source_dsn, settings.ledger_dsn))
    return (
        *((_("Instance {name}", name=settings.instance),) if settings.instance else ()),
        client,
        _("ACD: database {database} on {server}", **source),
        _(
            "Ledger: database {database} on {server}, schema {schema}",
            schema=settings.ledger_schema,
            **ledger,
        ),
    )


def _place(secret: SecretStr) -> dict[str, str]:
    dsn = read_dsn(secret.get_secret_value())
    return {
        "database": dsn.database or _("of the default name"),
        "server": (dsn.host or _("the local server")) + dsn.port,
    }
