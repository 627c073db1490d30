"""One Acrel gateway, as a technician asks for it on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.faults import Faults
from simulators.line_command import LineWish, WrongWish
from simulators.town_clock import town_clock

PORT_MAX = 99
SECRET_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayWish:
    """A gateway to simulate: where it dials, and a line for each of its ports."""

    host: str
    port: int
    plan: GatewayPlan
    ports: dict[int, LineWish]

    @classmethod
    def parse(
        cls,
        *,
        dial_in: str,
        registration: str,
        secret: str,
        ports: list[str],
        report_s: float,
        packed: bool,
        seed: int,
        faults: str,
    ) -> GatewayWish:
        """From the words of the command line; `ports` as in "2=ddsy:1-8". Raises WrongWish."""
        host, _, port = dial_in.rpartition(":")
        if not (host and port.isdigit()):
            raise WrongWish(f"--dial-in must be HOST:PORT, not {dial_in}")
        building, _, number = registration.partition("/")
        if not (building and number):
            raise WrongWish(f"--registration must be BUILDING/GATEWAY, not {registration}")
        if len(secret.encode()) != SECRET_BYTES:
            raise WrongWish(f"the secret must be {SECRET_BYTES} bytes")
        plan = GatewayPlan(
            building=building, number=number, secret=secret, report_s=report_s, packed=packed
        )
        return cls(
            host=host, port=int(port), plan=plan, ports=_lines(ports, seed=seed, faults=faults)
        )

    def gateway(self) -> AcrelGateway:
        """The gateway, inside a running loop. Raises WrongWish when addresses clash."""
        return AcrelGateway(
            {number: line.bus() for number, line in self.ports.items()},
            self.plan,
            host=self.host,
            port=self.port,
            now_ms=town_clock().now_ms,
            faults={
                number: Faults(seed=line.seed, rates=line.rates)
                for number, line in self.ports.items()
            },
        )


def _lines(ports: list[str], *, seed: int, faults: str) -> dict[int, LineWish]:
    found: dict[int, list[str]] = {}
    for text in ports:
        number, _, meters = text.partition("=")
        if not (number.isdigit() and 1 <= int(number) <= PORT_MAX and meters):
            raise WrongWish(f"--port is written as 2=ddsy:1-8, not {text}")
        found.setdefault(int(number), []).append(meters)
    # Another seed for each port: no two meters of a gateway have one number.
    return {
        number: replace(
            LineWish.parse(
                meters=meters,
                pty=None,
                tcp="none:0",
                baud=9600,
                bits=10,
                turnaround_s=0.02,
                seed=seed * 100 + number,
                faults=faults,
            ),
            tcp=None,
        )
        for number, meters in found.items()
    }


async def run_gateway(
    wish: GatewayWish,
    wait: Callable[[], Coroutine[Any, Any, None]],
    say: Callable[[str], None],
) -> str:
    """Serve until `wait` returns; gives its report as JSON."""
    gateway = wish.gateway()
    await gateway.plug()
    say(f"gateway {wish.plan.registration} dials {wish.host}:{wish.port}")
    try:
        await wait()
    finally:
        await gateway.unplug()
    ports = {number: report.as_json() for number, report in gateway.reports.items()}
    return json.dumps({**gateway.counts, **gateway.ports.counts, "ports": ports})
