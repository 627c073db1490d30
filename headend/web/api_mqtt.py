"""MQTT: how the broker does, what nobody understood, and the passwords of gateways."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from headend.web.auth import Configurer, Viewer
from headend.web.common import Asked
from headend.web.edits import Page, newest_first

router = APIRouter(prefix="/api/v1", tags=["lines"])


@router.get("/mqtt", summary="The MQTT broker, and what nobody understood")
async def mqtt(services: Asked, _viewer: Viewer) -> dict[str, Any]:
    """`state`: up, down or off; `detail` and `code` say why it is not up. Counters since the start;
    `unknown_samples` keeps the last message of each topic."""
    return services.mqtt.record()


class GivenAccess(BaseModel):
    """What is typed into a gateway. The password is shown this once; only its hash is kept."""

    gateway: str
    user: str = Field(description="its registration; the broker takes it as its client id, too")
    password: str
    port: int = Field(description="of the broker, without TLS")
    tls_port: int | None


@router.post(
    "/gateways/of/{gateway}/mqtt-password",
    summary="Give an MQTT gateway its password on our broker, or a new one",
    status_code=201,
)
async def give_password(services: Asked, caller: Configurer, gateway: str) -> GivenAccess:
    """The one before ends at once, and a gateway that came in by it is put out."""
    users = services.mqtt.users
    user, password = await users.give(caller, gateway)
    assert users.broker is not None, "without it nothing is given"
    tls = users.broker.tls
    return GivenAccess(
        gateway=gateway,
        user=user,
        password=password,
        port=users.broker.port,
        tls_port=tls.port if tls else None,
    )


@router.delete(
    "/gateways/of/{gateway}/mqtt-password", summary="Take an MQTT gateway's password away"
)
async def take_password(services: Asked, caller: Configurer, gateway: str) -> dict[str, str]:
    """From now on it lets nobody in; a gateway that came in by it is put out."""
    await services.mqtt.users.revoke(caller, gateway)
    return {"gateway": gateway, "mqtt_password": "revoked"}


@router.get("/gateways/of/{gateway}/mqtt-password", summary="Who gave and took its passwords")
async def given_passwords(
    services: Asked, caller: Viewer, gateway: str, page: Page
) -> list[dict[str, Any]]:
    """The newest first; never a password."""
    return [
        {
            "created_at": one.created_at.isoformat(),
            "created_by": one.created_by,
            "revoked_at": one.revoked_at.isoformat() if one.revoked_at else None,
            "revoked_by": one.revoked_by,
        }
        for one in page.of(
            await services.mqtt.users.given(caller, gateway),
            key=lambda one: newest_first(one.created_at),
        )
    ]
