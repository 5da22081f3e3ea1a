#!/usr/bin/env python3
"""What pages cost: the first page, a session of 50 machines and 1,000 epochs drawn and followed live, and 500 who watch one session.

    .build-tools/browser/bin/python Benchmarks/pages.py [--binary .build/release/cohort] [--machines 50] [--viewers 500] [--out bench.json]

`make browser-test` makes that environment. Machines are simulated (docs/protocol.md in plain Python), server and Chromium are real. Frames and
long tasks are Chromium's own figures (requestAnimationFrame and the Long Tasks API)."""

import argparse
import asyncio
import json
import math
import os
import pathlib
import random
import statistics
import tempfile
import time
import urllib.request

from bench import Process
from playwright.async_api import async_playwright
from simulated import Connection, Person, SimulatedPeer

ROOT = pathlib.Path(__file__).resolve().parent.parent
EPOCHS = 100
CSV = "a,b,y\n".encode() + "".join(f"{i % 17},{i % 5},c{i % 2}\n" for i in range(1_000)).encode()

# In the page, before its own scripts: counts what comes, and how long frames and tasks take.
WATCH = """
window.seen = {events: 0, frames: [], tasks: []};
const listen = EventSource.prototype.addEventListener;
EventSource.prototype.addEventListener = function (kind, take) {
    return listen.call(this, kind, event => { if (kind !== 'open' && kind !== 'error') window.seen.events += 1; return take(event); });
};
new PerformanceObserver(list => { for (const entry of list.getEntries()) window.seen.tasks.push(entry.duration); }).observe({entryTypes: ['longtask']});
let last = null;
const frame = time => { if (last !== null) window.seen.frames.push(time - last); last = time; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
"""


class Pool:
    """A server, a person, and simulated machines, of which some take part in a session."""

    def __init__(self, binary, folder):
        self.server = Process(binary, ["serve", "--port", "0", "--data-dir", folder], {"COHORT_LOG_LEVEL": "warning"}, f"{folder}.log")
        self.url = self.server.url()
        self.machines, self.stack = [], []

    async def join(self, count):
        self.person = await Person.signup(self.url)
        token = await self.person.token()
        shared = [Connection(self.url) for _ in range(8)]
        for number in range(count):
            machine = SimulatedPeer(self.url, token, f"machine-{number:02}", shared=shared)
            slope = random.Random(number).uniform(0.5, 1.5)
            machine.measure = lambda epoch, slope=slope: (
                2 / (1 + slope * epoch / 40) + random.uniform(0, 0.05), 1 - 0.5 / (1 + slope * epoch / 60) - random.uniform(0, 0.02))
            context = machine.joined()
            await context.__aenter__()
            self.machines.append(machine)
            self.stack.append(context)

    async def leave(self):
        for context in self.stack:
            await context.__aexit__(None, None, None)
        self.server.stop()

    def pace(self, seconds):
        for machine in self.machines:
            machine.epoch_seconds = seconds


def row(name, unit, ours, bar, holds):
    print(f"{name}: {ours:.3g} {unit}, bar {bar:g}: {'holds' if holds else 'FALLS SHORT'}", flush=True)
    return {"name": name, "unit": unit, "ours": ours, "bar": bar, "holds": holds}


async def browse(browser, url):
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    await page.add_init_script(WATCH)
    await page.goto(f"{url}/app/signin")
    form = page.locator("section", has=page.get_by_role("heading", name="Sign in"))
    await form.get_by_label("E-mail").fill("bench@example.org")
    await form.get_by_label("Password").fill("correct horse")
    await form.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Dashboard").wait_for()
    return page


async def first_page(browser, url):
    sizes = []
    page = await (await browser.new_context()).new_page()

    async def add(request):
        size = await request.sizes()
        sizes.append(size["responseBodySize"] + size["responseHeadersSize"])

    page.on("requestfinished", lambda request: asyncio.ensure_future(add(request)))
    await page.goto(url, wait_until="networkidle")
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        urllib.request.urlopen(url).read()
        seconds.append(time.perf_counter() - began)
    await page.close()
    return sum(sizes) / 1e3, statistics.median(seconds) * 1e3


async def drawn(page, url):
    """Milliseconds from the navigation to the first drawing of all curves; the median of seven."""
    times = []
    for _ in range(7):
        await page.goto(url)
        mark = "(performance.getEntriesByName('drawn')[0] ?? {}).startTime"
        while (at := await page.evaluate(mark)) is None:
            await asyncio.sleep(0.02)
        times.append(at)
    return statistics.median(times)


async def live(page, url, seconds=10):
    await page.goto(url)
    await asyncio.sleep(3)  # What drawing it at first takes is another figure.
    await page.evaluate("window.seen = Object.assign(window.seen, {events: 0, frames: [], tasks: []})")
    await asyncio.sleep(seconds)
    seen = await page.evaluate("window.seen")
    return seen["events"] / seconds, len(seen["frames"]) / seconds, max(seen["frames"]), max(seen["tasks"], default=0)


