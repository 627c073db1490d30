"""Where the MQTT broker is, from the settings: the site's own, or ours."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateways.mqtt import BrokerPlace
from headend.domain.broker_names import HEAD_END
from headend.domain.problems import Problem
from headend.settings import Settings
from headend.store.broker import EmbeddedBroker, find_program
from headend.store.broker_files import TlsListener

PORT, PORT_TLS, PORT_MAX = 1883, 8883, 65_535


def broker_place_of(settings: Settings) -> BrokerPlace | None:
    """None where no broker is set. Raises Problem("settings-unreadable")."""
    if not settings.mqtt_url:
        return None
    parts = urlsplit(settings.mqtt_url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
        raise _unusable("mqtt_url must be mqtt://user:password@host:1883 or mqtts://…")
    has_tls = parts.scheme == "mqtts"
    return BrokerPlace(
        host=parts.hostname,
        port=port or (PORT_TLS if has_tls else PORT),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(settings) if has_tls else None,
        client_id=settings.mqtt_client_id,
    )


def embedded_broker_of(settings: Settings) -> EmbeddedBroker | Problem:
    """Our own broker, not started, or why there is none. Raises Problem("settings-unreadable")."""
    if settings.mqtt_broker not in ("auto", "off"):
        raise _unusable('mqtt_broker must be "auto" or "off"')
    if settings.mqtt_broker == "off":
        return Problem("mqtt-off", detail="mqtt_broker is off and no mqtt_url is set")
    program = find_program()
    if program is None:
        return Problem("broker-missing")
    for name in ("mqtt_broker_port", "mqtt_broker_tls_port"):
        if getattr(settings, name) > PORT_MAX:
            raise _unusable(f"{name} must be a port, up to {PORT_MAX}")
    return EmbeddedBroker(
        settings.data_folder / "broker",
        program,
        host=settings.mqtt_broker_host,
        port=settings.mqtt_broker_port,
        tls=_tls_listener(settings),
    )


def own_place(broker: EmbeddedBroker, password: str) -> BrokerPlace:
    """How we ourselves reach our own broker."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(broker.host, broker.host)
    return BrokerPlace(host=host, port=broker.port, user=HEAD_END, password=password)


def _tls_listener(settings: Settings) -> TlsListener | None:
    cert, key = settings.mqtt_broker_cert_file, settings.mqtt_broker_key_file
    client_ca = settings.mqtt_broker_client_ca_file
    if not cert and not key and not client_ca:
        return None
    if not cert or not key:
        raise _unusable(
            "mqtt_broker_cert_file and mqtt_broker_key_file belong together, and "
            "mqtt_broker_client_ca_file needs both"
        )
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if client_ca:
            context.load_verify_locations(client_ca)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(f"the certificates of mqtt_broker cannot be used: {error}") from error
    return TlsListener(
        host=settings.mqtt_broker_tls_host,
        port=settings.mqtt_broker_tls_port,
        cert_file=Path(cert),
        key_file=Path(key),
        client_ca_file=Path(client_ca) if client_ca else None,
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.mqtt_ca_file or None)
        if settings.mqtt_cert_file:
            context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(f"the certificates of MQTT cannot be used: {error}") from error
    return context


def _unusable(detail: str) -> Problem:
    return Problem("settings-unreadable", file="the settings", detail=detail)
