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
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.web import (
    api_books,
    api_bulk,
    api_commands,
    api_lines,
    api_meters,
    api_nights,
    api_orders,
    api_supply,
    health,
)

log = logging.getLogger(__name__)

# An open event stream would block a shutdown for ever.
SHUTDOWN_S_MAX = 3


def build(services: Services, hosts: list[str]) -> FastAPI:
    """The application. `hosts`: names a browser may call us by (guards against DNS rebinding)."""
    app = FastAPIOffline(
        title="Head-end",
        version=services.version,
        summary="Nightly collection of prepaid electricity meters: every hole has its reason.",
        redoc_url=None,
    )
    app.state.services = services
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _bad_request)
    for part in (
        health,
        api_nights,
        api_lines,
        api_meters,
        api_orders,
        api_commands,
        api_bulk,
        api_books,
        api_supply,
    ):
        app.include_router(part.router)
    return app


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    language = request.headers.get("accept-language", "en")
    return JSONResponse(
        {
            "type": f"urn:headend:problem:{error.code}",
            "code": error.code,
            "title": error.text(language),
            "title_en": error.text("en"),
            "title_zh": error.text("zh"),
            "status": error.kind.http_status,
        },
        status_code=error.kind.http_status,
        media_type="application/problem+json",
    )


async def _bad_request(request: Request, error: Exception) -> JSONResponse:
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
    taken = socket.socket(family, socket.SOCK_STREAM)
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
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S_MAX,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([at]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
