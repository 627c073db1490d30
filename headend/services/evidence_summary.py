"""The page of an evidence pack that people read: what the other members say, in two languages.

Plain HTML without script, style from elsewhere or picture, so that any browser shows it offline.
Every text of the pack is escaped: a tenant's name is a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final
from zoneinfo import ZoneInfo

from headend.services.report_files import Say, decimal_text

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;"
    "color:#17202b}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #d9dfe6;"
    "padding:.3rem .5rem;text-align:left;vertical-align:top}td.n,th.n{text-align:right}"
    "code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}p.k{color:#566273}"
)
_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("Evidence pack", "证据包"),
    "meter": ("Meter", "电表"),
    "number": ("Meter number", "表号"),
    "place": ("Place", "位置"),
    "customer": ("Customer", "客户"),
    "period": ("Period", "期间"),
    "made": ("Made at", "生成时间"),
    "by": ("Made by", "生成人"),
    "machine": ("on the machine itself", "在主机上"),
    "key": ("Signed by the key", "签名密钥指纹"),
    "money": ("Money", "资金"),
    "time": ("Time", "时间"),
    "operation": ("Operation", "业务"),
    "from": ("From", "付方"),
    "to": ("To", "收方"),
    "amount": ("Amount, yuan", "金额（元）"),
    "who": ("Operator", "操作员"),
    "approved": ("Approved by", "审批人"),
    "reason": ("Reason", "原因"),
    "orders": ("Orders to the meter", "下达给电表的指令"),
    "order": ("Order", "指令"),
    "state": ("State", "状态"),
    "count": ("Purchase count", "购电次数"),
    "before": ("Before", "执行前"),
    "after": ("After", "执行后"),
    "frames": ("Frames", "报文数"),
    "note": ("Note", "说明"),
    "readings": ("Readings", "抄表读数"),
    "energy": ("Energy, kWh", "电量（kWh）"),
    "credit": ("Credit, yuan", "剩余金额（元）"),
    "seal": ("Last seal over the books", "账本最后的封存值"),
    "none": ("none", "无"),
    "how": (
        "This page is a summary. What counts are the members beside it, each with its hash in "
        "manifest.json, signed in signature.json. Verify the whole file offline with: "
        "headend verify-evidence FILE --key FINGERPRINT, and take the fingerprint from the "
        "company by another road than this file.",
        "本页为摘要，以同包其他文件为准：各文件的哈希值列于 manifest.json，并由 signature.json "
        "签名。请离线校验整个文件：headend verify-evidence 文件 --key 指纹；指纹应由物业公司通过"
        "本文件以外的途径提供。",
    ),
}
READINGS_SHOWN: Final = 200


def summary(
    members: Mapping[str, bytes],
    facts: Mapping[str, Any],
    fingerprint: str,
    language: str,
    say: Say,
) -> bytes:
    """The page in "en" or "zh"."""
    loaded = {name: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    return _Page(loaded, facts, fingerprint, language, say).whole().encode()


class _Page:
    """Turns the members into one page."""

    def __init__(
        self,
        loaded: Mapping[str, Any],
        facts: Mapping[str, Any],
        fingerprint: str,
        language: str,
        say: Say,
    ) -> None:
        self._loaded = loaded
        self._facts = facts
        self._fingerprint = fingerprint
        self._language = language
        self._say = say
        account = loaded["account.json"]
        self._account = account
        self._zone = ZoneInfo(account["place"]["time_zone"])
        self._people = {one["operator_id"]: one["name"] for one in loaded["operators.json"]}

    def whole(self) -> str:
        title = f"{self._t('title')} · {self._facts['meter']}"
        lang = "zh-CN" if self._language == "zh" else "en"
        return (
            f'<!doctype html>\n<html lang="{lang}"><head><meta charset="utf-8">'
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{escape(title)}</h1><p class=k>{escape(self._t('how'))}</p>"
            f"{self._head()}{self._money()}{self._orders()}{self._readings()}</body></html>\n"
        )

    def _t(self, name: str) -> str:
        return _TEXTS[name][1 if self._language == "zh" else 0]

    def _word(self, value: object) -> str:
        return self._say(value, self._language)

    def _at(self, text: str | None) -> str:
        if not text:
            return "–"
        return datetime.fromisoformat(text).astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def _who(self, number: int | None) -> str:
        return "–" if number is None else str(self._people.get(number, number))

    def _head(self) -> str:
        account, facts, place = self._account, self._facts, self._account["place"]
        customer, meter = account["customer"], account["meter"]
        seals = self._loaded["seals.json"]
        last = f"{seals[-1]['entry']['day']}:{seals[-1]['seal_sha256']}" if seals else "–"
        made_by = facts["made_by"]
        rows = (
            ("meter", f"{meter['name']} ({meter['type']})"),
            ("number", meter["number"] or "–"),
            ("place", " · ".join(filter(None, (place["site"], place["building"], place["room"])))),
            ("customer", " · ".join(filter(None, (customer["name"], customer["contact"])))),
            ("period", f"{self._at(facts['since'])} – {self._at(facts['until'])}"),
            ("made", self._at(facts["made_at"])),
            ("by", self._t("machine") if made_by is None else self._who(made_by)),
            ("key", self._fingerprint),
            ("seal", last),
        )
        return _table(
            (),
            [(escape(self._t(name)), f"<code>{escape(str(value))}</code>") for name, value in rows],
        )

    def _money(self) -> str:
        ledger = self._loaded["ledger.json"]
        accounts = ledger["accounts"]

        def account(number: int) -> str:
            known = accounts.get(str(number), {"kind": "", "name": number})
            return f"{known['name']} ({self._word(known['kind'])})"

        entries = [one["entry"] for one in ledger["lines"] if one["table"] == "transfer"]
        entries.sort(key=lambda entry: entry["entry_no"])
        rows = [
            (
                str(entry["entry_no"]),
                self._at(entry["at"]),
                f"{self._word(entry['operation'])} · {self._word(entry['phase'])}",
                account(entry["debit"]),
                account(entry["credit"]),
                decimal_text(entry["amount_fen"], 2),
                self._who(entry["operator_id"]),
                self._who(entry["approver_id"]),
                entry["reason"],
            )
            for entry in entries
        ]
        titles = ("", "time", "operation", "from", "to", "amount", "who", "approved", "reason")
        return self._section("money", titles, rows)

    def _orders(self) -> str:
        rows = []
        for order in self._loaded["commands.json"]:
            tries = order["tries"]
            last = tries[-1] if tries else {"before": None, "after": None, "frames": []}
            amount = order["amount_fen"]
            rows.append(
                (
                    self._at(order["ordered_at"]),
                    self._word(order["kind"])
                    + ("" if amount is None else f" {decimal_text(amount, 2)}"),
                    self._word(order["state"]),
                    str(order["purchase_count"] or "–"),
                    self._look(last["before"]),
                    self._look(last["after"]),
                    str(sum(len(one["frames"]) for one in tries)),
                    self._who(order["ordered_by"]),
                    self._who(order["approved_by"]),
                    " · ".join(filter(None, (order["reason"], order["outcome"]))),
                )
            )
        titles = (
            "time", "order", "state", "count", "before", "after", "frames", "who", "approved",
            "note",
        )  # fmt: skip
        return self._section("orders", titles, rows)

    def _look(self, look: Mapping[str, Any] | None) -> str:
        if not look:
            return "–"
        told = []
        if look.get("purchase_count") is not None:
            told.append(f"{self._t('count')} {look['purchase_count']}")
        if look.get("remaining_credit_fen") is not None:
            told.append(f"{self._t('credit')} {decimal_text(look['remaining_credit_fen'], 2)}")
        return " · ".join(told) or "–"

    def _readings(self) -> str:
        rows = []
        for one in self._loaded["readings.json"][-READINGS_SHOWN:]:
            values = one["values"]
            energy, credit = values.get("energy_wh"), values.get("remaining_credit_fen")
            rows.append(
                (
                    self._at(one["at"]),
                    self._word(one["origin"]),
                    "–" if energy is None else decimal_text(energy, 3),
                    "–" if credit is None else decimal_text(credit, 2),
                    str(values.get("purchase_count", "–")),
                )
            )
        return self._section("readings", ("time", "note", "energy", "credit", "count"), rows)

    def _section(self, name: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        if not rows:
            return f"<h2>{escape(self._t(name))}</h2><p>{escape(self._t('none'))}</p>"
        shown = [escape(self._t(title)) if title else "" for title in titles]
        return f"<h2>{escape(self._t(name))}</h2>" + _table(
            shown, [[escape(cell) for cell in row] for row in rows]
        )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if titles else ''}<tbody>{body}</tbody></table>"
    )
