"""Words for codes that only reports show. See words.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headend.web.texts import N_

STORED: Final[Mapping[str, str]] = {
    "till": N_("counter"),
    "channel": N_("payment channel"),
    "dark": N_("off"),
    "light": N_("on"),
    "pending": N_("being written"),
    "issued": N_("issued"),
    "clearing": N_("being cleared"),
    "lost": N_("lost"),
    "card:opening": N_("opening card"),
    "card:purchase": N_("purchase card"),
    "card:replacement": N_("replacement card"),
    "card:make_up": N_("make-up card"),
    "card:refund": N_("refund card"),
    "card:parameter": N_("parameter card"),
    "card:preset": N_("preset card"),
    "card:clear": N_("clear card"),
    "card:check": N_("check card"),
    "daily": N_("each day"),
    "weekly": N_("each Monday"),
    "monthly": N_("on the first of the month"),
    "waiting": N_("waiting"),
    "running": N_("being made"),
    "done": N_("done"),
    "failed": N_("failed"),
    "day": N_("day"),
    "month": N_("month"),
    "building": N_("building"),
    "tariff": N_("tariff"),
    "operator": N_("operator"),
    "meter": N_("meter"),
}
