"""Boxes of every dialect that dials in, made from the words of a site file or a command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from simulators.acrel_4g import Acrel4g, Modem
from simulators.dialects import Ddp, FourFaith
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.line_command import LineWish, WrongWish
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming

DIALECTS = ("transparent", "ddp", "four_faith", "acrel_4g")


def dialled_box(
    dialect: str,
    name: str,
    bus: Bus,
    *,
    host: str,
    port: int,
    plan: DtuPlan | None = None,
    timing: WireTiming | None = None,
    faults: Faults | None = None,
    seed: int = 0,
    upload_s: float | None = None,
) -> Dtu:
    """A box that calls itself `name`: a text, a phone number, or the serial number of a 4G meter,
    whose only meter is the first of the bus. `plan`: its manners; it need not tell a registration.
    """
    plan = plan or DtuPlan(registration=name.encode("ascii"), heartbeat=b"ping")
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "timing": timing,
        "faults": faults,
        "seed": seed,
    }
    if dialect == "acrel_4g":
        modem = Modem(serial=name, unit=min(bus.units))
        return Acrel4g(bus, modem, plan, upload_s=upload_s, **given)
    counts: Counter[str] = Counter()
    if dialect == "ddp":
        given["new_speech"] = partial(Ddp, name, counts)
    elif dialect == "four_faith":
        given["new_speech"] = partial(FourFaith, name)
    elif dialect != "transparent":
        raise ValueError(f"no dialect is called {dialect}; there are {', '.join(DIALECTS)}")
    return Dtu(bus, plan, **given)


def parse_name(text: str) -> tuple[str, str]:
    """DIALECT:NAME. Raises WrongWish."""
    dialect, _, name = text.partition(":")
    if dialect not in DIALECTS or not name.isascii() or not name:
        raise WrongWish(f"--as must be DIALECT:NAME with one of {', '.join(DIALECTS)}, not {text}")
    digits = {"ddp": (11,), "four_faith": (11, 12), "acrel_4g": range(1, 21)}.get(dialect)
    if digits is not None and not (name.isdigit() and len(name) in digits):
        raise WrongWish(f"{name} is no name of a box that speaks {dialect}: it has digits only")
    return dialect, name


async def run_dialled(
    wish: LineWish,
    named: str,
    upload_s: float | None,
    wait: Callable[[], Coroutine[Any, Any, None]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Dial until `wait` returns; gives the line's report. Raises WrongWish."""
    assert wish.tcp is not None
    host, port = wish.tcp
    dialect, name = parse_name(named)
    bus = wish.bus()
    box = dialled_box(
        dialect,
        name,
        bus,
        host=host,
        port=port,
        timing=wish.timing,
        faults=wish.faults(),
        seed=wish.seed,
        upload_s=upload_s,
    )
    await box.plug()
    say(f"{len(bus.units)} units behind {dialect} {name}, dialling {host}:{port}")
    try:
        await wait()
    finally:
        await box.unplug()
    return {**box.report.as_json(), "box": dict(box.counts)}
