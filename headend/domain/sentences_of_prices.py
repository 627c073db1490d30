"""What went wrong with prices and with money in the platform. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

PRICES: Mapping[str, tuple[Kind, str, str]] = {
    "no-such-tariff": (
        Kind.NOT_FOUND,
        "There is no tariff {tariff}: choose one from the list of prices.",
        "没有电价 {tariff}：请从电价列表中选择。",
    ),
    "tariff-name-taken": (
        Kind.REFUSED,
        "There is a tariff called {detail} already: choose another name.",
        "已有名为 {detail} 的电价：请换一个名称。",
    ),
    "bad-terms": (
        Kind.SETTINGS,
        "These terms cannot be kept: {detail} ({field}).",
        "这些电价条款无法保存：{detail}（{field}）。",
    ),
    "edited-meanwhile": (
        Kind.CHANGED,
        "Somebody else has edited this draft meanwhile: load it again, nothing was kept.",
        "其他人已修改此草稿：请重新打开，本次未保存任何内容。",
    ),
    "no-draft": (
        Kind.REFUSED,
        "This tariff has no draft: make one first.",
        "该电价没有草稿：请先建立草稿。",
    ),
    "date-passed": (
        Kind.SETTINGS,
        "{detail} has passed: choose today or a later day.",
        "{detail} 已过：请选择今天或以后的日期。",
    ),
    "date-too-far": (
        Kind.SETTINGS,
        "{detail} is more than 400 days away: choose an earlier day.",
        "{detail} 距今超过 400 天：请选择更早的日期。",
    ),
    "date-taken": (
        Kind.REFUSED,
        "A version that begins on {detail} is published already: choose another day.",
        "已发布自 {detail} 起生效的版本：请选择其他日期。",
    ),
    "no-such-place": (
        Kind.NOT_FOUND,
        "There is no place called {detail}: check its kind and name.",
        "没有名为 {detail} 的位置：请核对类别和名称。",
    ),
    "no-such-push": (
        Kind.REFUSED,
        "No version of this tariff is on its way in a state for that.",
        "该电价当前没有可执行此操作的下发。",
    ),
    "not-read-lately": (
        Kind.REFUSED,
        "Meter {meter} has no reading of the last 24 hours to begin with: read it first.",
        "电表 {meter} 在过去 24 小时内没有可作起点的读数：请先抄表。",
    ),
    "mode-no-last-reading": (
        Kind.REFUSED,
        "Meter {meter} was not read in the last half hour, and what it used since its last night "
        "would be charged to nobody: read it, then change.",
        "电表 {meter} 在过去半小时内未抄读，上一抄表夜之后的用电将无人承担：请先抄表再更改。",
    ),
    "mode-rest-unbilled": (
        Kind.REFUSED,
        "What meter {meter} used up to now cannot be charged ({detail}): mend that first.",
        "电表 {meter} 至今的用电无法计费（{detail}）：请先处理。",
    ),
    "mode-is-so": (
        Kind.REFUSED,
        "The money of meter {meter} is there already.",
        "电表 {meter} 已是该资金模式。",
    ),
    "money-in-meter": (
        Kind.REFUSED,
        "Meter {meter} still holds {detail}: use it up or refund it before the platform bills.",
        "电表 {meter} 内仍有 {detail}：请先用完或退费，再改为平台计费。",
    ),
    "platform-money": (
        Kind.REFUSED,
        "The money of this meter is in the platform: take a payment, nothing is sent to the meter.",
        "该电表的资金在平台：请直接收款，不向电表下发金额。",
    ),
    "meter-money": (
        Kind.REFUSED,
        "The money of meter {meter} is in the meter: sell to it instead.",
        "电表 {meter} 的资金在表内：请改用售电。",
    ),
    "no-such-charge": (
        Kind.NOT_FOUND,
        "Meter {meter} was not charged for {detail}.",
        "电表 {meter} 没有 {detail} 的电费记录。",
    ),
    "no-price": (
        Kind.REFUSED,
        "No tariff holds for meter {meter}: assign one first.",
        "电表 {meter} 没有生效的电价：请先指定电价。",
    ),
}
