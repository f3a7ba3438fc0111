"""A hook of mkdocs, for what GitHub shows in another way. Links to files of the repository outside docs/ become links
to the repository, or plain text where its address ($REPOSITORY_URL) is not known. A bar in code in a table is a bar."""

import html
import posixpath
import re
from typing import Any

_BLOCK = re.compile(r"^(`{3,}).*?^\1`*$", re.M | re.S)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s]*)\)")
_ROW = re.compile(r"^\|.*$", re.M)
_CODE_WITH_BAR = re.compile(r"`([^`]*\\\|[^`]*)`")


def _bars(row: re.Match[str]) -> str:
    return _CODE_WITH_BAR.sub(_with_bar, row[0])


def _with_bar(code: re.Match[str]) -> str:
    text = html.escape(code[1].replace("\\|", "|"))
    return f"<code>{text.replace('|', '&#124;')}</code>"


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    repository = (config["repo_url"] or "").rstrip("/")

    def outside(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        return f"[{text}]({repository}/blob/main/{path})" if repository else text

    parts, at = [], 0
    for block in _BLOCK.finditer(markdown):
        parts += [_ROW.sub(_bars, _LINK.sub(outside, markdown[at : block.start()])), block[0]]
        at = block.end()
    return "".join([*parts, _ROW.sub(_bars, _LINK.sub(outside, markdown[at:]))])
