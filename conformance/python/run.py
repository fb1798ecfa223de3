"""DUPLEX_URL=http://127.0.0.1:8000 DUPLEX_PROGRAM=target/debug/duplex [ONLY=words] python run.py: plays all stories, prints TAP."""

import faulthandler
import logging
import os
import sys
import time
import traceback
from unittest import SkipTest

from player import Asyncio, Blocking
from stories import Play, all_stories

WAYS = {"polling": ["polling"], "websocket": ["websocket"], "polling, then websocket": None}
# Every wait in a story has a deadline; whoever is over this one hangs.
STORY_S_MAX = 90


def plays():
    """Each story with each client over each way."""
    for player in (Blocking, Asyncio):
        for way, transports in WAYS.items():
            for story in all_stories():
                yield f"{player.name}, {way}: {story.__name__.replace('_', ' ')}", story, player, way, transports


def run(url, program, only):
    sums = dict.fromkeys(["pass", "fail", "skipped"], 0)
    for name, story, player, way, transports in plays():
        if only not in name:
            continue
        faulthandler.dump_traceback_later(STORY_S_MAX, exit=True)
        started = time.monotonic()
        verdict, words = judge(story, Play(url, program, player, transports), way)
        sums[verdict] += 1
        number = sum(sums.values())
        took = f" # {time.monotonic() - started:.2f} s" if verdict == "pass" else ""
        reason = f" # SKIP {words}" if verdict == "skipped" else ""
        print(f"{'not ok' if verdict == 'fail' else 'ok'} {number} - {name}{took}{reason}")
        if verdict == "fail":
            print("\n".join(f"  # {line}" for line in words.splitlines()))
        sys.stdout.flush()
    print(f"1..{sum(sums.values())}")
    for verdict, count in sums.items():
        print(f"# {verdict} {count}")
    return sums["fail"] == 0


def judge(story, play, way):
    """The verdict, and what is to be said of it."""
    try:
        try:
            story(play, way)
        finally:
            play.end()
    except SkipTest as reason:
        return "skipped", str(reason)
    except Exception:
        return "fail", traceback.format_exc()
    return "pass", ""


if __name__ == "__main__":
    # A client that comes back logs each attempt that failed; here they are meant to.
    logging.disable(logging.CRITICAL)
    good = run(os.environ["DUPLEX_URL"].rstrip("/"), os.environ["DUPLEX_PROGRAM"], os.environ.get("ONLY", ""))
    sys.exit(not good)
