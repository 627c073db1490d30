"""What went wrong, in English and Chinese: settings, database, lines, meters.

By code: (kind, English, Chinese). {name} is filled from the problem's facts; both languages use the
same facts. A code never changes once published; a sentence may.
"""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

GENERAL: Mapping[str, tuple[Kind, str, str]] = {
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
    "no-such-gateway": (
        Kind.NOT_FOUND,
        "There is no gateway called {gateway}; `headend gateways` lists them.",
        "没有名为 {gateway} 的网关；用 `headend gateways` 查看。",
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
    "no-such-stranger": (
        Kind.NOT_FOUND,
        "No stranger on the list fits {stranger}, or more than one does; `headend lines` lists "
        "them.",
        "陌生设备列表中没有唯一匹配 {stranger} 的设备；用 `headend lines` 查看。",
    ),
    "not-adopted": (
        Kind.SETTINGS,
        "Nothing was adopted: {detail}",
        "未接纳任何设备：{detail}",
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
