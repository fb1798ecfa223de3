"""Both clients of python-socketio under one face: each call waits until it is done, what comes is noted in order."""

import asyncio
import threading

import socketio

from play import Loop, Notes
from stage import PATIENCE_S

OPTIONS = {"reconnection_delay": 0.1, "reconnection_delay_max": 0.3, "randomization_factor": 0, "handle_sigint": False}


class Player:
    """A client in its namespaces."""

    def __init__(self, transports):
        self._transports = transports
        self._notes = Notes()
        # What it acknowledges events with, by their names.
        self.answers = {}

    def connect(self, url, *, query="", namespaces=("/",), auth=None):
        for namespace in namespaces:
            self._listen(namespace)
        self._do(self._client.connect(
            url + query, auth=auth, transports=self._transports, namespaces=list(namespaces), wait_timeout=PATIENCE_S))
        for namespace in namespaces:
            self.is_connected(namespace)

    def _note(self, namespace, event, *args):
        kind = event if event in ("connect", "connect_error", "disconnect") else "event"
        self._notes.add((namespace, kind), args if kind != "event" else (event, *args))
        return self.answers.get(event)

    def is_connected(self, namespace="/"):
        """It was told so once more."""
        self._notes.take((namespace, "connect"))

    def refusal(self, namespace="/"):
        """What it was told when it was not let in."""
        return self._notes.take((namespace, "connect_error"))

    def farewell(self, namespace="/"):
        """The reason it was given when it was disconnected."""
        [reason] = self._notes.take((namespace, "disconnect"))
        return reason

    def next(self, namespace="/"):
        """The next event with its arguments."""
        return self._notes.take((namespace, "event"))

    def call(self, event, *args, namespace="/"):
        """Emits an event, and gives what it was acknowledged with."""
        return self._do(self._client.call(event, args, namespace=namespace, timeout=PATIENCE_S))

    def emit(self, event, *args, namespace="/"):
        self._do(self._client.emit(event, args, namespace=namespace))

    @property
    def transport(self):
        return self._client.transport()

    def gives_up(self):
        """Waits until it is disconnected and does not try to come back."""
        raise NotImplementedError

    def leave(self):
        """Disconnects, and tries no more to come back."""
        self._do(self._client.shutdown())

    def end(self):
        self.leave()

    def _listen(self, namespace):
        raise NotImplementedError

    def _do(self, call):
        raise NotImplementedError


class Blocking(Player):
    """`socketio.Client`, which has threads of its own."""

    name = "Client"

    def __init__(self, transports):
        super().__init__(transports)
        self._client = socketio.Client(**OPTIONS)

    def _listen(self, namespace):
        for event in ("connect", "connect_error", "disconnect"):
            self._client.on(event, lambda *args, event=event: self._note(namespace, event, *args), namespace=namespace)
        self._client.on("*", lambda event, *args: self._note(namespace, event, *args), namespace=namespace)

    def _do(self, call):
        return call

    def gives_up(self):
        waiting = threading.Thread(target=self._client.wait, daemon=True)
        waiting.start()
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive(), "it still tries to come back"


class Asyncio(Player):
    """`socketio.AsyncClient` on an event loop in a thread."""

    name = "AsyncClient"

    def __init__(self, transports):
        super().__init__(transports)
        self._loop = Loop()
        self._client = socketio.AsyncClient(**OPTIONS)

    def _listen(self, namespace):
        for event in ("connect", "connect_error", "disconnect"):
            self._client.on(event, self._handler(namespace, event), namespace=namespace)
        self._client.on("*", self._handler(namespace), namespace=namespace)

    def _handler(self, namespace, *event):
        async def handle(*args):
            return self._note(namespace, *event, *args)

        return handle

    def _do(self, call):
        return self._loop.run(call)

    def gives_up(self):
        self._do(asyncio.wait_for(self._client.wait(), PATIENCE_S))

    def end(self):
        super().end()
        self._loop.end()
