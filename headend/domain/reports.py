"""Reports: what can be asked, the columns of each answer, and when a schedule is due. Pure.

Money is fen, energy Wh, shares per mille: whole numbers throughout, turned into yuan and kWh only
where a person or a file reads them (services/report_files.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, TypeAlias

Value: TypeAlias = int | str | date | datetime | None
Row: TypeAlias = tuple[Value, ...]

# One year and a day: a longer question is several reports.
DAYS_MAX: Final = 367
# What is missed is made up for, each period once, but not for ever.
MADE_UP_MAX: Final = 31


class ReportKind(enum.Enum):
    """What a report tells."""

    TURNOVER = "turnover"  # use and sales
    USE = "use"  # energy by rate
    LINES = "lines"  # each row of the books that moved money
    ARREARS = "arrears"
    LOSS = "loss"  # master meters against what hangs under them
    CARDS_OUT = "cards-out"
    UNKNOWN = "unknown"  # orders whose outcome nobody knows


class Grouping(enum.Enum):
    """What a row of a report stands for."""

    DAY = "day"
    MONTH = "month"
    BUILDING = "building"
    TARIFF = "tariff"
    OPERATOR = "operator"
    CHANNEL = "channel"
    METER = "meter"


class Shape(enum.Enum):
    """How a value is read."""

    TEXT = "text"
    WORD = "word"  # a stored code that people know by a word
    DAY = "day"
    INSTANT = "instant"
    COUNT = "count"
    MONEY = "money"  # fen
    ENERGY = "energy"  # Wh
    SHARE = "share"  # per mille


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name for programs, its titles for people, how its values are read."""

    name: str
    english: str
    chinese: str
    shape: Shape
    summed: bool = False  # whether a total under it means something

    def title(self, language: str) -> str:
        """What stands above it."""
        return self.chinese if language == "zh" else self.english


K, G, S = ReportKind, Grouping, Shape

