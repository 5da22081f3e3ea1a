"""A client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

from . import _table
from ._client import Client, Peer, connect
from ._run import Run


class AsyncClient:
    """A client whose methods are awaited; each runs in a thread, so that the loop goes on meanwhile.

    >>> async def train():
    ...     async with cohort.AsyncClient(client) as waiting:
    ...         run = await waiting.fit(df, target="species", peers=2, rounds=3, progress=False)
    ...         return (await waiting.status(run))["status"]
    >>> asyncio.run(train())
    'COMPLETED'
    """

    def __init__(self, client: Client) -> None:
        """``client``: of ``cohort.connect``; it stays open when this is left."""
        self.client = client
        self._owns_client = False

    @classmethod
    async def connect(cls, server: str | None = None, **options: Any) -> AsyncClient:
        """As ``cohort.connect``; the connection is closed when this is left."""
        made = cls(await asyncio.to_thread(lambda: connect(server, **options)))
        made._owns_client = True
        return made

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owns_client:
            await asyncio.to_thread(self.client.close)

    async def fit(self, table: _table.Table, target: str | None = None, peers: int | Literal["all"] = 1, **settings: Any) -> Run:
        """As ``Client.fit``."""
        return await asyncio.to_thread(lambda: self.client.fit(table, target, peers, **settings))

    async def wait(self, run: Run, progress: bool = False) -> Run:
        """As ``Run.wait``."""
        return await asyncio.to_thread(run.wait, progress)

    async def status(self, run: Run) -> dict[str, Any]:
        """As ``Run.status``."""
        return await asyncio.to_thread(lambda: run.status)

    async def predict(self, run: Run, table: _table.Table, **options: Any) -> Any:
        """As ``Run.predict``."""
        return await asyncio.to_thread(lambda: run.predict(table, **options))

    async def sessions(self, limit: int = 100) -> list[dict[str, Any]]:
        """As ``Client.sessions``."""
        return await asyncio.to_thread(self.client.sessions, limit)

    async def peers(self) -> list[Peer]:
        """As ``Client.peers``."""
        return await asyncio.to_thread(self.client.peers)

    async def events(self, run: Run) -> AsyncIterator[dict[str, Any]]:
        """What happens in a session, until it has ended: ``kind``, ``message``, ``round``, ``loss``, …"""
        notices = self.client._events(run.id)
        while (notice := await asyncio.to_thread(next, notices, None)) is not None:
            yield notice
