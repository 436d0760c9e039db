"""Health endpoints for programs: `/metrics`, `/healthz`, `/readyz`. Read only."""

from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from daemon import logs, metrics
from daemon.errors import UnusableError
from daemon.ingest.source import Source
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, PauseReason, State
from daemon.web.cache import StatusReader

_log = structlog.get_logger()

FRESH_FOR = 5.0
"""Seconds for which `/metrics` uses what was read from the ledger."""


@dataclass(slots=True)
class InstanceState:
    """What this instance is doing; written by the service, read by `/readyz` and the page."""

    active: bool = False
    paused: str | None = None


class HealthEndpoints:
    """Serves metrics, liveness and readiness."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        condition: InstanceState,
        reader: StatusReader,
        *,
        alerts: bool = False,
    ) -> None:
        """`alerts` says whether they are on."""
        self._alerts = alerts
        self._source = source
        self._ledger = ledger
        self._condition = condition
        self._reader = reader

    def app(self) -> web.Application:
        """Return an application with the routes."""
        app = web.Application()
        app.on_response_prepare.append(_strict)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        return app

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return all metrics in Prometheus' text format."""
        await self._refresh()
        body = generate_latest(metrics.REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(self, _request: web.Request) -> web.Response:
        """Return that the process is alive."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """Return whether lines are taken and sent now; 503 with the reason if not."""
        reason = self._reason()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{reason}\n")

    def _reason(self) -> str | None:
        if self._ledger.database.lost:
            return "the ledger database cannot be used"
        if not self._condition.active:
            return "standing by"
        if self._source.unreachable:
            return "the source database cannot be used"
        if self._condition.paused is not None:
            return f"paused: {self._condition.paused}"
        return None

    async def _refresh(self) -> None:
        """Update the gauges; from the ledger at most once in `FRESH_FOR` seconds."""
        metrics.ACTIVE.set(self._condition.active)
        for reason in PauseReason:
            metrics.PAUSED.labels(reason).set(self._condition.paused == reason)
        metrics.DATABASE_UP.labels("ledger").set(not self._ledger.database.lost)
        # A standby does not query the source, so it would not notice that it is back.
        metrics.DATABASE_UP.labels("source").set(
            not (self._condition.active and self._source.unreachable)
        )
        try:
            waiting = await self._reader.backlog(FRESH_FOR)
            status = await self._reader.status(FRESH_FOR)
            callbacks = await self._reader.backlog(FRESH_FOR, FeedName.CALLBACKS)
            alert = await self._reader.alert(FRESH_FOR) if self._alerts else None
        except UnusableError as error:
            _log.debug(logs.MONITOR_UNREAD, error=str(error))
            return
        metrics.PENDING.set(waiting.lines[State.PENDING])
        metrics.OLDEST_PENDING.set(waiting.oldest_pending_seconds or 0)
        metrics.OLDEST_KEPT.set(waiting.oldest_kept_seconds or 0)
        metrics.CALLBACKS_PENDING.set(callbacks.lines[State.PENDING])
        metrics.OLDEST_CALLBACK.set(callbacks.oldest_pending_seconds or 0)
        for state in (State.REJECTED, State.EXPIRED, State.INVALID):
            metrics.NEED_OPERATOR.labels(state).set(waiting.lines[state])
            metrics.CALLBACKS_KEPT.labels(state).set(callbacks.lines[state])
        if alert is not None:
            metrics.ALERT_LINES_WAITING.set(alert.waiting)
        if status.watermark is not None:
            metrics.WATERMARK.set(status.watermark.timestamp())


async def _strict(_request: web.Request, response: web.StreamResponse) -> None:
    """Forbid caching, framing and content sniffing."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault(
        "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
    )
