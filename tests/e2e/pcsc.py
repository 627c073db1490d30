"""A real pcscd with a virtual reader, in namespaces of its own: nothing outside sees either.

The network namespace keeps the virtual reader's port to ourselves, the mount namespace pcscd's
socket, which the client library finds through PCSCLITE_CSOCK_NAME. Cards are objects of this
process; only the thread that dials enters the namespace.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulators.card_slot import SLOT_0, CardSlot

DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
READER_S_MAX = 30  # until pcscd has its reader, on a machine that does much else
_NEW_NET = 0x40000000

NEEDS_PCSC = pytest.mark.skipif(
    os.geteuid() != 0 or not DRIVER.exists() or shutil.which("pcscd") is None,
    reason="needs root for namespaces, pcscd and vsmartcard-vpcd",
)


@contextmanager
def pcscd(folder: Path) -> Iterator[CardSlot]:
    """The slot of a virtual reader, and a PC/SC service that has it."""
    conf, run = folder / "conf", folder / "run"
    conf.mkdir()
    run.mkdir()
    (conf / "vpcd").write_text(
        f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{SLOT_0:#x}\n'
        f"LIBPATH {DRIVER}\nCHANNELID {SLOT_0:#x}\n"
    )
    # The service makes its socket in /run/pcscd, which in there is our folder.
    script = (
        "ip link set lo up; mkdir -p /run/pcscd; "
        f"mount --bind {run} /run/pcscd; exec pcscd -f -c {conf}"
    )
    command = ["unshare", "--net", "--mount", "sh", "-c", script]
    with (folder / "pcscd.log").open("wb") as said:
        service = subprocess.Popen(command, stdout=said, stderr=said)
    os.environ["PCSCLITE_CSOCK_NAME"] = str(run / "pcscd.comm")
    slot = CardSlot(lambda: _dialled(service.pid))
    try:
        _until_ready(service, run / "pcscd.comm")
        yield slot
    finally:
        slot.pull()
        service.terminate()
        service.wait(30)


def _until_ready(service: subprocess.Popen[bytes], comm: Path) -> None:
    until_s = time.monotonic() + READER_S_MAX
    while time.monotonic() < until_s:
        assert service.poll() is None, "pcscd ended"
        if comm.exists():
            try:
                _dialled(service.pid).close()
            except OSError:
                pass
            else:
                return
        time.sleep(0.02)
    raise AssertionError("pcscd has no virtual reader")


def _dialled(pid: int) -> socket.socket:
    """A connection to the virtual reader, from inside its network."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def dial() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(namespace, _NEW_NET):
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_connection(("127.0.0.1", SLOT_0), timeout=5))
            made[0].settimeout(None)
        except OSError as error:
            failed.append(error)
        finally:
            os.close(namespace)

    thread = threading.Thread(target=dial)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
