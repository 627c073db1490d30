"""A box that speaks its own dialect over a serial port of this machine: there is nobody to dial.

The port is opened for ourselves alone and a session is held on it, as on a connection that was
accepted. A session that ends (unplugged, silent, turned away) is followed by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import serial
import serial_asyncio

from gateways.keeper import Backoff
from gateways.link import LinkDown
from gateways.serial_link import SerialSettings, open_port
from gateways.session import Session


async def keep_session(
    device: str,
    settings: SerialSettings,
    new_session: Callable[[], Session | None],
    *,
    down: Callable[[str], None],
    backoff: Backoff | None = None,
) -> None:
    """Hold a session on this port; runs until cancelled. `down` is told why there is none."""
    backoff = Backoff() if backoff is None else backoff
    loop = asyncio.get_running_loop()
    pause_s = backoff.first_s
    while True:
        session = new_session()
        if session is not None:
            opened_s = loop.time()
            try:
                port = open_port(device, settings)
            except LinkDown as error:
                down(str(error))
            else:
                await _held(device, session, port)
                if loop.time() - opened_s >= backoff.good_after_s:
                    pause_s = backoff.first_s
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, backoff.longest_s)


async def _held(device: str, session: Session, port: serial.Serial) -> None:
    """Until it is over, whoever ended it."""
    loop = asyncio.get_running_loop()
    await serial_asyncio.connection_for_serial(loop, lambda: session, port)
    try:
        await session.over.wait()
    finally:
        session.hang_up(f"{device} was closed by this program")
