#!/usr/bin/env python3
"""The room table of CONTRIBUTING.md: what each target imports, as Package.swift has it.

rooms.py --check FILE  exits with 1 when the table in FILE is not the package's (`make lint` calls it)
rooms.py --write FILE  rewrites the last column of the table in FILE
"""

import json
import re
import subprocess
import sys

BEGIN, END = "<!-- rooms: the last column is written by scripts/rooms.py -->", "<!-- rooms end -->"


def imports():
    """Returns target → (targets of this package, other packages) that it imports, for all Swift targets but tests."""
    package = json.loads(subprocess.check_output(["swift", "package", "dump-package"]))
    rooms = {}
    for target in package["targets"]:
        if target["type"] not in ("regular", "executable") or target["name"].startswith("C") and not target["name"].startswith("Cohort"):
            continue
        own = sorted(d["byName"][0] for d in target["dependencies"] if "byName" in d)
        packages = sorted({d["product"][1] for d in target["dependencies"] if "product" in d}, key=str.lower)
        rooms[target["name"]] = own, packages
    return rooms


def row(own, packages):
    return ", ".join([name.removeprefix("Cohort") for name in own] + packages) or "nothing"


def main():
    mode, path = sys.argv[1:]
    text = open(path, encoding="utf-8").read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    rooms = imports()
    lines, seen = [], set()
    for line in text[begin:end].splitlines():
        match = re.match(r"\| `(\w+)` \| (.*?) \| .* \|$", line)
        if match:
            name, purpose = match.groups()
            if name not in rooms:
                sys.exit(f"{path}: there is no target '{name}'")
            if beside := [room for room in rooms[name][0] if room in rooms and room not in seen]:
                sys.exit(f"{path}: `{name}` imports {', '.join(beside)}, which must stand above it")
            seen.add(name)
            line = f"| `{name}` | {purpose} | {row(*rooms[name])} |"
        lines.append(line)
    if missing := sorted(rooms.keys() - seen):
        sys.exit(f"{path}: the room table lacks {', '.join(missing)}")
    new = text[:begin] + "\n".join(lines) + "\n" + text[end:]
    if mode == "--write":
        open(path, "w", encoding="utf-8").write(new)
    elif new != text:
        sys.exit(f"{path}: the room table is not what Package.swift has; run scripts/rooms.py --write {path}")


if __name__ == "__main__":
    main()