_KEYS: Final[Mapping[Grouping, Column]] = {
    G.DAY: Column("day", "Day", "日期", S.DAY),
    G.MONTH: Column("month", "Month", "月份", S.TEXT),
    G.BUILDING: Column("building", "Building", "楼栋", S.TEXT),
    G.TARIFF: Column("tariff", "Tariff", "电价", S.TEXT),
    G.OPERATOR: Column("operator", "Operator", "操作员", S.TEXT),
    G.CHANNEL: Column("channel", "Channel", "渠道", S.WORD),
    G.METER: Column("meter", "Meter", "电表", S.TEXT),
}
_USED: Final = Column("used_wh", "Used, kWh", "用电量（kWh）", S.ENERGY, summed=True)
_SALES: Final = (
    Column("payments", "Payments", "收款笔数", S.COUNT, summed=True),
    Column("taken_fen", "Taken, yuan", "收款（元）", S.MONEY, summed=True),
    Column("paid_back_fen", "Paid back, yuan", "退款（元）", S.MONEY, summed=True),
    Column("corrected_fen", "Corrected, yuan", "调整（元）", S.MONEY, summed=True),
    Column("fee_fen", "Service fee, yuan", "服务费（元）", S.MONEY, summed=True),
    Column("charged_fen", "Charged for energy, yuan", "电费（元）", S.MONEY, summed=True),
    Column("posted", "Top-ups in meters", "到表笔数", S.COUNT, summed=True),
    Column("posted_fen", "Proved in meters, yuan", "已到表（元）", S.MONEY, summed=True),
)
_RATES: Final = (
    Column("sharp_wh", "Sharp, kWh", "尖（kWh）", S.ENERGY, summed=True),
    Column("peak_wh", "Peak, kWh", "峰（kWh）", S.ENERGY, summed=True),
    Column("flat_wh", "Flat, kWh", "平（kWh）", S.ENERGY, summed=True),
    Column("valley_wh", "Valley, kWh", "谷（kWh）", S.ENERGY, summed=True),
    Column("deep_valley_wh", "Deep valley, kWh", "深谷（kWh）", S.ENERGY, summed=True),
)
_PLACE: Final = (
    Column("site", "Property", "项目", S.TEXT),
    Column("building", "Building", "楼栋", S.TEXT),
    Column("room", "Room", "房间", S.TEXT),
    Column("meter", "Meter", "电表", S.TEXT),
)
_CUSTOMER: Final = (
    Column("customer", "Customer", "客户", S.TEXT),
    Column("contact", "Telephone", "电话", S.TEXT),
)
_FIXED: Final[Mapping[ReportKind, tuple[Column, ...]]] = {
    K.LINES: (
        Column("entry_no", "No.", "序号", S.COUNT),
        Column("at", "Time", "时间", S.INSTANT),
        Column("operation", "Operation", "业务", S.WORD),
        Column("channel", "Channel", "渠道", S.WORD),
        *_PLACE,
        Column("customer", "Customer", "客户", S.TEXT),
        Column("amount_fen", "Amount, yuan", "金额（元）", S.MONEY),
        Column("operator", "Operator", "操作员", S.TEXT),
        Column("approver", "Approved by", "审批人", S.TEXT),
        Column("reason", "Reason", "原因", S.TEXT),
    ),
    K.ARREARS: (
        *_PLACE,
        *_CUSTOMER,
        Column("owed_fen", "Owed, yuan", "欠费（元）", S.MONEY, summed=True),
        Column("waits_fen", "Waits as balance, yuan", "账户余额（元）", S.MONEY, summed=True),
        Column("dark", "Light", "供电", S.WORD),
        Column("seen_at", "Seen at", "抄见时间", S.INSTANT),
        Column("last_paid_at", "Last payment", "上次缴费", S.INSTANT),
    ),
    K.LOSS: (
        Column("site", "Property", "项目", S.TEXT),
        Column("master", "Master meter", "总表", S.TEXT),
        Column("first_night", "From the night", "起始抄表夜", S.DAY),
        Column("last_night", "To the night", "截止抄表夜", S.DAY),
        Column("master_wh", "Master, kWh", "总表（kWh）", S.ENERGY, summed=True),
        Column("circuits_wh", "Circuits, kWh", "分表合计（kWh）", S.ENERGY, summed=True),
        Column("loss_wh", "Loss, kWh", "损耗（kWh）", S.ENERGY, summed=True),
        Column("loss_permille", "Loss", "损耗率", S.SHARE),
        Column("circuits", "Circuits", "分表数", S.COUNT, summed=True),
        Column("unread", "Without two readings", "缺抄表数", S.COUNT, summed=True),
    ),
    K.CARDS_OUT: (
        Column("issue_number", "Issue", "发卡号", S.COUNT),
        Column("serial", "Card", "卡序列号", S.TEXT),
        Column("card_kind", "Kind", "类型", S.WORD),
        Column("card_state", "State", "状态", S.WORD),
        *_PLACE,
        Column("purchase_count", "Purchase count", "购电次数", S.COUNT),
        Column("amount_fen", "Amount, yuan", "金额（元）", S.MONEY, summed=True),
        Column("since", "Since", "起始时间", S.INSTANT),
        Column("operator", "Operator", "操作员", S.TEXT),
    ),
    K.UNKNOWN: (
        Column("command_id", "Order", "指令", S.TEXT),
        Column("command_kind", "Kind", "类型", S.WORD),
        Column("command_state", "State", "状态", S.WORD),
        *_PLACE,
        Column("purchase_count", "Purchase count", "购电次数", S.COUNT),
        Column("amount_fen", "Amount, yuan", "金额（元）", S.MONEY, summed=True),
        Column("ordered_at", "Ordered at", "下达时间", S.INSTANT),
        Column("look_again_at", "Looked at again", "下次核查", S.INSTANT),
        Column("tries", "Tries", "尝试次数", S.COUNT),
        Column("operator", "Operator", "操作员", S.TEXT),
        Column("outcome", "Note", "说明", S.TEXT),
    ),
}
# Those that can be grouped, the usual grouping first.
GROUPINGS: Final[Mapping[ReportKind, tuple[Grouping, ...]]] = {
    K.TURNOVER: (G.DAY, G.MONTH, G.BUILDING, G.TARIFF, G.OPERATOR, G.CHANNEL),
    K.USE: (G.DAY, G.MONTH, G.BUILDING, G.TARIFF, G.METER),
}
assert set(GROUPINGS) | set(_FIXED) == set(ReportKind)
# What stands now, whatever days are asked about.
OF_NOW: Final = frozenset({K.ARREARS, K.CARDS_OUT, K.UNKNOWN})
# Nobody uses energy by operator or by channel.
_WITHOUT_USE: Final = frozenset({G.OPERATOR, G.CHANNEL})

