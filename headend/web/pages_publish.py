"""A draft becomes a version, and the version goes into the meters: live, with a stop."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.services import tariff_push
from headend.services import tariffs as service
from headend.services.tariffs import NotDone, TariffWhy
from headend.store import tariff_pushes, tariffs
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Configurer, PageProblem, Viewer
from headend.web.pages_prices import (
    date_of,
    in_force,
    sentence,
    tariff_for,
    today_of,
    view_of,
)

router = APIRouter(include_in_schema=False)


@router.post("/prices/{tariff_id}/publish")
async def publish(
    request: Request, services: Asked, configurer: Configurer, tariff_id: int
) -> Response:
    """From a day on, for ever; a large change with a second person."""
    form = desk.form_of(await request.form())
    valid_from = date_of(form, configurer, "valid_from")
    second = await forms.second_person(request, services, configurer, form)
    today = today_of(services)
    async with services.database.transaction() as tx:
        await tariff_for(tx, configurer, tariff_id, to_change=True)
        if not form.errors and valid_from is not None:
            done = await service.publish(
                tx,
                tariff_id,
                valid_from=valid_from,
                by=configurer.operator_id,
                approver=second.operator_id,
                at=services.clock.now(),
                today=today,
            )
            if not isinstance(done, NotDone):
                return desk.go(f"/prices/{tariff_id}")
            persons = (TariffWhy.SECOND_PERSON_NEEDED, TariffWhy.SAME_PERSON)
            form.wrong("approver" if done.why in persons else "valid_from",
                       sentence(done, configurer))  # fmt: skip
    view = await view_of(services, configurer, tariff_id, form)
    return desk.show("tariff.html", configurer, services, view, status=422)


@router.get("/prices/{tariff_id}/live")
async def live(request: Request, services: Asked, viewer: Viewer, tariff_id: int) -> Response:
    """Progress of the push, until it has ended or waits for a person."""
    await view_of(services, viewer, tariff_id)

    async def pieces() -> AsyncIterator[str | None]:
        async with desk.bell(request).watched() as watch:
            while True:
                view = await view_of(services, viewer, tariff_id)
                yield desk.rendered("tariff_push.html", viewer, services, view)
                if not view.runs:
                    yield None
                    return
                await watch.wait()

    return desk.stream(pieces())


@router.post("/prices/{tariff_id}/push/{step}")
async def step(
    request: Request, services: Asked, configurer: Configurer, tariff_id: int, step: str
) -> Response:
    """Stop it, or go on with it and with those that refused."""
    form = desk.form_of(await request.form())
    at = services.clock.now()
    async with services.database.transaction() as tx:
        await tariff_for(tx, configurer, tariff_id, to_change=True)
        versions = await tariffs.versions(tx, tariff_id)
        published = [one for one in versions if one.state == "published"]
        shown = in_force(versions, today_of(services)) or (published[0] if published else None)
        push = await tariff_pushes.of_version(tx, shown.version_id) if shown else None
        done = False
        if push is not None and step == "stop":
            why = forms.reason(form, configurer, "stop_reason")
            if not form.errors:
                done = await tariff_push.stop(
                    tx, push.push_id, by=configurer.operator_id, reason=why, at=at
                )
        elif push is not None and step == "go-on":
            done = await tariff_push.go_on(tx, push.push_id, by=configurer.operator_id, at=at)
    if form.errors:
        view = await view_of(services, configurer, tariff_id, form)
        return desk.show("tariff.html", configurer, services, view, status=422)
    if not done:
        raise PageProblem(configurer, Problem("no-such-push"))
    return desk.go(f"/prices/{tariff_id}")
