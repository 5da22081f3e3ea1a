#!/usr/bin/env python3
"""Runs the code blocks of README and docs against real servers and peers, and holds every `cohort …` and `COHORT_…` in the text against the program.

    docs-test.py [PAGE …]        all pages without one; COHORT_BINARY is the program

A block runs unless a comment stands before it: `<!-- run elsewhere: FILE -->` names the test that runs it, `<!-- not run: REASON -->` says why nothing
does. Blocks of the languages text and nginx are no programs; yaml, json and ini are parsed. The second kind of comment is printed, and may be 15 % of all.
Python blocks of a page share one namespace, shell blocks one shell's folder and environment."""

import configparser
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("COHORT_BINARY", ROOT / ".build/debug/cohort")).resolve()
PAGES = ["README.md", "clients/python/README.md", "Examples/README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
SHELL = ("sh", "bash", "")
# Pages that start their own server, or make their own account, as a newcomer does.
FRESH = {"README.md", "docs/api.md"}
MOST_NOT_RUN = 0.15


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    elsewhere: str = ""
    reason: str = ""


def blocks(page: str) -> list[Block]:
    """The fenced and indented blocks of a page, in order."""
    found: list[Block] = []
    fence, comment = None, ""
    lines = (ROOT / page).read_text().splitlines()
    index = 0

    def add(language: str, first: int, text: list[str]) -> None:
        block = Block(page, first + 1, language, "\n".join(text).rstrip() + "\n")
        if match := re.fullmatch(r"<!-- (run elsewhere|not run): (.+) -->", comment):
            setattr(block, "elsewhere" if match[1] == "run elsewhere" else "reason", match[2])
        found.append(block)

    while index < len(lines):
        line = lines[index]
        if fence := re.fullmatch(r"(\s*)```(\w*)", line):
            end = next(at for at in range(index + 1, len(lines)) if lines[at].strip() == "```")
            add(fence[2] or "text", index, [text.removeprefix(fence[1]) for text in lines[index + 1 : end]])
            index, comment = end + 1, ""
            continue
        if line.startswith("    ") and (index == 0 or not lines[index - 1].strip() or lines[index - 1].startswith("<!--")):
            end = index
            while end < len(lines) and (lines[end].startswith("    ") or (not lines[end].strip() and end + 1 < len(lines) and lines[end + 1].startswith("    "))):
                end += 1
            add("", index, [text[4:] for text in lines[index:end]])
            index, comment = end, ""
            continue
        if line.strip():
            comment = line.strip() if line.startswith("<!--") else ""
        index += 1
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# `cohort` as the blocks call it: what runs until Ctrl-C runs behind them, on loopback and in a folder of its own; passwords are given.
WRAPPER = """#!/usr/bin/env bash
set -euo pipefail
behind() { # NAME PATTERN COMMAND …
    local name=$1 pattern=$2; shift 2
    local log; log=$(mktemp "$SANDBOX/$name.XXXXXX.log")
    "$@" >"$log" 2>&1 </dev/null &
    echo $! >>"$SANDBOX/pids"
    for _ in $(seq 600); do grep -qE "$pattern" "$log" && return 0; kill -0 $! 2>/dev/null || break; sleep 0.1; done
    cat "$log" >&2; return 1
}
case ${1:-} in
serve)
    shift
    arguments=(); for each; do [ "$each" = 0.0.0.0 ] && each=127.0.0.1; arguments+=("$each"); done
    port=0; [ -e "$SANDBOX/served" ] || [[ "${*}" == *--tls* ]] || { port=$PORT; touch "$SANDBOX/served"; }
    behind serve '^listening on ' "$BINARY" serve "${arguments[@]}" --port "$port" --data-dir "$(mktemp -d "$SANDBOX/server.XXXXXX")" ;;
peer) shift; behind peer 'ready|waiting|online|joined' "$BINARY" peer "$@" --threads 1 --data-dir "$(mktemp -d "$SANDBOX/peer.XXXXXX")" --log-level info ;;
signup | login) exec "$BINARY" "$@" --password 'correct horse' ;;
*) exec "$BINARY" "$@" ;;
esac
"""
TOKEN = """#!/usr/bin/env bash
# The access token of you@example.org, whose two peers are there when it is printed.
set -euo pipefail
cohort login --email you@example.org >/dev/null
for name in one two; do cohort peer --token "$(cohort token)" --name "$name" >/dev/null; done
python3 -c 'import json, os; print(json.load(open(os.environ["XDG_CONFIG_HOME"] + "/cohort/credentials.json"))["access_token"])'
"""
CURL = """#!/usr/bin/env bash
exec /usr/bin/curl --fail-with-body "$@"
"""


class Sandbox:
    """A folder, an environment, and whatever the blocks of one page start."""

    def __init__(self, folder: Path, page: str) -> None:
        self.folder, self.page = folder, page
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        tools = folder / "bin"
        tools.mkdir()
        for name, text in (("cohort", WRAPPER), ("docs-token", TOKEN), ("curl", CURL)):
            (tools / name).write_text(text)
            (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)
        self.environment = {
            "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "XDG_CONFIG_HOME": f"{folder}/config", "SANDBOX": str(folder), "PORT": str(port), "BINARY": str(BINARY),
            "COHORT_SERVER": self.url, "LANG": "C.UTF-8", "TERM": "dumb",
        }
        work = folder / "work"
        work.mkdir()
        (work / "Examples").symlink_to(ROOT / "Examples")
        for name in ("data.csv", "new-rows.csv"):
            (work / name).write_bytes((ROOT / "Examples/penguins.csv").read_bytes())
        self.work = work
        self.names = {"…": "correct horse"}
        if page not in FRESH:
            self.prepare()
        elif page != "README.md":
            self.shell("cohort serve\n")

    def prepare(self) -> None:
        """A server, you@example.org, three peers, and a session that has completed, with its model."""
        self.shell("cohort serve\ncohort signup --email you@example.org --name You >/dev/null\n")
        self.shell('for name in ana ben cleo; do cohort peer --token "$(cohort token)" --name "$name"; done\n')
        self.shell("cohort train data.csv --target species --peers 3 --rounds 3 -o model.safetensors >/dev/null\n")

    def say(self, command: str) -> str:
        return subprocess.run(["bash", "-c", command], cwd=self.work, env=self.environment, check=True, capture_output=True, text=True, timeout=120).stdout.strip()

    def filled(self, text: str) -> str:
        """With what a reader puts in the place of SERVER, TOKEN, ID and the like."""
        text = text.replace("TOKEN=…", "TOKEN=$(docs-token)").replace('password="…"', 'password="correct horse"')
        text = re.sub(r"https?://(SERVER:8080|ADDRESS:8080|127\.0\.0\.1:8080|cohort\.example\.org)", self.url, text)
        if re.search(r"(?<![$\w])TOKEN(?![=\w])", text):
            text = re.sub(r"(?<![$\w])TOKEN(?![=\w])", self.say("cohort token"), text)
        if re.search(r"\bID\b", text):
            session = "$(cohort status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"session_id\"])')"
            text = re.sub(r"\bID\b", session, text)
        return text.replace("COLUMN", "species").replace("label", "species") if "mnist" not in text else text

    def shell(self, text: str) -> None:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=240)
        if done.returncode:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def python(self, text: str) -> None:
        """In a process of its own, after what earlier blocks of the page have said; `await` outside functions works, as in a notebook."""
        before = """
import asyncio, os
import numpy as np, pandas as pd, cohort
df = pd.read_csv("data.csv")
X, y = df[["bill_length_mm", "bill_depth_mm"]], df.species
client = cohort.connect()
"""
        script = before + "async def block():\n" + "".join(f"    {line}\n" for line in text.splitlines()) + "asyncio.run(block())\n"
        if not re.search(r"^\s*(async|await)|= await ", text, re.MULTILINE):
            script = before + text
        done = subprocess.run([sys.executable, "-c", script], cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=240)
        if done.returncode:
            raise AssertionError(f"exit code {done.returncode}\n{done.stderr[-3000:]}")

    def end(self) -> None:
        pids = [int(pid) for pid in (self.folder / "pids").read_text().split()] if (self.folder / "pids").exists() else []
        for pid in reversed(pids):
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                continue