TITLES: Final[Mapping[ReportKind, tuple[str, str]]] = {
    K.TURNOVER: ("Use and sales", "用电与售电"),
    K.USE: ("Use by rate", "分时用电"),
    K.LINES: ("Ledger lines", "流水明细"),
    K.ARREARS: ("Arrears", "欠费"),
    K.LOSS: ("Loss", "总分表差"),
    K.CARDS_OUT: ("Cards out", "在外卡片"),
    K.UNKNOWN: ("Unknown outcomes", "结果未知"),
}


class BadReport(ValueError):
    """What is asked for is no report; the text says why, in English, for a programmer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One question. `sites`: what the asker may see, None: all; `site_id`: one of them only."""

    kind: ReportKind
    grouping: Grouping | None
    first: date
    last: date  # this day included
    sites: tuple[int, ...] | None
    site_id: int | None = None

    def __post_init__(self) -> None:
        allowed = GROUPINGS.get(self.kind, (None,))
        if self.grouping not in allowed:
            raise BadReport(f"{self.kind.value} is not grouped by {self.grouping}")
        if not 0 <= (self.last - self.first).days < DAYS_MAX:
            raise BadReport(f"from 1 to {DAYS_MAX} days")

    @property
    def columns(self) -> tuple[Column, ...]:
        """What its rows tell, in order."""
        if self.grouping is None:
            return _FIXED[self.kind]
        key = _KEYS[self.grouping]
        if self.kind is K.USE:
            return (key, _USED, *_RATES)
        return (key, *_SALES) if self.grouping in _WITHOUT_USE else (key, _USED, *_SALES)

    @property
    def name(self) -> str:
        """As a file is called, without its ending."""
        by = "" if self.grouping is None else f"-by-{self.grouping.value}"
        if self.kind in OF_NOW:
            return f"{self.kind.value}{by}-{self.last}"
        return f"{self.kind.value}{by}-{self.first}-{self.last}"


def add_up(columns: Sequence[Column], totals: list[int], row: Row) -> None:
    """One row more into the totals; one number for each column."""
    for place, column in enumerate(columns):
        value = row[place]
        if column.summed and isinstance(value, int):
            totals[place] += value


class Cadence(enum.Enum):
    """How often a schedule is due."""

    DAILY = "daily"
    WEEKLY = "weekly"  # on Mondays
    MONTHLY = "monthly"  # on the first


def due_instants(
    cadence: Cadence, at_time: time, zone: tzinfo, after: datetime, until: datetime
) -> Iterator[datetime]:
    """When a schedule was due in (after, until], the newest MADE_UP_MAX of them, oldest first."""
    day = until.astimezone(zone).date()
    found: list[datetime] = []
    while len(found) < MADE_UP_MAX:
        due = datetime.combine(day, at_time, tzinfo=zone)
        if due <= after:
            break
        if due <= until and _is_due_on(cadence, day):
            found.append(due)
        day -= timedelta(days=1)
    return reversed(found)


def _is_due_on(cadence: Cadence, day: date) -> bool:
    if cadence is Cadence.WEEKLY:
        return day.weekday() == 0
    return cadence is Cadence.DAILY or day.day == 1


def period_of(cadence: Cadence, due: date) -> tuple[date, date]:
    """The whole days a report tells about that is due on this day: those before it."""
    last = due - timedelta(days=1)
    if cadence is Cadence.DAILY:
        return last, last
    if cadence is Cadence.WEEKLY:
        return due - timedelta(days=7), last
    return last.replace(day=1), last
