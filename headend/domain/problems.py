"""What went wrong, said to people: one sentence, a stable code, Chinese and English.

A Problem is raised where the cause is known and shown where a person looks: the CLI prints the
sentence and ends with the exit code of its kind, the API answers with problem+json. The code never
changes once published; sentences may.
"""

from __future__ import annotations

import enum
import os


class Kind(enum.Enum):
    """The cause's family: (exit code of the CLI, HTTP status of the API)."""

    SETTINGS = (3, 422)  # a file or option the person wrote
    DATABASE = (4, 503)
    LINE = (5, 503)  # port, converter, DTU
    METER = (6, 504)  # the line works, the meter did not give what was asked
    NOT_RUNNING = (7, 503)  # no head-end answers
    BUSY = (8, 409)  # something else holds it: port, folder, device
    NOT_FOUND = (9, 404)
    RESULT = (10, 500)  # the job ran, its result is not what was promised
    PERMISSION = (11, 403)
    REFUSED = (12, 409)  # understood, and not done: a rule says no
    UNAUTHORISED = (13, 401)  # nobody we know asks

    @property
    def exit_code(self) -> int:
        return self.value[0]

    @property
    def http_status(self) -> int:
        return self.value[1]


# code: (kind, English, Chinese). {name} is filled from the problem's facts.
CATALOG: dict[str, tuple[Kind, str, str]] = {
    "settings-unreadable": (
        Kind.SETTINGS,
        "{file} cannot be used: {detail}.",
        "配置文件 {file} 无法使用：{detail}。",
    ),
    "site-file": (Kind.SETTINGS, "{detail}", "档案文件有误，未导入任何内容：{detail}"),
    "import-clash": (
        Kind.SETTINGS,
        "Nothing was imported: {detail}",
        "未导入任何内容：{detail}",
    ),
    "meter-types": (Kind.SETTINGS, "The meter types clash: {detail}.", "表型定义冲突：{detail}。"),
    "database": (Kind.DATABASE, "{detail}", "数据库不可用：{detail}"),
    "database-away": (
        Kind.DATABASE,
        "The database cannot be reached: {detail}",
        "无法连接数据库：{detail}",
    ),
    "data-folder-busy": (Kind.BUSY, "{detail}", "数据目录正被占用：{detail}"),
    "port-in-use": (
        Kind.BUSY,
        "Port {port} on {host} is in use by another program; stop it or choose another "
        "with {option}.",
        "{host} 的端口 {port} 已被其他程序占用；请停止该程序，或用 {option} 另选端口。",
    ),
    "dial-in": (
        Kind.BUSY,
        "DTUs cannot dial in: {detail} (--dial-in-port).",
        "DTU 无法接入：{detail}（--dial-in-port）。",
    ),
    "address-unusable": (
        Kind.SETTINGS,
        "{host}:{port} cannot be listened on: {detail}; choose another with {option}.",
        "无法监听 {host}:{port}：{detail}；请用 {option} 另选地址。",
    ),
    "line-down": (
        Kind.LINE,
        "Line {line} is down: {detail}.",
        "线路 {line} 不通：{detail}。",
    ),
    "link-url": (
        Kind.SETTINGS,
        "{url} is not a line: write serial:///dev/ttyUSB0?baud=9600 or tcp://10.0.0.5:502.",
        "{url} 不是有效的线路写法：请写 serial:///dev/ttyUSB0?baud=9600 或 tcp://10.0.0.5:502。",
    ),
    "no-such-line": (
        Kind.NOT_FOUND,
        "There is no line called {line}; `headend lines` lists them.",
        "没有名为 {line} 的线路；用 `headend lines` 查看。",
    ),
    "no-such-meter": (
        Kind.NOT_FOUND,
        "There is no meter called {meter}; check the name or import its site file.",
        "没有名为 {meter} 的电表；请核对名称，或先导入其档案文件。",
    ),
    "no-such-type": (
        Kind.NOT_FOUND,
        "There is no meter type called {type}; known are {known}.",
        "没有名为 {type} 的表型；已知的有 {known}。",
    ),
    "no-such-site": (
        Kind.NOT_FOUND,
        "There is no site called {site}; import its site file first.",
        "没有名为 {site} 的项目；请先导入其档案文件。",
    ),
    "no-such-night": (
        Kind.NOT_FOUND,
        "Site {site} has no night of {night}.",
        "项目 {site} 没有 {night} 这一夜的抄表记录。",
    ),
    "meter-not-read": (
        Kind.METER,
        "Meter {meter} was not read: {detail}.",
        "电表 {meter} 未抄到：{detail}。",
    ),
    "no-answer": (
        Kind.METER,
        "Nothing answers at unit {unit}: {detail}.",
        "地址 {unit} 无应答：{detail}。",
    ),
    "not-running": (
        Kind.NOT_RUNNING,
        "No head-end answers at {url}; start it with `headend run`.",
        "{url} 没有运行中的主站；请先执行 `headend run`。",
    ),
    "headend-said": (Kind.RESULT, "The head-end answered: {detail}", "主站返回：{detail}"),
    "bad-request": (
        Kind.SETTINGS,
        "The request cannot be understood: {detail}.",
        "请求有误：{detail}。",
    ),
    "demo-failed": (
        Kind.RESULT,
        "The demonstration did not end as it should: {detail}.",
        "演示结果不符合预期：{detail}。",
    ),
    "simulator-failed": (
        Kind.RESULT,
        "The simulated property did not come up: {detail}.",
        "模拟物业未能启动：{detail}。",
    ),
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
    "no-such-command": (
        Kind.NOT_FOUND,
        "There is no command {command}.",
        "没有指令 {command}。",
    ),
    "not-now": (
        Kind.REFUSED,
        "Command {command} is {state}: {detail}.",
        "指令 {command} 当前为 {state}：{detail}。",
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
        "{operator}（{role}）无权{action}：请由有权限的人操作。",
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
    "disk-full": (
        Kind.DATABASE,
        "The disk holding {folder} is full; free space and start again, nothing is lost.",
        "{folder} 所在磁盘已满；请释放空间后重试，数据未丢失。",
    ),
    "folder-unusable": (
        Kind.PERMISSION,
        "The folder {folder} cannot be used: {detail}.",
        "目录 {folder} 无法使用：{detail}。",
    ),
}


class Problem(Exception):
    """One thing that went wrong, as a person should hear it.

    `code` is a key of CATALOG; the facts fill its sentence. An unknown code or a missing fact is a
    programming error and fails at once.
    """

    def __init__(self, code: str, **facts: object) -> None:
        self.code = code
        self.kind, self.english, self.chinese = CATALOG[code]
        self.facts = facts
        super().__init__(self.text("en"))

    def text(self, language: str) -> str:
        """The sentence in "zh" or (anything else) English."""
        template = self.chinese if language.startswith("zh") else self.english
        sentence = template.format(**self.facts)
        # A detail may bring its own full stop.
        return sentence.replace("..", ".").replace("。。", "。").replace(".。", "。")


def language_of_terminal() -> str:
    """ "zh" or "en": HEADEND_LANG first, then what the terminal says."""
    for variable in ("HEADEND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