def run(block: Block, sandbox: Sandbox) -> None:
    if block.language in SHELL:
        lines = [line for line in block.text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if all(re.match(r"(export )?[A-Z_]+=", line) for line in lines):
            return  # The names are held against the settings below.
        text = "\n".join(line.removeprefix("$ ") for line in lines if not block.text.startswith("$ ") or line.startswith("$ "))
        sandbox.shell(sandbox.filled(text) + "\n")
    elif block.language == "python":
        sandbox.python(sandbox.filled(block.text))
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        import yaml

        yaml.safe_load(block.text)
    elif block.language == "ini":
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(block.text)
        command = shlex.split(unit["Service"]["ExecStart"].replace("%h", str(sandbox.folder)))
        assert Path(command[0]).name == "cohort", command
        check_command(command[1:])
    else:
        raise AssertionError(f"nothing runs blocks of the language '{block.language}'")


def commands() -> dict[str, set[str]]:
    """Each command of the program and its options."""
    tree = json.loads(subprocess.check_output([BINARY, "--experimental-dump-help"]))["command"]
    found = {}
    for command in tree["subcommands"]:
        found[command["commandName"]] = {f"{'--' if name['kind'] == 'long' else '-'}{name['name']}" for argument in command.get("arguments", []) for name in argument.get("names", [])}
    return found


COMMANDS = commands()


def check_command(words: list[str]) -> None:
    """The command and all its options are there."""
    if words and words[0] in ("help", "--version") or not words:
        return
    assert words[0] in COMMANDS, f"there is no command 'cohort {words[0]}'"
    for word in words[1:]:
        option = word.split("=")[0]
        if re.fullmatch(r"--[a-z][a-z0-9-]*|-[a-z]", option):
            assert option in COMMANDS[words[0]] or option in ("--help", "-h"), f"cohort {words[0]} has no {option}"


def check_text(page: str) -> list[str]:
    """What the text of a page says of commands and settings, and is not so."""
    text = (ROOT / page).read_text()
    faults = []
    for match in re.finditer(r"`cohort ([a-z][^`]*)`", text):
        try:
            check_command(match[1].replace("…", "").split())
        except AssertionError as error:
            faults.append(f"{page}: `{match[0].strip('`')}`: {error}")
    known = set(re.findall(r"`(COHORT_[A-Z_0-9]+)`", (ROOT / "docs/settings.md").read_text())) | {"COHORT_TOKEN", "COHORT_SERVER"}
    for file in ("docker-compose.yml", "scripts/torch.sh"):
        known |= set(re.findall(r"\$\{(COHORT_[A-Z_0-9]+)", (ROOT / file).read_text()))
    for name in sorted(set(re.findall(r"\bCOHORT_[A-Z][A-Z_0-9]*\b", text))):
        base = name.removesuffix("_FILE")
        if name not in known and base not in known and not name.startswith("COHORT_TEST_"):
            faults.append(f"{page}: neither docs/settings.md nor docker-compose.yml has a {name}")
    return faults


def main() -> int:
    faults: list[str] = []
    total, ran, elsewhere, skipped = 0, 0, 0, []
    for page in sys.argv[1:] or PAGES:
        faults += check_text(page)
        found = [block for block in blocks(page) if block.language not in ("text", "nginx")]
        total += len(found)
        for block in found:
            if block.elsewhere and not (ROOT / block.elsewhere.split()[0]).exists():
                faults.append(f"{page}:{block.line}: there is no {block.elsewhere.split()[0]}")
        elsewhere += sum(bool(block.elsewhere) for block in found)
        skipped += [block for block in found if block.reason]
        mine = [block for block in found if not block.elsewhere and not block.reason]
        if not mine:
            continue
        with tempfile.TemporaryDirectory(prefix="cohort-docs-") as folder:
            sandbox = Sandbox(Path(folder), page)
            try:
                for block in mine:
                    try:
                        run(block, sandbox)
                        ran += 1
                    except (AssertionError, subprocess.SubprocessError, ValueError, KeyError) as error:
                        faults.append(f"{page}:{block.line}: {error}")
            finally:
                sandbox.end()
        print(f"{page}: {len(mine)} blocks ran", flush=True)
    for block in skipped:
        print(f"{block.page}:{block.line}: not run: {block.reason}")
    print(f"docs-test: {total} blocks: {ran} ran, {elsewhere} are run by other tests, {len(skipped)} are not run")
    if not sys.argv[1:] and len(skipped) > MOST_NOT_RUN * total:
        faults.append(f"{len(skipped)} of {total} blocks are not run; at most {MOST_NOT_RUN:.0%} may be")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
