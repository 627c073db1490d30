"""What went wrong with MQTT and its broker, in English and Chinese. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

BROKER: Mapping[str, tuple[Kind, str, str]] = {
    "mqtt-off": (
        Kind.LINE,
        "MQTT is off: {detail}.",
        "MQTT 未启用：{detail}。",
    ),
    "broker-missing": (
        Kind.LINE,
        "MQTT is off: mosquitto is not installed; install it (apt-get install mosquitto) or set "
        "mqtt_url.",
        "MQTT 未启用：未安装 mosquitto；请安装（apt-get install mosquitto）或设置 mqtt_url。",
    ),
    "broker-not-started": (
        Kind.LINE,
        "The embedded MQTT broker does not run: {detail}.",
        "内置 MQTT 代理未运行：{detail}。",
    ),
    "broker-not-ours": (
        Kind.REFUSED,
        "The broker is the site's own ({broker}): give gateway {gateway} its password there.",
        "所用的是现场自己的 MQTT 代理（{broker}）：请在该代理上为网关 {gateway} 设置密码。",
    ),
    "not-an-mqtt-gateway": (
        Kind.REFUSED,
        "Gateway {gateway} does not speak MQTT: only those of kind mqtt have a password.",
        "网关 {gateway} 不使用 MQTT：只有 mqtt 类型的网关才有密码。",
    ),
    "mqtt-name": (
        Kind.REFUSED,
        "Gateway {gateway} cannot be a user of the broker, by its registration {registration}: "
        "{detail}.",
        "网关 {gateway} 的注册标识 {registration} 不能用作代理用户名：{detail}。",
    ),
    "no-mqtt-password": (
        Kind.NOT_FOUND,
        "Gateway {gateway} has no MQTT password.",
        "网关 {gateway} 没有 MQTT 密码。",
    ),
}
