"""pysignalr and signalrcore under one face: each call waits until it is done, what comes is noted in order."""

import asyncio
import queue
import socket
import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.types import HttpTransportType, HubProtocolEncoding

from play import Loop, Notes
from stage import PATIENCE_S

try:
    from pysignalr.client import SignalRClient
    from pysignalr.protocol.json import JSONProtocol
    from pysignalr.protocol.messagepack import MessagepackProtocol
except ImportError:
    # requirements.txt has it for newer Pythons only.
    SignalRClient = None

# Neither client hears what it has no handler for.
EVENTS = ("message", "moved", "nothing", "text", "file", "say", "ready?", "again", "$error", "$joined", "$left")
HUB = "/signalr"


class Refused(Exception):
    """The error with which an invocation was completed."""


class Player:
    """A client, connected or not."""

    def __init__(self):
        self._notes = Notes()
        # The results that it answers invocations with, by their names.
        self.answers = {}

    def connect(self, url, *, hub=HUB, query="", token=None):
        raise NotImplementedError

    def call(self, target, *args):
        """Invokes, and gives the result."""
        error, result = self._ask(target, list(args))
        if error:
            raise Refused(error)
        return result

    def next(self):
        """The next event with its arguments."""
        return self._notes.take("event")

    def ended(self):
        """It was told that its connection is over; why, as far as the client says so."""
        state, why = self._notes.take("state")
        assert state == "ended", state
        return why

    def changes(self):
        """It was told that it is connected, or that it is not."""
        state, _ = self._notes.take("state")
        return state

    def _opens(self):
        state, why = self._notes.take("state")
        if state != "open":
            raise why

    def _ask(self, target, args):
        raise NotImplementedError

    def end(self):
        raise NotImplementedError


class Stream:
    """What comes of a streaming invocation."""

    def __init__(self, completions=None):
        self.items = queue.SimpleQueue()
        self.completions = completions or queue.SimpleQueue()

    def next(self):
        """The next item."""
        return self.items.get(timeout=PATIENCE_S)

    def completed(self):
        """It was completed and has no more items; the error, if it was one."""
        message = self.completions.get(timeout=PATIENCE_S)
        assert self.items.empty(), self.items.get()
        return message.error


class Pysignalr(Player):
    """`SignalRClient` of pysignalr. It comes back by itself only where it need not negotiate."""

    def __init__(self, protocol):
        super().__init__()
        self._protocol = protocol
        self._loop = Loop()

    def connect(self, url, *, hub=HUB, query="", token=None):
        # Its `access_token_factory` is asked when it has connected already.
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = SignalRClient(url + hub + query, protocol=self._protocol(), headers=headers)
        for event in EVENTS:
            self._client.on(event, partial(self._heard, event))
        self._client.on_open(self._opened)
        self._client.on_error(self._failed)
        self._run = self._loop.start(self._client.run())
        self._run.add_done_callback(lambda run: self._notes.add("state", ("ended", run.cancelled() or run.exception())))
        self._opens()

    async def _opened(self):
        self._notes.add("state", ("open", None))

    async def _failed(self, message):
        """Whoever invoked is told, too."""

    async def _heard(self, event, args):
        self._notes.add("event", (event, *args))
        return self.answers.get(event)

    def _ask(self, target, args):
        return self._loop.run(self._invoke(target, args))

    async def _invoke(self, target, args):
        completion = asyncio.get_running_loop().create_future()

        async def completed(message):
            completion.set_result((message.error, message.result))

        await self._client.send(target, args, completed)
        return await asyncio.wait_for(completion, PATIENCE_S)

    def send(self, target, *args):
        """Invokes and wants no answer."""
        self._loop.run(self._client.send(target, list(args)))

    def stream(self, target, *args):
        stream = Stream()

        async def item(value):
            stream.items.put(value)

        async def completed(message):
            stream.completions.put(message)

        self._loop.run(self._client.stream(target, list(args), item, completed, completed))
        return stream

    def upload(self, target, items):
        """A stream to the server; this client has no arguments beside it and wants no answer."""

        async def send():
            async with self._client.client_stream(target) as stream:
                for item in items:
                    await stream.send(item)

        self._loop.run(send())

    def leave(self):
        self._run.cancel()

    def end(self):
        self._loop.end()


