"""The HTTP side: FastAPI over the services, docs without a CDN, problems as problem+json."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.web import (
    api_accounts,
    api_alarms,
    api_bills,
    api_books,
    api_bulk,
    api_cards,
    api_cases,
    api_commands,
    api_customers,
    api_debts,
    api_events,
    api_evidence,
    api_gateways,
    api_ledger,
    api_lines,
    api_links,
    api_meters,
    api_mqtt,
    api_nights,
    api_orders,
    api_people,
    api_photos,
    api_reports,
    api_rooms,
    api_schedules,
    api_shifts,
    api_sites,
    api_supply,
    api_tariffs,
    api_terminals,
    api_work_orders,
    health,
    metrics,
    pages,
)
from headend.web.described import describe, problem_record
from headend.web.endings import Endings

log = logging.getLogger(__name__)

# An open event stream would block a shutdown for ever: so long a stop waits for the rest.
SHUTDOWN_S_MAX = 3
# What does not end then either is dropped.
_DROP_AFTER_S = 2


def build(services: Services, hosts: list[str]) -> FastAPI:
    """The application. `hosts`: names a browser may call us by (guards against DNS rebinding)."""
    app = FastAPIOffline(
        title="Head-end",
        version=services.version,
        summary="Nightly collection of prepaid electricity meters: every hole has its reason.",
        redoc_url=None,
    )
    app.state.services = services
    app.state.line_totals = metrics.LineTotals()
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _of_the_framework)
    for part in (
        health,
        metrics,
        api_sites,
        api_accounts,
        api_alarms,
        api_work_orders,
        api_events,
        api_nights,
        api_lines,
        api_gateways,
        api_mqtt,
        api_meters,
        api_cards,
        api_orders,
        api_commands,
        api_bulk,
        api_books,
        api_supply,
        api_tariffs,
        api_terminals,
        api_reports,
        api_bills,
        api_evidence,
        api_customers,
        api_debts,
        api_cases,
        api_links,
        api_shifts,
        api_people,
        api_photos,
        api_rooms,
        api_ledger,
        api_schedules,
    ):
        app.include_router(part.router)
    pages.add_desk(app)
    describe(app)
    return app


async def _of_the_framework(request: Request, error: Exception) -> Response:
    """What the web framework refuses by itself looks as every other refusal."""
    assert isinstance(error, HTTPException)
    page = await pages.not_found(request, error)
    if page is not None:
        return page
    shown = await _problem(request, Problem("bad-request", detail=error.detail))
    shown.status_code = error.status_code
    return shown


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    page = await pages.told_as_page(request, error)
    if page is not None:
        return page
    language = request.headers.get("accept-language", "en")
    return JSONResponse(
        problem_record(error, language),
        status_code=error.kind.http_status,
        media_type="application/problem+json",
    )


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    where = "; ".join(
        f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
    )
    return await _problem(request, Problem("bad-request", detail=where))


def bound_socket(host: str, port: int) -> socket.socket:
    """Take the port before anything else starts, so that a clash is the first thing said.

    Raises Problem("port-in-use") or Problem("address-unusable").
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio asks for TCP_NODELAY only of sockets that say they are TCP: without it
    # every answer waits 40 ms for an acknowledgement.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(128)
    except OSError as error:
        taken.close()
        if error.errno == 98:  # EADDRINUSE
            raise Problem("port-in-use", host=host, port=port, option="--http-port") from error
        raise Problem(
            "address-unusable", host=host, port=port, detail=error.strerror, option="--http-port"
        ) from error
    return taken


class _Server(uvicorn.Server):
    """Signals belong to whoever runs the whole head-end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: FastAPI, at: socket.socket) -> AsyncIterator[None]:
    """Answer requests on the socket while the block runs."""
    endings = Endings(app)
    config = uvicorn.Config(
        endings,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S_MAX + _DROP_AFTER_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([at]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=SHUTDOWN_S_MAX)
        endings.end()
        await task
