"""What the web and the CLI may ask for, in one place: no container, just the parts by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from headend.domain.clock import Clock
from headend.services.card_counter import CardCounter
from headend.services.decisions import Decisions
from headend.services.evidence import EvidenceDesk
from headend.services.gateway_health import FactsBook
from headend.services.lines import LineBook
from headend.services.machine_key import MachineKey
from headend.services.mqtt_service import MqttService
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.outgoing import Roads
from headend.services.reports import ReportDesk
from headend.services.sink import Sink
from headend.services.terminals import Terminals
from headend.services.uplinks import Uplinks
from headend.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The running parts of one head-end."""

    database: Database
    lines: LineBook
    facts: FactsBook
    nights: NightService
    sink: Sink
    uplinks: Uplinks
    orders: Orders
    decisions: Decisions
    clock: Clock
    started_at: datetime
    version: str
    mqtt: MqttService
    outgoing: Roads
    #: what opens looking to whoever runs this program
    machine_key: MachineKey
    #: None: no key service is set, and no card is made
    cards: CardCounter | None = None
    #: None: no recharge terminal is answered here
    terminals: Terminals | None = None
    #: None: no file of a report is made here
    reports: ReportDesk | None = None
    #: How tenants' telephones reach this desk, "https://desk.example.com"; "": as its pages are
    public_url: str = ""
    #: None: no evidence pack is signed here
    evidence: EvidenceDesk | None = None
    #: From when on the last backup is too old; None: no backups are set up
    backup_age_max: timedelta | None = None

    def strangers(self) -> list[dict[str, Any]]:
        """Boxes that called under no known name, by their own socket or over MQTT."""
        return [*self.lines.strangers(), *self.mqtt.strangers()]
