"""What files of customers and accounts say no to, cell by cell. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

ACCOUNT_FILES: Mapping[str, tuple[Kind, str, str]] = {
    "accounts-file-empty": (
        Kind.SETTINGS,
        "There are no rows in this file: export the accounts, fill them in, and send that file.",
        "文件中没有数据行：请先导出账户表，填写后再导入。",
    ),
    "accounts-file-too-big": (
        Kind.SETTINGS,
        "The file is larger than {detail}: divide it.",
        "文件超过 {detail}：请拆分后导入。",
    ),
    "accounts-file-too-long": (
        Kind.SETTINGS,
        "The file has more than {count} rows: divide it.",
        "文件超过 {count} 行：请拆分后导入。",
    ),
    "accounts-file-kind": (
        Kind.SETTINGS,
        "This is neither a CSV nor an XLSX file that can be read: save it anew as one of them.",
        "无法读取：请另存为 CSV 或 XLSX 文件。",
    ),
    "accounts-file-encoding": (
        Kind.SETTINGS,
        "The text of this CSV is neither UTF-8 nor GB18030: save it as “CSV UTF-8” or as XLSX.",
        "此 CSV 的编码既非 UTF-8 也非 GB18030：请另存为“CSV UTF-8”或 XLSX。",
    ),
    "accounts-file-no-column": (
        Kind.SETTINGS,
        "The first row has no column “{column}”: the headings are {detail}.",
        "首行缺少“{column}”列：表头应为 {detail}。",
    ),
    "accounts-file-column-unknown": (
        Kind.SETTINGS,
        "“{column}” is no heading of this file: take the column out, or call it one of {detail}.",
        "“{column}”不是有效表头：请删除该列，或改为以下之一：{detail}。",
    ),
    "accounts-file-column-twice": (
        Kind.SETTINGS,
        "The column “{column}” is there twice: leave one of them.",
        "“{column}”列重复：请只保留一列。",
    ),
    "accounts-file-rows": (
        Kind.SETTINGS,
        "Nothing was imported: {count} mistakes, the first in row {row}; a dry run names each.",
        "未导入任何内容：{count} 处错误，首处在第 {row} 行；试运行可逐条列出。",
    ),
    "accounts-file-gone": (
        Kind.NOT_FOUND,
        "This file is not kept any more: send it again.",
        "该文件已不再保留：请重新上传。",
    ),
    "accounts-row-formula": (
        Kind.SETTINGS,
        "This cell is a formula: put its value there.",
        "此单元格为公式：请改为数值或文本。",
    ),
    "accounts-row-cell": (
        Kind.SETTINGS,
        "This cell holds neither text nor a whole number: format it as text and type it anew.",
        "此单元格既非文本也非整数：请设为文本格式后重新填写。",
    ),
    "accounts-row-cells": (
        Kind.SETTINGS,
        "This row has more cells than there are headings: a comma inside a text needs quotes.",
        "此行的单元格多于表头：文本内含逗号时请加引号。",
    ),
    "accounts-row-no-meter": (
        Kind.SETTINGS,
        "Enter the meter's name, or take the row out.",
        "请填写电表名称，或删除此行。",
    ),
    "accounts-row-meter-twice": (
        Kind.SETTINGS,
        "This meter stands in row {detail} already: leave one of the two.",
        "该电表已出现在第 {detail} 行：请只保留一行。",
    ),
    "accounts-row-meter": (
        Kind.SETTINGS,
        "There is no meter {meter}: copy its name from the export, or add it under Set up first.",
        "没有电表 {meter}：请按导出表填写名称，或先在初始设置中添加。",
    ),
    "accounts-row-place": (
        Kind.SETTINGS,
        "Meter {meter} stands in “{detail}”: correct the row, or leave this cell empty.",
        "电表 {meter} 位于“{detail}”：请更正此行，或留空该单元格。",
    ),
    "accounts-row-number": (
        Kind.SETTINGS,
        "A customer number has 1 to 24 letters, digits and dashes: correct it, or leave it empty "
        "for a new one.",
        "户号为 1 至 24 位字母、数字或短横线：请更正，或留空以自动分配。",
    ),
    "accounts-row-no-name": (
        Kind.SETTINGS,
        "Enter the name of who pays.",
        "请填写付费人姓名。",
    ),
    "accounts-row-name": (
        Kind.SETTINGS,
        "A name has 1 to 80 characters in one line: shorten it.",
        "姓名为单行 1 至 80 个字符：请缩短。",
    ),
    "accounts-row-phone": (
        Kind.SETTINGS,
        "A telephone has 3 to 40 digits, and at most + - ( ) / # * between them: correct it.",
        "电话为 3 至 40 位数字，可含 + - ( ) / # *：请更正。",
    ),
    "accounts-row-address": (
        Kind.SETTINGS,
        "An address has at most 200 characters in one line: shorten it.",
        "地址为单行至多 200 个字符：请缩短。",
    ),
    "accounts-row-two-persons": (
        Kind.SETTINGS,
        "Row {detail} says something else about the same customer number: make both the same.",
        "第 {detail} 行对同一户号填写不同：请改为一致。",
    ),
    "accounts-row-taken": (
        Kind.SETTINGS,
        "Meter {meter} has the customer {detail}: write that number, or transfer the meter at "
        "the desk.",
        "电表 {meter} 已有客户 {detail}：请填写该户号，或在操作台办理过户。",
    ),
    "accounts-row-number-taken": (
        Kind.SETTINGS,
        "The customer number {detail} is somebody else's: leave it empty for a new one.",
        "户号 {detail} 已被他人使用：请留空以自动分配。",
    ),
    "accounts-row-elsewhere": (
        Kind.SETTINGS,
        "Customer {detail} belongs to another property: leave the number empty for a new one here.",
        "客户 {detail} 属于其他项目：请留空户号以在此新开户。",
    ),
    "accounts-row-closed": (
        Kind.SETTINGS,
        "The account of customer {detail} is closed: leave the number empty for a new one.",
        "客户 {detail} 已销户：请留空户号以新开户。",
    ),
    "accounts-row-busy": (
        Kind.SETTINGS,
        "Meter {meter} has a sale, an order or other work that has not ended: import it "
        "afterwards.",
        "电表 {meter} 有未了结的售电、指令或业务：请待其结束后再导入。",
    ),
}
