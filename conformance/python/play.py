"""What every story is told with, whoever plays: one scene, and what its clients were told."""

import asyncio
import threading
import uuid
from collections import defaultdict, deque
from unittest import TestCase

from stage import PATIENCE_S, Server, api

check = TestCase()
check.maxDiff = 2000

TEXTS = [
    "plain",
    "",
    "naïve Ω 漢字 🙂 \u2028 \0 \x1e \\ \"quoted\"\n",
    "x" * 50_000,
    {"from": "ada", "n": [1, -2.5, True, None], "deep": {"empty": [{}]}},
]
BYTES = [b"", b"\x00\xff\x1e4", bytes(range(256)) * 60]


class Play:
    """One story on one server, with one kind of client that goes one way."""

    def __init__(self, url, program, player):
        self.url = url
        self._program = program
        # Makes a client that is not yet connected.
        self._player = player
        self._leaving = []

    def enter(self, *, server=None, **options):
        """A client that is connected."""
        player = self.player()
        player.connect(server.url if server else self.url, **options)
        return player

    def player(self):
        player = self._player()
        self._leaving.append(player.end)
        return player

    def server(self, **options):
        """A server of the story's own."""
        server = Server(self._program, **options)
        self._leaving.append(server.stop)
        return server

    def publishes(self, channel, data, server=None, **more):
        return api(server.url if server else self.url, "publish", {"channel": channel, "data": data, **more})

    def end(self):
        for leave in reversed(self._leaving):
            leave()


def fresh(name="room"):
    return f"{name}-{uuid.uuid4().hex[:8]}"


def stories(of):
    """The stories of a module, in the order in which they stand there."""
    return [story for story in vars(of).values() if getattr(story, "__code__", None) and story.__code__.co_varnames[:2] == ("play", "way")]


class Notes:
    """What a client was told, to be taken by kind, in order."""

    def __init__(self):
        self._all = defaultdict(deque)
        self._more = threading.Condition()

    def add(self, kind, what):
        with self._more:
            self._all[kind].append(what)
            self._more.notify_all()

    def take(self, kind):
        """The next of its kind; waits for it."""
        with self._more:
            if not self._more.wait_for(lambda: self._all[kind], PATIENCE_S):
                there = {kind: list(notes) for kind, notes in self._all.items() if notes}
                raise AssertionError(f"waited {PATIENCE_S} s for {kind}; there was {there}")
            return self._all[kind].popleft()


class Loop:
    """An event loop in a thread of its own, for clients that want one."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, call):
        """Lets it run; a future of what comes of it."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def run(self, call):
        """Waits until it is done."""
        return self.start(call).result(2 * PATIENCE_S)

    def end(self):
        self.run(self._stop_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    @staticmethod
    async def _stop_tasks():
        """Clients leave some waiting for nothing when their server refused them."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
