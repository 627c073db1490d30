"""What a technician types about MQTT."""

from __future__ import annotations

from urllib.parse import quote

from headend.cli.client import Client
from headend.cli.console import err, out, print_json, say
from headend.settings import Settings


def mqtt_password(settings: Settings, gateway: str, *, revoke: bool, as_json: bool) -> None:
    """`headend mqtt-password GATEWAY [--revoke]`"""
    path = f"/api/v1/gateways/of/{quote(gateway, safe='')}/mqtt-password"
    if revoke:
        row = Client(settings).send("DELETE", path, {})
        if as_json:
            print_json(row)
            return
        told = say(
            f"网关 {gateway} 的 MQTT 密码已吊销。", f"The MQTT password of {gateway} is revoked."
        )
        out.print(told, markup=False, soft_wrap=True)
        return
    row = Client(settings).send("POST", path, {})
    if as_json:
        print_json(row)
        return
    # The password alone on standard output, so that a script can keep it.
    err.print(
        say(
            f"用户 {row['user']}，端口 {row['port']}；密码只显示这一次：",
            f"User {row['user']}, port {row['port']}; the password is shown this once:",
        ),
        markup=False,
        soft_wrap=True,
    )
    out.print(row["password"], markup=False, soft_wrap=True)
