"""What the desk in the browser says no to, beside what services say. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

DESK: Mapping[str, tuple[Kind, str, str]] = {
    "form-expired": (
        Kind.PERMISSION,
        "This form is too old or came from another site, and nothing was done: go back, load the "
        "page again and send it once more.",
        "表单已过期或来自其他网站，未执行任何操作：请返回并刷新页面后重新提交。",
    ),
    "no-such-page": (
        Kind.NOT_FOUND,
        "There is no such page: choose one from the menu.",
        "没有此页面：请从菜单中选择。",
    ),
    "no-such-building": (
        Kind.NOT_FOUND,
        "There is no building called {building}: choose one from the room board.",
        "没有名为 {building} 的楼栋：请在房间状态页中选择。",
    ),
    "bad-password": (
        Kind.SETTINGS,
        "This password is not taken: {detail}.",
        "该密码不可用：{detail}。",
    ),
    "no-such-shift": (
        Kind.NOT_FOUND,
        "You have no such shift ({shift}): open one, or take one from the list of your shifts.",
        "没有此班次（{shift}）：请先开班，或从您的班次列表中选择。",
    ),
    "shift-open-already": (
        Kind.REFUSED,
        "You are in a shift already, and nothing was opened: close that one first.",
        "您已有未交班的班次，未开新班：请先交班。",
    ),
    "not-yourself": (
        Kind.REFUSED,
        "You cannot disable yourself, and nothing was done: let another administrator do it.",
        "不能停用自己，未执行任何操作：请由其他管理员操作。",
    ),
    "desk-broke": (
        Kind.RESULT,
        "The head-end could not show this page; nothing was changed by looking. Try again, and "
        "tell whoever runs it the time: {at}.",
        "主站无法显示此页面；查看操作不会更改任何数据。请重试，并将时间告知管理员：{at}。",
    ),
}
