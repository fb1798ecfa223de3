"""DUPLEX_URL=http://127.0.0.1:8000 DUPLEX_PROGRAM=target/debug/duplex [ONLY=words] python run.py: plays all stories, prints TAP."""

import faulthandler
import logging
import os
import sys
import time
import traceback
from functools import partial

import signalr_player
import signalr_stories
import socketio_player
import socketio_stories
from play import Play, stories

SOCKETIO_WAYS = {"polling": ["polling"], "websocket": ["websocket"], "polling, then websocket": None}
# Every wait in a story has a deadline; whoever is over this one hangs.
STORY_S_MAX = 90


def plays():
    """Each story with each client over each way: its name, itself, who makes the client, and the way."""
    for player in (socketio_player.Blocking, socketio_player.Asyncio):
        for way, transports in SOCKETIO_WAYS.items():
            for story in stories(socketio_stories):
                yield f"{player.name}, {way}: {told(story)}", story, partial(player, transports), way
    for way in signalr_player.WAYS:
        for story in stories(signalr_stories):
            if way.can(story):
                yield f"{way.name}: {told(story)}", story, way.player, way


def told(story):
    return story.__name__.replace("_", " ")


def run(url, program, only):
    passed = failed = 0
    if not signalr_player.SignalRClient:
        print("# SKIP: pysignalr wants Python 3.10 or newer")
    for name, story, player, way in plays():
        if only not in name:
            continue
        faulthandler.dump_traceback_later(STORY_S_MAX, exit=True)
        started = time.monotonic()
        fault = fault_of(story, Play(url, program, player), way)
        number = passed + failed + 1
        if fault:
            failed += 1
            print(f"not ok {number} - {name}")
            print("\n".join(f"  # {line}" for line in fault.splitlines()))
        else:
            passed += 1
            print(f"ok {number} - {name} # {time.monotonic() - started:.2f} s")
        sys.stdout.flush()
    print(f"1..{passed + failed}\n# tests {passed + failed}\n# pass {passed}\n# fail {failed}")
    return failed == 0


def fault_of(story, play, way):
    """What was wrong, if anything was."""
    try:
        try:
            story(play, way)
        finally:
            play.end()
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    # A client that comes back logs each attempt that failed; here they are meant to.
    logging.disable(logging.CRITICAL)
    good = run(os.environ["DUPLEX_URL"].rstrip("/"), os.environ["DUPLEX_PROGRAM"], os.environ.get("ONLY", ""))
    sys.exit(not good)
