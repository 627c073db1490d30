"""Closed units that hang, lie, flood, die and look around."""

from __future__ import annotations

_HEAD = "import json, os, socket, sys, time\nfor line in sys.stdin:\n    told = json.loads(line)\n"


def _program(body: str) -> str:
    return (
        _HEAD
        + "".join(f"    {line}\n" for line in body.strip().splitlines())
        + ("    sys.stdout.flush()\n")
    )


PROGRAMS = {
    "hangs": _program("time.sleep(3600)"),
    "floods": _program("sys.stdout.write('x' * 1_000_000)"),
    "dies": _program("sys.exit(1)"),
    "babbles": _program("print('hello')"),
    "nonsense": _program("print(json.dumps({'done': {'no': 1}}))"),
    "endless": _program("print(json.dumps({'apdu': 'ffca000000', 'write': False}))"),
    "answers_twice": _program("print(json.dumps({'done': '00' * 48}) + '\\n{\"done\": \"11\"}')"),
    "lies": _program(
        """
record = dict(told['record'], amount_fen=1)
seen = {'serial': record['serial'], 'record': record, 'seal': 'good', 'back': None}
print(json.dumps({'done': dict(seen, back_seal=None, back_written=False)}))
"""
    ),
    "looks": _program(
        """
try:
    socket.create_connection(('127.0.0.1', 1), 1)
    network = 'reachable'
except OSError as error:
    network = 'unreachable' if error.errno == 101 else str(error)
try:
    open('/etc/shadow').close()
    files = 'allowed'
except OSError:
    files = 'denied'
said = f'{os.getuid()} {network} {files}'
print(json.dumps({'done': said.encode().hex()}))
"""
    ),
}
