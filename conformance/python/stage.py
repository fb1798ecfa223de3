"""What the stories are played on: servers, their HTTP API, and tokens."""

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE_S = 10

# These stand in server.toml, too.
SECRET = b"a secret that only the scenarios know"
KEY = "a key that only the scenarios know"
# `AsyncClient` over polling may leave without a word, if it is told to while its last POST is not answered; then it waits for
# its GET, which the next heartbeat ends.
OPTIONS = ["--client-heartbeat", "1s", "--client-pong-timeout", "5s"]
CONFIG = Path(__file__).parent.parent / "scenarios" / "server.toml"


def eventually(check, patience_s=PATIENCE_S):
    """Tries until `check` no longer raises; its last words are the failure."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return check()
        except (AssertionError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def token(user, seconds=3600, **claims):
    """A token for `user` that is good for so many seconds."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + seconds, **claims}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(base64url(part) for part in parts)
    return (signed + b"." + base64url(hmac.new(SECRET, signed, hashlib.sha256).digest())).decode()


def base64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def api(url, path, body):
    """Asks the HTTP API as a backend does; dev mode does not look at the key."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{url}/api/v1/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


class Server:
    """A server of a test's own: in dev mode, or with tokens."""

    def __init__(self, program, *, config=None, options=OPTIONS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        self._command = [program, "serve", "--listen", address, *options]
        if config:
            self._command += ["--config", str(config)]
        self.start()

    def start(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith("DUPLEX_")}
        self._process = subprocess.Popen(self._command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S).close())

    def kill(self):
        """It ends without a word."""
        self._end(signal.SIGKILL)

    def drain(self):
        """It sends its clients away and ends."""
        self._end(signal.SIGTERM)

    def _end(self, sent):
        self._process.send_signal(sent)
        self._process.wait(PATIENCE_S)

    def stop(self):
        if self._process.poll() is None:
            self.kill()
