"""Gateways that push, in a process of their own: reads orders from standard input, one JSON a line.

{"messages": n, "per_s": rate or 0 for as fast as it goes, "begin_s": unix second of the first
instant, "energy": hundredths}: answers with one JSON line, when each message was handed over and
how long all acknowledgements took.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

IN_FLIGHT = 200  # of one gateway


class Gateway:
    """One gateway with `meters` meters at unit ids 1, 2 …"""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.user = user
        self.acknowledged = 0
        self._welcome = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=user)
        self.client.username_pw_set(user, password)
        self.client.max_inflight_messages_set(IN_FLIGHT)
        self.client.max_queued_messages_set(0)
        self.client.on_connect = lambda *_: self._welcome.set()
        self.client.on_publish = self._on_publish
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._welcome.wait(30), "the broker does not let the gateway in"

    def _on_publish(self, *_: Any) -> None:
        self.acknowledged += 1

    def say(self, unit: int, at_s: int, hundredths: int) -> None:
        body = {
            "msgid": "1",
            "method": "report",
            "sn": self.user,
            "timestamp": at_s,
            "payload": {
                "reported": {
                    "source": "REALTIME",
                    "meters": [{"addr": str(unit), "EPI": hundredths / 100}],
                }
            },
        }
        self.client.publish(f"data/up/P1/{self.user}", json.dumps(body).encode(), qos=1)


def push(gateways: list[Gateway], meters: int, order: dict[str, Any]) -> dict[str, Any]:
    """Message i is of gateway i mod g, meter (i div g) mod m; a later one of a meter shows more."""
    sent_s: list[float] = []
    began_s, before = time.time(), sum(gateway.acknowledged for gateway in gateways)
    for i in range(order["messages"]):
        turn, of_gateway = divmod(i, len(gateways))
        step, unit = divmod(turn, meters)
        if order["per_s"]:
            wait_s = began_s + i / order["per_s"] - time.time()
            if wait_s > 0:
                time.sleep(wait_s)
        sent_s.append(time.time())
        gateways[of_gateway].say(unit + 1, order["begin_s"] + step, order["energy"] + step)
    while sum(gateway.acknowledged for gateway in gateways) - before < order["messages"]:
        time.sleep(0.001)
    return {"sent_s": sent_s, "acknowledged_s": time.time()}


def main() -> None:
    """The first line: {"port", "meters", "access": [[user, password], …]}."""
    setting = json.loads(sys.stdin.readline())
    gateways = [Gateway(setting["port"], user, word) for user, word in setting["access"]]
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(push(gateways, setting["meters"], json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
