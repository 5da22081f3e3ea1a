#!/usr/bin/env python3
"""Stands in for the image of MongoDB where that cannot be pulled: mongoeco, a server of MongoDB's wire protocol, with the account that
MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD_FILE name, on port 27017, its data in /data/db."""

import asyncio
import os
import signal

from mongoeco.engines.sqlite import SQLiteEngine
from mongoeco.wire import AsyncMongoEcoProxyServer, WireAuthUser


async def main():
    with open(os.environ["MONGO_INITDB_ROOT_PASSWORD_FILE"]) as file:
        password = file.read().strip()
    server = AsyncMongoEcoProxyServer(
        engine=SQLiteEngine(path="/data/db/mongoeco.sqlite"), host="0.0.0.0", port=27017,
        auth_users=(WireAuthUser(os.environ["MONGO_INITDB_ROOT_USERNAME"], password),))
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.close()


asyncio.run(main())
