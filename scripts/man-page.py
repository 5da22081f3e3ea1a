#!/usr/bin/env python3
"""Makes the manual page of `cohort` from what the program itself says of its commands:

    cohort --experimental-dump-help | man-page.py VERSION SECONDS > cohort.1
"""

import json
import sys
import time


def plain(text: str) -> str:
    """Text as roff takes it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.splitlines())


def option(argument: dict) -> tuple[str, str]:
    """How an argument is written, and what it is for."""
    value = argument.get("valueName", "value")
    if argument["kind"] == "positional":
        written = f"\\fI{plain(value.upper())}\\fR" + (" ..." if argument["isRepeating"] else "")
    else:
        names = [("--" if name["kind"] == "long" else "-") + name["name"] for name in argument["names"]]
        written = ", ".join(f"\\fB{plain(name)}\\fR" for name in names)
        if argument["kind"] == "option":
            written += f" \\fI{plain(value)}\\fR"
    about = plain(argument.get("abstract", ""))
    if argument.get("defaultValue"):
        about += f" (default: {plain(argument['defaultValue'])})"
    return written, about


def command(described: dict) -> list[str]:
    lines = [f".SS cohort {plain(described['commandName'])}", plain(described.get("abstract", ""))]
    if described.get("discussion"):
        lines += [".PP", plain(described["discussion"])]
    for argument in described.get("arguments", []):
        if argument["shouldDisplay"] and argument.get("valueName") not in ("help", "version"):
            written, about = option(argument)
            lines += [".TP", written, about]
    return lines


def main() -> None:
    version, seconds = sys.argv[1], int(sys.argv[2])
    root = json.load(sys.stdin)["command"]
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    lines = [
        f'.TH COHORT 1 "{date}" "cohort {plain(version)}" "User commands"',
        ".SH NAME",
        "cohort \\- pool machines and train one model together",
        ".SH SYNOPSIS",
        ".B cohort",
        ".I command",
        "[options]",
        ".SH DESCRIPTION",
        "One program is the server, the coordinator, the peer and the client.",
        ".PP",
        ".nf",
        plain(root.get("discussion", "")),
        ".fi",
        ".SH COMMANDS",
    ]
    for described in root["subcommands"]:
        if described["commandName"] != "help" and described.get("shouldDisplay", True):
            lines += command(described)
    lines += [
        ".SH EXIT STATUS",
        "0 done, 1 failed, 2 usage, 3 try again later (peers busy, server away).",
        ".SH ENVIRONMENT",
        "Every setting is a flag, or COHORT_... in the environment, or a line of the file that \\fB\\-\\-config\\fR names;",
        "settings.md lists them all, in /usr/share/doc/cohort/docs or where Cohort is installed.",
        ".SH FILES",
        ".TP",
        "~/.config/cohort/",
        "who is signed in, and the certificates of servers that have their own",
        ".TP",
        "~/.local/share/cohort/",
        "what a server and a peer keep",
    ]
    print("\n".join(line for line in lines if line))


main()
