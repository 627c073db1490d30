"""What every API file needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from headend.services.services import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Asked = Annotated[Services, Depends(_services)]
