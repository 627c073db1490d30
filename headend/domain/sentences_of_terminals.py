"""What a recharge terminal shows and what its records are called. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

TERMINALS: Mapping[str, tuple[Kind, str, str]] = {
    "no-such-terminal": (
        Kind.NOT_FOUND,
        "There is no recharge terminal {terminal}; `headend terminal list` shows them.",
        "没有充值终端 {terminal}；可用 `headend terminal list` 查看。",
    ),
    "terminal-in-use": (
        Kind.REFUSED,
        "Terminal {terminal} is kept: meters hang behind it ({meters}); move them to another line "
        "first.",
        "终端 {terminal} 未移除：其下仍有电表（{meters}）；请先将电表移到其他线路。",
    ),
    "terminal-bad-frame": (
        Kind.REFUSED,
        "Terminal {terminal} sent something that cannot be understood; nothing was done.",
        "终端 {terminal} 发来的内容无法识别；未作任何操作。",
    ),
    "terminal-card-unknown": (
        Kind.REFUSED,
        "This card is not one of ours, or was given to nobody; ask at the counter.",
        "此卡不是本系统的卡或尚未发放；请到柜台询问。",
    ),
    "terminal-card-ended": (
        Kind.REFUSED,
        "This card was reported lost or replaced; use the new one.",
        "此卡已挂失或已补卡；请使用新卡。",
    ),
    "terminal-card-false": (
        Kind.REFUSED,
        "This card could not prove that it is the one it says; nothing was done, ask at the "
        "counter.",
        "此卡未能证明其身份；未作任何操作，请到柜台询问。",
    ),
    "terminal-card-elsewhere": (
        Kind.REFUSED,
        "This card belongs to another property; use it there.",
        "此卡属于其他物业；请到该物业使用。",
    ),
    "bad-cap": (
        Kind.SETTINGS,
        "A cap needs a reason and at least 1 fen to a card, at most as much as in all, and in all "
        "at most {most} fen.",
        "离线限额须填写原因；单卡限额至少 1 分且不超过总限额，总限额不超过 {most} 分。",
    ),
    "cap-not-sealed": (
        Kind.REFUSED,
        "The cap was not given out, because the key service did not seal it: {detail}.",
        "离线限额未下发，密钥服务未签发：{detail}。",
    ),
    "no-such-clash": (
        Kind.NOT_FOUND,
        "Clash {clash} is not there or was settled already.",
        "冲突 {clash} 不存在或已处理。",
    ),
    "clash-not-proved": (
        Kind.REFUSED,
        "Clash {clash} was not booked: the meter does not prove the sale; read it, or dismiss it "
        "with a reason.",
        "冲突 {clash} 未入账：电表未能证明该笔售电；请读表核实，或注明原因后驳回。",
    ),
    "island-changed": (
        Kind.REFUSED,
        "This record number was reported before, as something else; a person looks into it.",
        "该记录号此前已上报且内容不同；已交人工处理。",
    ),
    "island-gap": (
        Kind.REFUSED,
        "A record before this one is missing; report it first.",
        "缺少此前的记录；请先补报。",
    ),
    "island-forged": (
        Kind.REFUSED,
        "This record was not made by this terminal, or does not follow the last one.",
        "该记录不是本终端生成，或与上一条不衔接。",
    ),
    "island-no-cap": (
        Kind.REFUSED,
        "The terminal had no cap for this sale; a person looks into it.",
        "终端对该笔售电没有离线限额；已交人工处理。",
    ),
    "island-cap-expired": (
        Kind.REFUSED,
        "The cap of this sale had expired; a person looks into it.",
        "该笔售电所用的离线限额已过期；已交人工处理。",
    ),
    "island-clock": (
        Kind.REFUSED,
        "The time of this sale cannot be: the terminal's clock is wrong; a person looks into it.",
        "该笔售电的时间不可信，终端时钟有误；已交人工处理。",
    ),
    "island-over-card-cap": (
        Kind.REFUSED,
        "This card was sold more than its cap; a person looks into it.",
        "该卡超出单卡离线限额；已交人工处理。",
    ),
    "island-over-total-cap": (
        Kind.REFUSED,
        "The terminal sold more than its cap in all; a person looks into it.",
        "终端超出总离线限额；已交人工处理。",
    ),
    "island-no-meter": (
        Kind.REFUSED,
        "No meter of that number is behind this terminal; a person looks into it.",
        "本终端下没有该表号的电表；已交人工处理。",
    ),
    "island-not-sold": (
        Kind.REFUSED,
        "Nobody sold that purchase; a person looks into it.",
        "账上没有该笔售电；已交人工处理。",
    ),
    "island-count-taken": (
        Kind.REFUSED,
        "That purchase count was used by another sale meanwhile; a person looks into it.",
        "该购电次数已被另一笔售电占用；已交人工处理。",
    ),
    "island-wrong-card": (
        Kind.REFUSED,
        "That sale was never put on this card; a person looks into it.",
        "该笔售电不在此卡上；已交人工处理。",
    ),
    "island-meter-differs": (
        Kind.REFUSED,
        "The meter does not show this sale as it was reported; a person looks into it.",
        "电表的显示与上报的售电不符；已交人工处理。",
    ),
}
