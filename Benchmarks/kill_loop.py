#!/usr/bin/env python3
"""Sessions of random sizes while the server and the peers are killed, stopped and starved at random: do all of them end right?

    python3 Benchmarks/kill_loop.py [--binary .build/release/cohort] [--sessions 200] [--minutes 10] [--seed N]

Needs Python 3.11 and nothing else; as root also a full disk (a small tmpfs under the server), and with libfaketime a clock that jumps by an
hour each time the server is started again. Prints one line a session, and the figures at the end; exit status 1 when a session did not
end right: it must be COMPLETED with a model that downloads, no peer may stay locked, and no object may be left over.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from bench import Process
from simulated import Person

FAST = dict(COHORT_HEARTBEAT_INTERVAL="0.5", COHORT_SUSPECT_AFTER="1.5", COHORT_DEAD_AFTER="3", COHORT_PEER_WAIT="60", COHORT_LEASE_SECONDS="4")
FAKETIME = next((path for path in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1") if os.path.exists(path)), None)


class Loop:
    def __init__(self, binary, folder, random):
        self.binary, self.folder, self.random = binary, folder, random
        self.port, self.person, self.token, self.hours = None, None, None, 0
        self.peers, self.counts = {}, {}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def start_server(self):
        environment = dict(FAST)
        if FAKETIME and self.hours:
            # Wall-clock time alone: a step, not a faster clock.
            environment |= {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{self.hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(self.port or 0), "--data-dir", f"{self.folder}/server", "--log-level", "notice"]
        # By way of `env`: libfaketime set up by the very process that it is loaded into loses that process's arguments.
        command = [self.binary, *arguments] if "LD_PRELOAD" not in environment else ["env", self.binary, *arguments]
        self.server = Process(command[0], command[1:], environment, f"{self.folder}/server-{time.time_ns()}.log")
        try:
            url = self.server.url()
        except SystemExit:
            if not environment.get("LD_PRELOAD"):
                raise
            # libfaketime itself fails now and then, before the program begins: without it, the clock steps back.
            self.hours = 0
            self.count("libfaketime gave up")
            return self.start_server()
        self.port = int(url.rsplit(":", 1)[1])
        return url

    def start_peer(self, name):
        arguments = ["peer", "--server", f"http://127.0.0.1:{self.port}", "--name", name, "--data-dir", f"{self.folder}/{name}", "--threads", "1", "--log-level", "warning", "--max-load", str(self.random.choice([1, 2, 5]))]
        self.peers[name] = Process(self.binary, arguments, {"COHORT_TOKEN": self.token}, f"{self.folder}/{name}-{time.time_ns()}.log")

    def kill(self, process):
        process.process.kill()
        process.process.wait()

    async def disturb(self):
        """One fault, chosen at random."""
        fault = self.random.choice(["kill peer", "kill peer", "stop peer", "kill server", "stop server", "full disk", "clock"])
        name = self.random.choice(list(self.peers))
        if fault == "kill peer":
            self.kill(self.peers[name])
            await asyncio.sleep(self.random.uniform(0, 1))
            self.start_peer(name)
        elif fault == "stop peer":
            self.peers[name].process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.random.uniform(0.2, 5))
            self.peers[name].process.send_signal(signal.SIGCONT)
        elif fault == "stop server":
            self.server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.random.uniform(0.2, 5))
            self.server.process.send_signal(signal.SIGCONT)
        elif fault == "full disk":
            if not self.has_disk:
                return
            filler = pathlib.Path(f"{self.folder}/server/filler")
            try:
                with open(filler, "wb") as file:
                    while True:
                        file.write(b"\1" * 4096)
            except OSError:
                pass
            await asyncio.sleep(self.random.uniform(0.2, 3))
            filler.unlink(missing_ok=True)
        else:
            self.kill(self.server)
            if fault == "clock":
                if not FAKETIME:
                    return self.start_server()
                self.hours += self.random.choice([-1, 1])
            await asyncio.sleep(self.random.uniform(0, 2))
            self.start_server()
        self.count(fault)

    async def again(self, what):
        """Asks until the server is there."""
        while True:
            try:
                return await what()
            except (OSError, RuntimeError, EOFError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
                self.last = error
                await asyncio.sleep(0.1)

    async def session(self, number):
        rows, peers = self.random.randint(30, 4_000), self.random.randint(1, 3)
        strategy = self.random.choice(["fedavg", "fedavg", "independent"])
        csv = "a,b,c,y\n" + "".join(f"{self.random.gauss(row % 3, 1):.4f},{self.random.random():.4f},{row},class{row % 3}\n" for row in range(rows))
        fields = dict(
            peers=peers, strategy=strategy, rounds=self.random.randint(2, 12), epochs=self.random.randint(2, 10),
            batch_size=self.random.choice([1, 8, 32, 500]), hidden=self.random.choice(["8", "64,32", "none"]), target="y", seed=number)
        session = None
        while session is None:
            known = {one["id"] for one in await self.again(lambda: self.person.get("/sessions"))}
            try:
                session = await self.person.start(csv.encode(), **fields)
            except (OSError, RuntimeError, EOFError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
                # It may be there all the same: the answer was lost.
                new = [one for one in await self.again(lambda: self.person.get("/sessions")) if one["id"] not in known]
                session = new[0]["id"] if new and new[0]["status"] != "FAILED" else None
                await asyncio.sleep(0.1)
        disturbing = asyncio.create_task(self.disturb_often())
        deadline = time.monotonic() + 240
        try:
            while True:
                status = await self.again(lambda: self.person.get(f"/sessions/training-status?session_id={session}"))
                if status["status"] in ("COMPLETED", "FAILED", "CANCELLED"):
                    break
                if time.monotonic() > deadline:
                    return f"not over after 240 s: {json.dumps({key: status.get(key) for key in ('status', 'round', 'waiting_for', 'error')})}"
                await asyncio.sleep(0.05)
        finally:
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)
            await self.recover()
        if status["status"] != "COMPLETED":
            return f"{status['status']}: {status['error']}"
        results = await self.again(lambda: self.person.get(f"/sessions/{session}/results"))
        if results["metrics"].get("loss") is None:
            return f"no metrics: {results['metrics']}"
        try:
            await asyncio.wait_for(self.free(), 60)
        except TimeoutError:
            return f"peers stay locked: {await self.again(lambda: self.person.get('/peers'))}"
        left = [str(path) for kind in ("updates",) for path in pathlib.Path(f"{self.folder}/server/objects/{kind}/{session}").rglob("*") if path.is_symlink()]
        if left:
            return f"objects are left over: {left[:3]}"
        return None

    async def free(self):
        while True:
            peers = await self.again(lambda: self.person.get("/peers"))
            online = {peer["name"] for peer in peers if peer["status"] == "ONLINE"}
            if set(self.peers) <= online and not any(peer["status"] == "TRAINING" for peer in peers):
                return
            await asyncio.sleep(0.1)

    async def disturb_often(self):
        while True:
            await asyncio.sleep(self.random.expovariate(2.0))
            await self.disturb()

    async def recover(self):
        """Everything runs again, whatever the last fault was in the middle of."""
        pathlib.Path(f"{self.folder}/server/filler").unlink(missing_ok=True)
        for process in [self.server, *self.peers.values()]:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
        if self.server.process.poll() is not None:
            self.start_server()
        for name, process in list(self.peers.items()):
            if process.process.poll() is not None:
                self.start_peer(name)

    async def run(self, sessions, minutes):
        server = pathlib.Path(f"{self.folder}/server")
        server.mkdir()
        self.has_disk = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(server)], stderr=subprocess.DEVNULL).returncode == 0
        wrong, done, deadline = [], 0, time.monotonic() + 60 * minutes
        try:
            self.person = await Person.signup(self.start_server())
            self.token = await self.person.token()
            for name in ("peer-1", "peer-2", "peer-3"):
                self.start_peer(name)
            await self.free()
            while done < sessions and time.monotonic() < deadline:
                begun = time.monotonic()
                problem = await self.session(done)
                done += 1
                if problem:
                    wrong.append(problem)
                print(f"{done:4}  {time.monotonic() - begun:6.1f} s  {problem or 'right'}", flush=True)
                await self.again(self.tidy)
        finally:
            for process in [self.server, *self.peers.values()]:
                self.kill(process)
            if self.has_disk:
                subprocess.run(["umount", "-l", str(server)])
        faults = ", ".join(f"{number} × {what}" for what, number in sorted(self.counts.items()))
        print(f"{done - len(wrong)} of {done} sessions ended right, under {sum(self.counts.values())} faults: {faults}")
        return not wrong

    async def tidy(self):
        """The tmpfs is small: objects of sessions that are over go."""
        for kind in ("checkpoints", "models"):
            shutil.rmtree(f"{self.folder}/server/objects/{kind}", ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=".build/release/cohort")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    folder = tempfile.mkdtemp(prefix="cohort-kill-")
    right = asyncio.run(Loop(os.path.abspath(arguments.binary), folder, random.Random(arguments.seed)).run(arguments.sessions, arguments.minutes))
    if right:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs are in {folder}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
