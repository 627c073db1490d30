"""What went wrong with keys, cards and their readers, in English and Chinese. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

CARDS: Mapping[str, tuple[Kind, str, str]] = {
    "keys-away": (
        Kind.NOT_RUNNING,
        "The key service does not answer ({detail}): start it with `headend keys serve`; nothing "
        "was written.",
        "密钥服务无响应（{detail}）：请用 `headend keys serve` 启动；未写入任何内容。",
    ),
    "keys-refused": (
        Kind.PERMISSION,
        "The key service refused: {detail}; nothing was written.",
        "密钥服务拒绝：{detail}；未写入任何内容。",
    ),
    "key-box": (
        Kind.SETTINGS,
        "The keys cannot be used: {detail}.",
        "密钥无法使用：{detail}。",
    ),
    "key-ceremony": (
        Kind.SETTINGS,
        "The ceremony stopped, no key was made: {detail}.",
        "密钥仪式中止，未生成密钥：{detail}。",
    ),
    "key-callers": (
        Kind.SETTINGS,
        "{file} cannot be used: {detail}.",
        "调用方文件 {file} 无法使用：{detail}。",
    ),
    "key-log": (
        Kind.RESULT,
        "The key log does not hold together: {detail}.",
        "密钥日志不完整：{detail}。",
    ),
    "key-shares": (
        Kind.SETTINGS,
        "These shares do not open the backup: {detail}.",
        "这些分量无法恢复备份：{detail}。",
    ),
    "no-such-key": (
        Kind.NOT_FOUND,
        "There is no key {key}.",
        "没有密钥 {key}。",
    ),
    "units": (
        Kind.SETTINGS,
        "The security units cannot be used: {detail}.",
        "安全单元无法使用：{detail}。",
    ),
    "no-such-unit": (
        Kind.NOT_FOUND,
        "There is no security unit called {unit}.",
        "没有名为 {unit} 的安全单元。",
    ),
    "unit-fails": (
        Kind.RESULT,
        "The security unit {unit} does not keep {count} of the kit's rules: do not sell with it.",
        "安全单元 {unit} 有 {count} 项规则未通过：请勿用于售电。",
    ),
    "card-blank": (
        Kind.REFUSED,
        "The card is blank: make it ours first (`headend card make`).",
        "空白卡：请先制卡（`headend card make`）。",
    ),
    "card-not-ours": (
        Kind.REFUSED,
        "This is not a card of ours, nothing was written on it: {detail}.",
        "不是本系统的卡，未写入任何内容：{detail}。",
    ),
    "card-spent": (
        Kind.REFUSED,
        "This card must not be used any more: {detail}.",
        "此卡不可再用：{detail}。",
    ),
    "card-gone": (
        Kind.METER,
        "The card was taken off the reader before anything was written: put it back.",
        "卡在写入前被取走：请重新放卡。",
    ),
    "card-unsettled": (
        Kind.METER,
        "The card was taken off while it was written; what it holds is not known: put it back on "
        "the reader and read it.",
        "写卡过程中卡被取走，卡内结果未知：请放回读卡器并读卡。",
    ),
    "card-said-no": (
        Kind.METER,
        "The card refused a command: {detail}.",
        "卡片拒绝命令：{detail}。",
    ),
    "unit-failed": (
        Kind.METER,
        "The security unit failed, and the card is looked at anew: {detail}.",
        "安全单元故障，请重新读卡确认：{detail}。",
    ),
    "card-bad-seal": (
        Kind.REFUSED,
        "What is on this card is not what was sold: it is not written. {detail}",
        "卡内数据与售电记录不符，拒绝写卡。{detail}",
    ),
    "card-revoked": (
        Kind.REFUSED,
        "This card is not accepted any more: {detail}.",
        "此卡已作废：{detail}。",
    ),
    "card-wrong-meter": (
        Kind.REFUSED,
        "This card belongs to another meter: {detail}.",
        "此卡属于其他电表：{detail}。",
    ),
    "card-wrong-customer": (
        Kind.REFUSED,
        "This card belongs to another customer: {detail}.",
        "此卡属于其他用户：{detail}。",
    ),
    "card-not-issued": (
        Kind.REFUSED,
        "This is not the card of this meter: {detail}.",
        "此卡不是该电表登记的卡：{detail}。",
    ),
    "card-old-count": (
        Kind.REFUSED,
        "This card carries an earlier purchase: {detail}.",
        "卡内为较早的购电记录：{detail}。",
    ),
    "card-count-ahead": (
        Kind.REFUSED,
        "This card has a purchase that the books do not have ({detail}): an auditor looks first.",
        "卡内购电次数超出账面（{detail}）：请先由审计核查。",
    ),
    "card-not-given": (
        Kind.REFUSED,
        "No card was made: {detail}.",
        "未制卡：{detail}。",
    ),
    "no-card-session": (
        Kind.NOT_FOUND,
        "This work at the reader has ended: begin anew.",
        "此次读卡操作已结束：请重新开始。",
    ),
    "no-reader": (
        Kind.LINE,
        "The card reader cannot be used: {detail}.",
        "读卡器不可用：{detail}。",
    ),
    "cards-off": (
        Kind.SETTINGS,
        "Cards are off here: set key_service_socket to where `headend keys serve` answers.",
        "未启用卡业务：请将 key_service_socket 设为 `headend keys serve` 的套接字路径。",
    ),
}
