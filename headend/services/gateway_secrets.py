"""The secrets of gateways, fetched from where the site file says they lie, at each login anew.

So a secret is changed by writing the file: no import, no restart.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from headend.domain.secret_places import BadSecretPlace, SecretPlace, parse_secret_place
from protocols.keys import GatewaySecret
from protocols.meter_type import Options

SECRET = "secret"  # the option of a gateway
SECRET_FILE_BYTES_MAX = 256  # a file of more is some other file


def gateway_secret(
    options: Options, environment: Mapping[str, str] = os.environ
) -> GatewaySecret | None:
    """The secret these options of a gateway name; None where they name none."""
    text = options.get(SECRET)
    if not isinstance(text, str):
        return None
    try:
        place = parse_secret_place(text)
    except BadSecretPlace:  # written by a program that asked for less
        return None
    if environment is os.environ:
        return _kept(place)  # the same place is the same secret: nobody is hung up for a reload
    return GatewaySecret(functools.partial(_fetch, place, environment))


@functools.cache
def _kept(place: SecretPlace) -> GatewaySecret:
    return GatewaySecret(functools.partial(_fetch, place, os.environ))


def _fetch(place: SecretPlace, environment: Mapping[str, str]) -> str:
    """Raises ValueError, without the secret in its text."""
    if place.kind == "env":
        if place.where not in environment:
            raise ValueError(f"the variable {place.where} is not set")
        return environment[place.where]
    try:
        with Path(place.where).open("rb") as file:
            return file.read(SECRET_FILE_BYTES_MAX).decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{place.where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{place.where} is not UTF-8 text") from None
