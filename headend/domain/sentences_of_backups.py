"""What backups and restoring say no to. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

BACKUPS: Mapping[str, tuple[Kind, str, str]] = {
    "not-a-backup": (
        Kind.SETTINGS,
        "{file} is not a backup of this program: choose a file named like "
        "headend-20260320T020000Z.backup.",
        "{file} 不是本程序的备份：请选择名称类似 headend-20260320T020000Z.backup 的文件。",
    ),
    "backup-passphrase": (
        Kind.SETTINGS,
        "The passphrase does not open {file}: give the one it was made with.",
        "口令无法打开 {file}：请使用制作该备份时的口令。",
    ),
    "backup-cut-short": (
        Kind.RESULT,
        "{file} ends before its end: it was copied in part; take another copy or another backup.",
        "{file} 不完整：复制时被截断；请使用另一份副本或另一个备份。",
    ),
    "backup-damaged": (
        Kind.RESULT,
        "{file} was changed or damaged after it was made: take another copy or another backup.",
        "{file} 在制作后被更改或损坏：请使用另一份副本或另一个备份。",
    ),
    "backup-not-set": (
        Kind.SETTINGS,
        "Backups are not set up: give {setting} in the settings.",
        "尚未设置备份：请在设置中填写 {setting}。",
    ),
    "backup-short-passphrase": (
        Kind.SETTINGS,
        "The passphrase in {file} is shorter than {count} characters: write a longer one.",
        "{file} 中的口令少于 {count} 个字符：请使用更长的口令。",
    ),
    "backup-no-space": (
        Kind.RESULT,
        "{folder} has {free_mb} MB free and a backup may need {need_mb} MB: make room there.",
        "{folder} 剩余 {free_mb} MB，备份可能需要 {need_mb} MB：请清理空间。",
    ),
    "backup-failed": (
        Kind.RESULT,
        "The backup was not made, and nothing was left behind: {detail}.",
        "备份未完成，未留下任何文件：{detail}。",
    ),
    "restore-not-empty": (
        Kind.BUSY,
        "{place} is not empty, and a restore never writes over anything: choose an empty one, or "
        "add --force to move what is there aside.",
        "{place} 不为空，恢复不会覆盖任何内容：请选择空目录，或加 --force 将原有内容移到旁边。",
    ),
    "restore-failed": (
        Kind.RESULT,
        "The backup could not be restored, and nothing was put in place: {detail}.",
        "备份未能恢复，未改动任何内容：{detail}。",
    ),
    "drill-failed": (
        Kind.RESULT,
        "The rehearsal found that {file} would not bring the books back whole: {detail}.",
        "演练发现 {file} 无法完整恢复账本：{detail}。",
    ),
}
