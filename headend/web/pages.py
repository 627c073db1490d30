"""The desk as a whole: its pages, its files, and what is shown when a page cannot be."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.store.errors import StoreError
from headend.web import (
    desk,
    pages_account_files,
    pages_accounts,
    pages_alarms,
    pages_audit,
    pages_bill,
    pages_books,
    pages_bulk,
    pages_cards,
    pages_cases,
    pages_commands,
    pages_debts,
    pages_evidence,
    pages_guards,
    pages_lines,
    pages_meter,
    pages_nights,
    pages_notices,
    pages_opening,
    pages_operators,
    pages_outgoing,
    pages_overview,
    pages_pay,
    pages_photos,
    pages_prices,
    pages_publish,
    pages_receipt,
    pages_report_files,
    pages_reports,
    pages_rooms,
    pages_setting_up,
    pages_setup_price,
    pages_shift,
    pages_sign_in,
    pages_tenant,
    pages_tenant_links,
    pages_terminals,
    pages_vend,
    pages_what_if,
    pages_work_orders,
)
from headend.web.desk import Form, PageProblem, SignInFirst, Visitor
from headend.web.pages_sign_in import SignInView
from headend.web.told import said

log = logging.getLogger(__name__)

PARTS = (
    pages_sign_in,
    pages_overview,
    pages_rooms,
    pages_vend,
    pages_receipt,
    pages_cards,
    pages_terminals,
    pages_shift,
    pages_meter,
    pages_guards,
    pages_commands,
    pages_bulk,
    pages_nights,
    pages_notices,
    pages_lines,
    pages_books,
    pages_prices,
    pages_publish,
    pages_what_if,
    pages_bill,
    pages_pay,
    pages_operators,
    pages_alarms,
    pages_work_orders,
    pages_setting_up,
    pages_setup_price,
    pages_audit,
    pages_outgoing,
    pages_reports,
    pages_report_files,
    pages_accounts,
    pages_account_files,
    pages_opening,
    pages_cases,
    pages_debts,
    pages_photos,
    pages_evidence,
    pages_tenant,
    pages_tenant_links,
)


class _Files(StaticFiles):
    """Our files change with the version only, which their addresses carry."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        answer.headers["cache-control"] = "public, max-age=86400"
        answer.headers["x-content-type-options"] = "nosniff"
        return answer


def add_desk(app: FastAPI) -> None:
    """Put the desk beside the API."""
    for part in PARTS:
        app.include_router(part.router)
    app.mount("/static", _Files(directory=desk.HERE / "static"), name="static")
    app.add_exception_handler(SignInFirst, _sign_in_first)
    app.add_exception_handler(PageProblem, _page_problem)


def is_page(request: Request) -> bool:
    """Whether a person looks, and not a program."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(
        ("/api/", "/docs", "/static/", "/health")
    )


async def _sign_in_first(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignInFirst)
    view = SignInView(form=Form(), next=error.where, expired=desk.SESSION_COOKIE in request.cookies)
    return desk.show("sign_in.html", error.visitor, _services(request), view, status=401)


async def _page_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, PageProblem)
    return problem_page(error.visitor, _services(request), error.problem)


def problem_page(visitor: Visitor, services: Services, problem: Problem) -> Response:
    """One sentence and the way out."""
    view = {"sentence": said(problem, visitor.language), "code": problem.code}
    return desk.show("problem.html", visitor, services, view, status=problem.kind.http_status)


async def told_as_page(request: Request, problem: Problem) -> Response | None:
    """A problem from below as a page for a person; None: a program asked, answer as ever."""
    if not is_page(request):
        return None
    services = _services(request)
    try:
        visitor = await desk.visitor_of(request, services)
    except StoreError:
        # Without the database nobody is known; the sentence is shown all the same.
        visitor = desk.nobody(request)
    return problem_page(visitor, services, problem)


async def not_found(request: Request, error: HTTPException) -> Response | None:
    """A page for an address nobody has; None: a program asked."""
    if error.status_code != 404:
        return None
    return await told_as_page(request, Problem("no-such-page"))


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
