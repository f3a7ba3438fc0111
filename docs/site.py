"""A hook of mkdocs: links to files of the repository outside docs/ become links to the repository, or plain text where
its address ($REPOSITORY_URL) is not known."""

import posixpath
import re
from typing import Any

_BLOCK = re.compile(r"^(`{3,}).*?^\1`*$", re.M | re.S)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    repository = (config["repo_url"] or "").rstrip("/")

    def outside(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        return f"[{text}]({repository}/blob/main/{path})" if repository else text

    parts, at = [], 0
    for block in _BLOCK.finditer(markdown):
        parts += [_LINK.sub(outside, markdown[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, _LINK.sub(outside, markdown[at:])])
