"""What alarms, work orders and what goes out say no to. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

ALARMS: Mapping[str, tuple[Kind, str, str]] = {
    "no-such-alarm": (
        Kind.NOT_FOUND,
        "There is no alarm number {alarm}: take one from the list of alarms.",
        "没有编号为 {alarm} 的告警：请从告警列表中选择。",
    ),
    "no-such-work-order": (
        Kind.NOT_FOUND,
        "There is no work order number {work_order}: take one from the list of work orders.",
        "没有编号为 {work_order} 的工单：请从工单列表中选择。",
    ),
    "changed-meanwhile": (
        Kind.CHANGED,
        "Somebody changed it after you looked, and nothing was done: look again and repeat what "
        "you still want.",
        "在您查看之后已被他人修改，未执行任何操作：请重新查看后再操作。",
    ),
    "version-needed": (
        Kind.BLIND,
        "This edit must say what it is about, and nothing was done: read the thing and send its "
        "ETag back as If-Match.",
        "此修改必须说明所依据的版本，未执行任何操作：请先读取，并以其 ETag 作为 If-Match 提交。",
    ),
    "ended-already": (
        Kind.REFUSED,
        "This has ended already and stays as it is: open a new one where something is to be done.",
        "该项已结束，不再更改：如需处理请另行新建。",
    ),
    "has-work-order": (
        Kind.REFUSED,
        "Alarm {alarm} has an open work order already: go on with that one.",
        "告警 {alarm} 已有未关闭的工单：请继续处理该工单。",
    ),
    "cannot-be-assigned": (
        Kind.SETTINGS,
        "{operator} cannot be given this: choose somebody who looks after alarms of this property.",
        "不能指派给 {operator}：请选择负责本项目告警的人员。",
    ),
    "bad-alarm-rules": (
        Kind.SETTINGS,
        "These alarm rules are not taken: {detail}.",
        "告警规则不可用：{detail}。",
    ),
    "mail-not-taken": (
        Kind.RESULT,
        "The mail server did not take the letter: {detail}.",
        "邮件服务器未接收邮件：{detail}。",
    ),
    "sms-not-taken": (
        Kind.RESULT,
        "The message did not leave: {detail}.",
        "短信未能发出：{detail}。",
    ),
    "no-such-webhook": (
        Kind.NOT_FOUND,
        "There is no webhook number {webhook}: take one from the list of webhooks.",
        "没有编号为 {webhook} 的推送地址：请从列表中选择。",
    ),
    "bad-webhook": (
        Kind.SETTINGS,
        "This webhook is not taken: {detail}.",
        "推送地址不可用：{detail}。",
    ),
}
