#!/usr/bin/env python3
"""Messages a second through a RabbitMQ on this machine, durable, persistent, each with a publisher confirm, consumed and acknowledged: Cohort's transport and
aio-pika, in turns, over TLS and without. Needs aio-pika (PyPI).

    python3 Benchmarks/broker.py BrokerBench [--messages 10000] [--rounds 3]

COHORT_ONLY=BrokerBench swift build -c release builds BrokerBench.
"""
import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import aio_pika

HERE = Path(__file__).resolve().parent
AT_ONCE = 64


async def theirs(url, size, messages):
    address, _, query = url.partition("?")
    context = ssl.create_default_context(cafile=query.split("=")[1]) if query else None
    connection = await aio_pika.connect(address, ssl_context=context)
    async with connection:
        # As ours: a channel to publish by and one to consume by.
        publishing, consuming = await connection.channel(publisher_confirms=True), await connection.channel()
        await consuming.set_qos(prefetch_count=256)
        queue = await consuming.declare_queue("aio-pika-bench", durable=True)
        body, taken, done = os.urandom(size), 0, asyncio.Event()

        async def take(message):
            nonlocal taken
            await message.ack()
            taken += 1
            if taken == messages:
                done.set()

        await queue.consume(take)
        start = time.monotonic()

        async def lane():
            for _ in range(messages // AT_ONCE):
                await publishing.default_exchange.publish(
                    aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, content_type="application/json",
                                     headers={"cohort-peer": "bench"}), "aio-pika-bench", mandatory=True)

        await asyncio.gather(*(lane() for _ in range(AT_ONCE)), lane_rest(publishing, body, messages))
        await done.wait()
        seconds = time.monotonic() - start
        await queue.delete(if_unused=False, if_empty=False)
        return messages / seconds


async def lane_rest(channel, body, messages):
    for _ in range(messages % AT_ONCE):
        await channel.default_exchange.publish(
            aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "aio-pika-bench", mandatory=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench", help="BrokerBench, as built")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        place = f"{folder}/rabbitmq"
        lines = subprocess.run([HERE.parent / "scripts/rabbitmq.sh", "start", place], check=True, stdout=subprocess.PIPE, text=True).stdout
        env = dict(line.split("=", 1) for line in lines.splitlines())
        try:
            for what, url in (("plain", env["COHORT_TEST_AMQP_URL"]), ("TLS", env["COHORT_TEST_AMQPS_URL"])):
                a, b = [], []
                for _ in range(arguments.rounds):
                    row = json.loads(subprocess.run([arguments.bench, url, str(arguments.messages), str(AT_ONCE)], check=True, capture_output=True, text=True).stdout)
                    a.append(row["messages"] / row["seconds"])
                    b.append(asyncio.run(theirs(url, row["bytes"], arguments.messages)))
                ours, others = statistics.median(a), statistics.median(b)
                print(f"{what}: Cohort {ours:,.0f} messages/s, aio-pika {others:,.0f} messages/s, {ours / others:.2f} times as fast")
        finally:
            subprocess.run([HERE.parent / "scripts/rabbitmq.sh", "stop", place], check=False)


if __name__ == "__main__":
    main()
