"""The C programs we measure against: compiled when they are needed, kept nowhere."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent / "c"
READY_S_MAX = 10.0


class NotHere(Exception):
    """A compiler or a library is missing; the text says which package brings it."""


def compiled(source: str, into: Path, *libraries: str) -> Path:
    """The program. Raises NotHere."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NotHere("no C compiler: apt install gcc")
    program = into / Path(source).stem
    flags = [f"-l{library}" for library in libraries]
    headers = [f"-I/usr/include/{library}" for library in libraries]
    command = [
        compiler,
        "-O2",
        "-pthread",
        *headers,
        "-o",
        str(program),
        str(SOURCES / source),
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        packages = " ".join(f"lib{library}-dev" for library in libraries) or "libc6-dev"
        raise NotHere(f"{source} does not compile: apt install {packages}")
    return program


@contextlib.contextmanager
def modbus_slave() -> Iterator[int]:
    """The port of a slave that costs as little as possible: C, or uvloop without a compiler."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            command: list[str] = [str(compiled("slave.c", Path(folder)))]
        except NotHere as missing:
            print(f"  the slave runs on uvloop: {missing}")
            command = [sys.executable, "-m", "bench._slave"]
        slave = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert slave.stdin is not None
        assert slave.stdout is not None
        try:
            yield int(slave.stdout.readline())
        finally:
            slave.stdin.close()  # it ends with its standard input
            slave.wait(READY_S_MAX)
            slave.stdout.close()