async def hover(page, seconds=8):
    """Frames a second while the pointer goes over the loss chart, whose tip shows all machines' values at each place."""
    box = await page.locator("#loss").bounding_box()
    await page.evaluate("window.seen = Object.assign(window.seen, {frames: [], tasks: []})")
    began, step, shown = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        step += 1
        await page.mouse.move(box["x"] + 60 + step * 7 % (box["width"] - 80), box["y"] + 80 + step % 40)
        if step % 50 == 0:
            shown += await page.locator(".tip:not([hidden])").count() > 0
    assert shown, "no values are shown"
    seen = await page.evaluate("window.seen")
    return len(seen["frames"]) / (time.perf_counter() - began), max(seen["tasks"], default=0)


async def watch(url, token, session, count, viewers):
    async def one(ready):
        stream = Connection(url, token)
        async for line in stream.lines(f"/sessions/{session}/events"):
            if not ready.done():
                ready.set_result(True)
            count[0] += line.startswith("data:")

    ready = [asyncio.get_running_loop().create_future() for _ in range(viewers)]
    tasks = [asyncio.create_task(one(each)) for each in ready]
    await asyncio.gather(*ready)
    return tasks


async def cost(pool, session, seconds=10):
    """Share of a core that the server takes, and seconds a round."""
    began, cpu = time.perf_counter(), pool.server.cpu()
    before = (await pool.person.get(f"/sessions/{session}"))["rounds"]
    await asyncio.sleep(seconds)
    share = (pool.server.cpu() - cpu) / (time.perf_counter() - began)
    rounds = (await pool.person.get(f"/sessions/{session}"))["rounds"][len(before):]
    return share, statistics.median(each["seconds"] for each in rounds) if rounds else math.nan


async def cost_of_viewers(pool, machines, pace, epochs, viewers):
    """Of a session: the server's share of a core without viewers and with them, and what a round takes."""
    pool.pace(pace)
    session = await pool.person.start(CSV, peers=machines, rounds=100_000, epochs=epochs, hidden="4", target="y")
    await pool.person.wait(session, until=lambda status: status["round"] > 0)
    alone, round_alone = await cost(pool, session)
    count = [0]
    tasks = await watch(pool.url, pool.person.connection.token, session, count, viewers)
    await asyncio.sleep(2)
    count[0], began = 0, time.perf_counter()
    watched, round_watched = await cost(pool, session)
    rate = count[0] / (time.perf_counter() - began) / viewers
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await pool.person.call("POST", f"/sessions/{session}/cancel")
    await pool.person.wait(session)
    await asyncio.sleep(1.5 * epochs * pace)  # Simulated machines finish what they were told to do.
    print(
        f"  {machines} machines, {rate:.1f} events a second to each viewer: {alone:.1%} of a core without viewers, {watched:.1%} with {viewers}; a round {round_alone * 1e3:.1f} ms, {round_watched * 1e3:.1f} ms",
        flush=True)
    return watched - alone, round_watched / round_alone


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=str(ROOT / ".build/release/cohort"))
    parser.add_argument("--out", default="bench.json")
    parser.add_argument("--machines", type=int, default=50)
    parser.add_argument("--viewers", type=int, default=500)
    arguments = parser.parse_args()
    machines, viewers = arguments.machines, arguments.viewers
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        pool = Pool(arguments.binary, f"{scratch}/server")
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=os.environ.get("COHORT_CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"])
            try:
                await pool.join(machines)
                size, milliseconds = await first_page(browser, pool.url)
                rows.append(row("first page, with all that it loads", "kB", size, 60, size <= 60))
                rows.append(row("first page, from the server", "ms", milliseconds, 50, milliseconds <= 50))
                # A thousand epochs of each machine at once, then an epoch now and then, as it would be.
                session = await pool.person.start(CSV, peers=machines, rounds=40, epochs=EPOCHS, hidden="4", target="y")
                page = await browse(browser, pool.url)
                await pool.person.wait(session, until=lambda status: status["round"] >= 10)
                pool.pace(machines / 64)
                await asyncio.sleep(2)
                took = await drawn(page, f"{pool.url}/app/session/{session}")
                rows.append(row(f"session page, {machines} machines x 1,000 epochs, drawn", "ms", took, 300, took <= 300))
                updates, frames, longest, task = await live(page, f"{pool.url}/app/session/{session}")
                print(f"  {updates:.0f} updates a second, {frames:.0f} frames a second, the longest frame {longest:.0f} ms, the longest task {task:.0f} ms")
                rows.append(row("session page, live: updates", "1/s", updates, 60, updates >= 60))
                rows.append(row("session page, live: longest task", "ms", task, 50, task <= 50))
                frames, task = await hover(page)
                rows.append(row(f"session page, {machines} machines x 1,000 epochs, live with the pointer over a chart: frames", "1/s", frames, 50, frames >= 50))
                await page.close()
                await pool.leave()
                pool = Pool(arguments.binary, f"{scratch}/other")
                await pool.join(machines)
                for members, pace, epochs in ((3, 1, 1), (machines, machines / 64, 1)):
                    share, ratio = await cost_of_viewers(pool, members, pace, epochs, viewers)
                    if pace == 1:
                        rows.append(row(f"{viewers} viewers of one session", "of a core", share, 0.1, share <= 0.1))
                        rows.append(row(f"a round with {viewers} viewers by one without", "x", ratio, 1.05, ratio <= 1.05))
            finally:
                await browser.close()
                await pool.leave()
    out = pathlib.Path(arguments.out)
    names = {each["name"] for each in rows}
    others = [other for other in json.loads(out.read_text()) if other["name"] not in names] if out.exists() else []
    out.write_text(json.dumps(others + rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
