"""Why an order, a booking or a bulk job was not accepted: nothing booked, nothing sent.

The codes are the values of domain/commands.py Why, domain/books.py BooksWhy and domain/bulk.py
NotNow, and those of callers nobody knows. See sentences.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

MONEY: Mapping[str, tuple[Kind, str, str]] = {
    # Orders that were not accepted (domain/commands.py Why): nothing booked, nothing sent.
    "meter-cannot": (
        Kind.REFUSED,
        "Meter {meter} cannot do this: {detail}.",
        "电表 {meter} 不支持此操作：{detail}。",
    ),
    "amount-out-of-range": (
        Kind.SETTINGS,
        "This amount cannot be sold: {detail}.",
        "该金额不能出售：{detail}。",
    ),
    "account-closed": (
        Kind.REFUSED,
        "The account of meter {meter} is closed: open it again first.",
        "电表 {meter} 的账户已销户：请先重新开户。",
    ),
    "sales-frozen": (
        Kind.REFUSED,
        "Sales to meter {meter} are frozen: {detail}; settle the difference first.",
        "电表 {meter} 已暂停售电：{detail}；请先处理差异。",
    ),
    "sale-open": (
        Kind.REFUSED,
        "Meter {meter} still has an open sale ({detail}): wait until it is proved, or cancel it.",
        "电表 {meter} 有未完成的售电（{detail}）：请等待其确认，或先取消。",
    ),
    "count-unknown": (
        Kind.REFUSED,
        "The purchase count of meter {meter} is not known: read the meter first.",
        "电表 {meter} 的购电次数未知：请先抄读该表。",
    ),
    "locked-out": (
        Kind.REFUSED,
        "Meter {meter} is locked out: {detail}.",
        "电表 {meter} 已挂牌锁定：{detail}。",
    ),
    "protected": (
        Kind.REFUSED,
        "Meter {meter} must not be cut: {detail}.",
        "电表 {meter} 不得停电：{detail}。",
    ),
    "toggled-recently": (
        Kind.REFUSED,
        "The relay of meter {meter} was switched less than ten minutes ago: wait until then.",
        "电表 {meter} 的继电器十分钟内刚动作过：请稍后再试。",
    ),
    "second-person-needed": (
        Kind.REFUSED,
        "This needs a second person: {detail}.",
        "此操作需要第二人批准：{detail}。",
    ),
    "same-person": (
        Kind.REFUSED,
        "Who asks cannot approve: have somebody else approve it.",
        "申请人不能自己批准：请由他人批准。",
    ),
    "id-reused": (
        Kind.REFUSED,
        "The id {detail} belongs to another order: make a new id for a new order.",
        "编号 {detail} 属于另一指令：新指令请用新编号。",
    ),
    # Money that was not booked (domain/books.py BooksWhy).
    "no-such-account": (
        Kind.NOT_FOUND,
        "There is no such account: {detail}.",
        "没有该账户：{detail}。",
    ),
    "wrong-accounts": (
        Kind.REFUSED,
        "Money does not move like this: {detail}.",
        "资金不能这样划转：{detail}。",
    ),
    "reason-needed": (
        Kind.SETTINGS,
        "A {detail} needs a reason: say why.",
        "{detail} 操作必须填写原因。",
    ),
    "balance-too-low": (
        Kind.REFUSED,
        "The balance is too low: {detail}.",
        "余额不足：{detail}。",
    ),
    "books-broken": (
        Kind.RESULT,
        "The books are not as they were sealed: {detail}",
        "账本与封存时不一致：{detail}",
    ),
    "not-paid": (
        Kind.REFUSED,
        "The account of meter {meter} does not hold that much: {detail}.",
        "电表 {meter} 的账户余额不足：{detail}。",
    ),
    "spared": (
        Kind.REFUSED,
        "Meter {meter} is left as it is ({rule}): {detail}.",
        "电表 {meter} 保持不变（{rule}）：{detail}。",
    ),
    "no-such-command": (Kind.NOT_FOUND, "There is no command {detail}.", "没有指令 {detail}。"),
    "not-now": (Kind.REFUSED, "This cannot be done now: {detail}.", "现在不能执行：{detail}。"),
    "not-confirmed": (
        Kind.REFUSED,
        "Command {command} is {state} so far: {detail}; `headend command` shows where it is.",
        "指令 {command} 目前为 {state}：{detail}；用 `headend command` 查看进展。",
    ),
    "no-such-number": (
        Kind.NOT_FOUND,
        "Nothing that still holds has the number {number}.",
        "没有编号为 {number} 的有效记录。",
    ),
    "name-taken": (
        Kind.BUSY,
        "There is an operator called {name} already: choose another name.",
        "操作员 {name} 已存在：请换一个名称。",
    ),
    "no-such-token": (Kind.NOT_FOUND, "There is no token {token}.", "没有令牌 {token}。"),
    # The books (domain/books.py BooksWhy).
    "no-such-sale": (Kind.NOT_FOUND, "There is no sale {detail}.", "没有售电记录 {detail}。"),
    "sale-not-open": (
        Kind.REFUSED,
        "This sale has ended and cannot be taken back: {detail}.",
        "该笔售电已结束，不能撤销：{detail}。",
    ),
    "copy-left": (
        Kind.REFUSED,
        "This sale may still land in the meter: burn its count first ({detail}).",
        "该笔售电仍可能到达电表：请先作废其购电次数（{detail}）。",
    ),
    # Bulk jobs (domain/bulk.py NotNow).
    "no-such-job": (Kind.NOT_FOUND, "There is no bulk job {detail}.", "没有批量任务 {detail}。"),
    "nothing-to-do": (
        Kind.REFUSED,
        "No meter is left to be switched: {detail}.",
        "没有可操作的电表：{detail}。",
    ),
    "list-too-long": (
        Kind.REFUSED,
        "The list is too long for one job: {detail}.",
        "名单过长，不能作为一个任务：{detail}。",
    ),
    "wrong-state": (
        Kind.REFUSED,
        "The job does not allow this step now: {detail}.",
        "任务当前状态不允许此操作：{detail}。",
    ),
    "list-changed": (
        Kind.REFUSED,
        "The list is not the one that was shown: look at it again and approve that one.",
        "名单已变更：请重新查看并审批新名单。",
    ),
    "approval-too-old": (
        Kind.REFUSED,
        "The approval is too old: plan the job again.",
        "审批已过期：请重新制定任务。",
    ),
    "no-token": (
        Kind.UNAUTHORISED,
        "This call needs an API token: make one with `headend token` and send it as Bearer, "
        "or set HEADEND_TOKEN.",
        "此操作需要 API 令牌：用 `headend token` 生成，以 Bearer 方式发送，或设置 HEADEND_TOKEN。",
    ),
    "bad-token": (
        Kind.UNAUTHORISED,
        "This API token is not valid: it is unknown, expired or revoked; make a new one.",
        "API 令牌无效：未知、过期或已吊销；请重新生成。",
    ),
    "not-allowed": (
        Kind.PERMISSION,
        "{operator} ({role}) may not {action}: ask somebody who may.",
        "{operator}（{role}）无权执行“{action}”：请由有权限的人操作。",
    ),
    "no-such-operator": (
        Kind.NOT_FOUND,
        "There is no operator called {operator}.",
        "没有名为 {operator} 的操作员。",
    ),
    "idempotency-key": (
        Kind.SETTINGS,
        "Send the header Idempotency-Key with a UUID of your own: the same key is the same order.",
        "请在 Idempotency-Key 请求头中发送自己生成的 UUID：相同的键即同一指令。",
    ),
}
