"""What reports, evidence packs and tenant links say no to. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

REPORTS: Mapping[str, tuple[Kind, str, str]] = {
    "bad-report": (
        Kind.SETTINGS,
        "There is no such report: {detail}.",
        "没有这样的报表：{detail}。",
    ),
    "schedule-name-taken": (
        Kind.BUSY,
        "There is a report schedule called {name} already: end that one, or choose another name.",
        "已有名为 {name} 的定时报表：请先停止该定时报表，或换一个名称。",
    ),
    "no-such-report": (
        Kind.NOT_FOUND,
        "There is no such report or file; choose one from the list.",
        "没有此报表或文件；请从列表中选择。",
    ),
    "report-owner-gone": (
        Kind.REFUSED,
        "The operator {operator}, for whom this report is made, is disabled; make the schedule "
        "anew.",
        "该报表的所有者 {operator} 已被停用；请重新建立计划。",
    ),
    "no-such-link": (
        Kind.NOT_FOUND,
        "There is no such link, or it was revoked before; load the page again.",
        "没有此链接，或已被撤销；请刷新页面。",
    ),
    "no-mail": (
        Kind.REFUSED,
        "The file is there and was not mailed: no mail server is set.",
        "文件已生成，但未发送邮件：尚未设置邮件服务器。",
    ),
    "no-evidence": (
        Kind.NOT_FOUND,
        "Meter {meter} has no account yet: there is nothing to give evidence of.",
        "电表 {meter} 尚无账户：没有可供取证的内容。",
    ),
    "evidence-key": (
        Kind.PERMISSION,
        "The key that signs evidence packs, {file}, cannot be used: {detail}.",
        "无法使用证据包签名密钥 {file}：{detail}。",
    ),
    "evidence-broken": (
        Kind.RESULT,
        "This is not the pack that was signed: {detail}.",
        "该证据包与签名时不符：{detail}。",
    ),
}
