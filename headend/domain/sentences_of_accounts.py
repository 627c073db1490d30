"""What customers, accounts, debts and the work around them say no to. See sentences.py.

The codes are the values of domain/cases.py CaseWhy and services/terms.py TermsWhy.
"""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

ACCOUNTS: Mapping[str, tuple[Kind, str, str]] = {
    "no-such-customer": (
        Kind.NOT_FOUND,
        "There is no customer with the number {detail}: check it, or open an account.",
        "没有户号为 {detail} 的客户：请核对户号，或先开户。",
    ),
    "no-such-case": (
        Kind.NOT_FOUND,
        "There is no such piece of work: {detail}.",
        "没有此业务：{detail}。",
    ),
    "no-such-debt": (
        Kind.NOT_FOUND,
        "There is no such debt: {detail}.",
        "没有此欠费：{detail}。",
    ),
    "no-such-photo": (
        Kind.NOT_FOUND,
        "There is no such photograph: {detail}.",
        "没有此照片：{detail}。",
    ),
    "case-open": (
        Kind.REFUSED,
        "Other work on meter {meter} has not ended: finish or cancel it first.",
        "电表 {meter} 有未完成的业务：请先完成或取消。",
    ),
    "meter-has-customer": (
        Kind.REFUSED,
        "Meter {meter} has a customer already ({detail}): transfer it, or close that account "
        "first.",
        "电表 {meter} 已有客户（{detail}）：请办理过户，或先销户。",
    ),
    "meter-has-no-customer": (
        Kind.REFUSED,
        "Meter {meter} has no open account: open one first.",
        "电表 {meter} 没有在用账户：请先开户。",
    ),
    "customer-of-another-site": (
        Kind.REFUSED,
        "Customer {detail} belongs to another property: open an account there, or a new one here.",
        "客户 {detail} 属于其他项目：请在该项目办理，或在此新开户。",
    ),
    "customer-closed": (
        Kind.REFUSED,
        "The account of customer {detail} is closed: open a new one.",
        "客户 {detail} 已销户：请重新开户。",
    ),
    "customer-number-taken": (
        Kind.REFUSED,
        "The customer number {detail} is taken: leave it empty, and the next free one is given.",
        "户号 {detail} 已被使用：留空即可自动分配。",
    ),
    "case-needs-quiet-meter": (
        Kind.REFUSED,
        "Meter {meter} is not quiet: {detail}. Wait for its end, or settle it first.",
        "电表 {meter} 尚有未了事项：{detail}。请等待其结束或先处理。",
    ),
    "case-needs-a-look": (
        Kind.REFUSED,
        "A newer look at meter {meter} is needed: {detail}.",
        "需要重新抄读电表 {meter}：{detail}。",
    ),
    "case-not-at-this-step": (
        Kind.REFUSED,
        "This work has gone on meanwhile ({detail}): load its page again.",
        "此业务已进行到下一步（{detail}）：请刷新页面。",
    ),
    "case-changed-meanwhile": (
        Kind.REFUSED,
        "It has changed since this page was shown ({detail}): look at the new figures and confirm "
        "again.",
        "页面显示后数据已变化（{detail}）：请核对新数据后再次确认。",
    ),
    "case-in-platform-mode": (
        Kind.REFUSED,
        "The money of meter {meter} is in the platform, and this is not done here for it: set its "
        "mode to the meter first, with its last day charged.",
        "电表 {meter} 为平台记账模式，此业务不适用：请先结清最后一天电费，再改为表内记账。",
    ),
    "meter-address-taken": (
        Kind.REFUSED,
        "Meter {detail} answers at this address already: two of one address would both be silent.",
        "该地址已被电表 {detail} 占用：同一地址的两块表都无法抄读。",
    ),
    "payment-eaten-up": (
        Kind.REFUSED,
        "Fee and debt share leave nothing for the meter ({detail}): take more, or book a "
        "repayment.",
        "扣除服务费和欠费分摊后无可充金额（{detail}）：请加大金额，或单独还款。",
    ),
    "hoarding-limit": (
        Kind.REFUSED,
        "This would put meter {meter} above its hoarding limit: {detail}. Sell less.",
        "售后将超过电表 {meter} 的囤积限额：{detail}。请减少金额。",
    ),
    "terms-changed": (
        Kind.REFUSED,
        "Fee or debts have changed since this page was shown, and nothing was booked: {detail}. "
        "Press once more if that is right.",
        "页面显示后费用或欠费已变化，未记账：{detail}。确认无误请再次提交。",
    ),
    "debt-let-off": (
        Kind.REFUSED,
        "Nothing is left of this debt: {detail}.",
        "此欠费已结清：{detail}。",
    ),
    "form-too-big": (
        Kind.SETTINGS,
        "This is more than the desk takes at once, and nothing was done: at most 8 MB.",
        "超出页面一次可接收的大小（最多 8 MB），未执行任何操作。",
    ),
    "photo-refused": (
        Kind.SETTINGS,
        "This photograph is not kept: {detail}.",
        "照片未保存：{detail}。",
    ),
}
