"""What all pages have in common: their headers, who may see them, and what surrounds each."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from daemon import __version__
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
LEDGER_AWAY = "The ledger's database cannot be used now; please try again later."

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Frame:
    """Fills templates into the frame of all pages, and serves them to allowed hosts only."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = AllowedHosts(settings.http_listen)
        self._renderer = Renderer(settings.command_option)
        self._values: Mapping[str, object] = {
            "settings": settings,
            "api_address": settings.api_listen and show_address(settings.api_listen),
            "version": __version__,
            "whose": whose(settings),
            "query": "",
            "host": None,
            "fault": None,
        }

    def add_route(self, app: web.Application, path: str, handler: Handler) -> None:
        """Serve a path, unless the Host header is not ours (protection against DNS rebinding)."""

        async def guarded(request: web.Request) -> web.Response:
            if self._hosts.allows(request.headers.get("Host", "")):
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
        """Return a response with a template's HTML."""
        text = self._renderer.render(template, {**self._values, **values})
        return web.Response(status=status, text=text, content_type="text/html")


def whose(settings: Settings) -> tuple[str, ...]:
    """Return whose calls the instance takes and where from, without users and passwords."""
    client = "All clients"
    if settings.clients_id is not None:
        client = f"Client {settings.clients_id}"
    source = read_dsn(settings.source_dsn.get_secret_value()).public_place
    ledger = read_dsn(settings.ledger_dsn.get_secret_value()).public_place
    return (
        *((f"Instance {settings.instance}",) if settings.instance else ()),
        client,
        f"ACD: database {source}",
        f"Ledger: database {ledger}, schema {settings.ledger_schema}",
    )
