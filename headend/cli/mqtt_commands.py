"""`headend mqtt-password`."""

from __future__ import annotations

from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, HttpPort, Json, settings_of


def mqtt_password(
    gateway: Annotated[str, typer.Argument(help="An MQTT gateway, by its name in the site file.")],
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take the password away; the gateway is put out.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Give an MQTT gateway a password on our own broker; the one it had ends. Needs a token.

    Its user name is its registration. The password is shown this once; only its hash is kept.
    """
    from headend.cli import mqtt

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: mqtt.mqtt_password(settings, gateway, revoke=revoke, as_json=as_json))