class Signalrcore(Player):
    """`HubConnectionBuilder` of signalrcore."""

    def __init__(self, transport, encoding, skip_negotiation=False):
        super().__init__()
        self._transport = transport
        self._encoding = encoding
        self._skip_negotiation = skip_negotiation
        # Completions with an error come to one place for all, that of a stream perhaps before its id is known.
        self._completions = defaultdict(queue.SimpleQueue)
        self._connection = None
        self.reconnects = False

    def connect(self, url, *, hub=HUB, query="", token=None):
        options = {"transport": self._transport, "skip_negotiation": self._skip_negotiation}
        if token:
            options["access_token_factory"] = lambda: token
        builder = HubConnectionBuilder().with_url(url + hub + query, options).with_hub_protocol(self._encoding)
        if self.reconnects:
            builder.with_automatic_reconnect({"type": "raw", "reconnect_interval": 1, "keep_alive_interval": 1})
        self._connection = builder.build()
        self._connection.on_open(lambda: self._notes.add("state", ("open", None)))
        self._connection.on_reconnect(lambda: self._notes.add("state", ("open", None)))
        self._connection.on_close(lambda: self._notes.add("state", ("ended", None)))
        self._connection.on_error(self._completed)
        for event in EVENTS:
            self._connection.on(event, partial(self._heard, event))
        self._connection.start()
        self._opens()

    def _heard(self, event, args):
        self._notes.add("event", (event, *args))

    def _completed(self, message):
        self._completions[message.invocation_id].put(message)

    def _ask(self, target, args):
        invocation = str(uuid.uuid4())
        self._connection.invoke(target, args, self._completed, invocation)
        message = self._completions[invocation].get(timeout=PATIENCE_S)
        return message.error, message.result

    def stream(self, target, *args):
        """It can be told what to do with items only when it has asked for them, so the first may be lost."""
        handler = self._connection.stream(target, list(args))
        stream = Stream(self._completions[handler.invocation_id])
        handler.subscribe({"next": stream.items.put, "complete": self._completed, "error": self._completed})
        return stream

    def comes_back(self):
        """It is connected again."""
        self._opens()

    def is_cut_off(self):
        """Its connection is lost without a word."""
        self._connection.transport._client.sock.shutdown(socket.SHUT_RDWR)

    def leave(self):
        self._connection.stop()

    def end(self):
        # It waits for what its server says next.
        if self._connection:
            threading.Thread(target=self._connection.stop, daemon=True).start()


@dataclass(frozen=True)
class Way:
    """A client, an encoding and a transport."""

    name: str
    player: callable
    skills: frozenset = field(default_factory=frozenset)

    def can(self, story):
        return getattr(story, "needs", frozenset()) <= self.skills


def needs(*skills):
    """Only for clients with these skills."""

    def mark(story):
        story.needs = frozenset(skills)
        return story

    return mark


def _pysignalr(name, protocol, *skills):
    every = {"tokens", "bursts", "results", "sends", "uploads", "reasons", "refusals"}
    return Way(f"pysignalr, {name}", partial(Pysignalr, protocol), frozenset(every.union(skills)))


def _signalrcore(name, transport, encoding, *skills, **options):
    return Way(f"signalrcore, {name}", partial(Signalrcore, transport, encoding, **options), frozenset(skills))


WAYS = [
    *([_pysignalr("JSON", JSONProtocol), _pysignalr("MessagePack", MessagepackProtocol, "bytes")] if SignalRClient else []),
    _signalrcore(
        "WebSocket, JSON", HttpTransportType.web_sockets, HubProtocolEncoding.text, "tokens", "bursts", "reconnects", "refusals"),
    _signalrcore(
        "WebSocket, MessagePack", HttpTransportType.web_sockets, HubProtocolEncoding.binary, "tokens", "bursts", "reconnects", "refusals",
        "bytes"),
    # It takes any answer for an upgrade that has the digits 101 in it, as the reason of a refusal has.
    _signalrcore(
        "WebSocket without negotiation, JSON", HttpTransportType.web_sockets, HubProtocolEncoding.text, "tokens", "bursts",
        skip_negotiation=True),
    _signalrcore("Server-Sent Events", HttpTransportType.server_sent_events, HubProtocolEncoding.text, "tokens", "bursts", "refusals"),
    # It shows no token with its polls, and takes one message out of each.
    _signalrcore("long polling", HttpTransportType.long_polling, HubProtocolEncoding.text),
]
