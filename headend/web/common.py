"""What every API file needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from headend.services.services import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Asked = Annotated[Services, Depends(_services)]


class Because(BaseModel):
    """Every decision has its reason, kept for ever."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(min_length=1)
