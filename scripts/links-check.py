#!/usr/bin/env python3
"""Every relative link of the documentation leads to a file that is there, and every anchor to a heading of it; of links to elsewhere, the form."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!\\)!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of each heading, as GitHub makes them; a heading that comes again has a number behind it."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def main() -> int:
    pages = [page for page in ROOT.rglob("*.md") if not any(part.startswith(".build") or part in ("build-docs", "dist") for part in page.parts)]
    faults = []
    for page in sorted(pages):
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
        for target in LINK.findall(text):
            place = f"{page.relative_to(ROOT)}: {target}"
            parts = urlsplit(target)
            if parts.scheme:
                if parts.scheme not in ("https", "http", "mailto"):
                    faults.append(f"{place}: an address begins with https://")
                continue
            file = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
            if not file.exists():
                faults.append(f"{place}: there is no such file")
            elif parts.fragment and file.suffix == ".md" and parts.fragment not in anchors(file):
                faults.append(f"{place}: {file.relative_to(ROOT)} has no heading of that name")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
