"""The secrets of gateways: never in a site file or a sentence, fetched anew at each login."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headend.domain.places import Gateway, GatewayKind
from headend.domain.site_file import parse_site_file
from headend.domain.site_tables import SiteFileError
from headend.services.gateway_secrets import gateway_secret
from protocols.catalog import load_meter_types
from protocols.keys import GatewaySecret

SECRET = "0123456789abcdef"


def parse(options: str, registration: str = "310115D001/01") -> Gateway:
    text = f"""[site]
name = "Court"
time_zone = "Asia/Shanghai"
[[gateways]]
name = "G1"
kind = "acrel_gateway"
registration = "{registration}"
{options}
"""
    (gateway,) = parse_site_file(text, "court.toml", load_meter_types()).gateways
    return gateway


def known(place: str, environment: dict[str, str] | None = None) -> GatewaySecret:
    given = gateway_secret({"secret": place}, os.environ if environment is None else environment)
    assert given is not None
    return given


@pytest.mark.parametrize("place", ["file:/etc/headend/G1", "env:G1_SECRET"])
def test_a_site_file_says_where_the_secret_lies(place: str) -> None:
    gateway = parse(f'options = {{ secret = "{place}" }}')
    assert gateway.kind is GatewayKind.ACREL_GATEWAY
    assert gateway.options == {"secret": place}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("", 4),
        (f'options = {{ secret = "{SECRET}" }}', 8),
        ('options = { secret = "file:relative/G1" }', 8),
        ('options = { secret = "env:" }', 8),
        ("options = { secret = 1234567890123456 }", 8),
    ],
)
def test_a_secret_in_a_site_file_is_refused_and_not_repeated(options: str, line: int) -> None:
    with pytest.raises(SiteFileError) as caught:
        parse(options)
    said = str(caught.value)
    assert said.startswith(f"court.toml, line {line}: option secret of gateway G1 must say where")
    assert SECRET not in said
    assert "1234567890123456" not in said


@pytest.mark.parametrize("registration", ["310115D001", "/01", "310115D001/"])
def test_a_registration_is_building_and_gateway(registration: str) -> None:
    with pytest.raises(SiteFileError, match="building and the gateway number"):
        parse('options = { secret = "env:G1" }', registration)


def test_a_secret_is_fetched_at_each_use(tmp_path: Path) -> None:
    file = tmp_path / "G1"
    file.write_text(f"{SECRET}\n")
    secret = known(f"file:{file}")
    assert secret.key() == SECRET.encode()
    file.write_text(SECRET[::-1])
    assert secret.key() == SECRET[::-1].encode()
    assert known(f"file:{file}") is secret, "a reload hangs up on nobody"
    assert known("env:G1", {"G1": SECRET}).key() == SECRET.encode()


def test_what_cannot_be_fetched_is_told_without_it(tmp_path: Path) -> None:
    file = tmp_path / "G1"
    for content, why in (
        (None, "No such file"),
        (b"\xff" * 16, "UTF-8"),
        (b"a secret", "16 bytes"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=why) as caught:
            known(f"file:{file}").key()
        assert "a secret" not in str(caught.value)
    with pytest.raises(ValueError, match="G1 is not set"):
        known("env:G1", {}).key()
    assert gateway_secret({}) is None
    assert gateway_secret({"secret": SECRET}) is None
