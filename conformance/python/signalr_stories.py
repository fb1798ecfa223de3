"""What both clients of SignalR must live through, over each way to the server. A name is a promise."""

import base64
import re
from time import sleep as wait

from play import BYTES, TEXTS, check, fresh
from signalr_player import Refused, needs
from stage import CONFIG, OPTIONS, api, eventually, token


def is_subscribed_and_told_where_its_channel_is(play, way):
    channel = fresh()
    subscribed = play.enter().call("$subscribe", channel)
    check.assertEqual(set(subscribed), {"channel", "epoch", "offset"})
    check.assertEqual((subscribed["channel"], subscribed["offset"]), (channel, 0))


def gets_what_another_client_and_the_http_api_publish_once_and_in_order(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    subscribed = ada.call("$subscribe", channel)
    heard = []
    for number in range(20):
        if number % 2:
            play.publishes(channel, number)
        else:
            published = bob.call("$publish", channel, "message", number)
            check.assertEqual(published, {"channel": channel, "epoch": subscribed["epoch"], "offset": number + 1})
        if "bursts" not in way.skills:
            heard.append(ada.next())
    heard += [ada.next() for _ in range(20 - len(heard))]
    check.assertEqual(heard, [("message", number) for number in range(20)])


def gets_an_event_by_its_name_with_all_its_arguments(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    ada.call("$subscribe", channel)
    for args in (("moved", 3, {"to": "b4"}, None, "now"), ("nothing",)):
        bob.call("$publish", channel, *args)
        check.assertEqual(ada.next(), args)
    api(play.url, "publish", {"channel": channel, "event": "moved", "args": [4, ["c5"]]})
    check.assertEqual(ada.next(), ("moved", 4, ["c5"]))
    play.publishes(channel, {"by": "data"}, event="moved")
    check.assertEqual(ada.next(), ("moved", {"by": "data"}))


def gets_any_text_as_it_was_sent(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    ada.call("$subscribe", channel)
    for text in TEXTS:
        bob.call("$publish", channel, "text", text)
        check.assertEqual(ada.next(), ("text", text))
        play.publishes(channel, text, event="text")
        check.assertEqual(ada.next(), ("text", text))


@needs("bytes")
def gets_bytes_as_bytes_wherever_they_stand_and_clients_of_json_as_base64(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    ada.call("$subscribe", channel)
    for number, raw in enumerate(BYTES):
        args = (raw, {"name": "a file", "parts": [raw, "and", raw[:2]]}, number)
        check.assertEqual(bob.call("$publish", channel, "file", *args)["offset"], number + 1)
        check.assertEqual(ada.next(), ("file", *args))
    publications = api(play.url, "history", {"channel": channel, "limit": len(BYTES)})["publications"]
    check.assertCountEqual([each["args"][0] for each in publications], [base64.b64encode(raw).decode() for raw in BYTES])


def does_not_get_what_it_broadcasts_itself(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        player.call("$subscribe", channel)
    check.assertEqual(ada.call("$broadcast", channel, "say", "to the others")["offset"], 1)
    check.assertEqual(bob.next(), ("say", "to the others"))
    play.publishes(channel, "to all", event="say")
    for player in (ada, bob):
        check.assertEqual(player.next(), ("say", "to all"))


@needs("results")
def answers_what_the_backend_asks(play, way):
    channel = fresh()
    ada, bob, cid = play.enter(), play.enter(), play.enter()
    for player in (ada, bob, cid):
        player.call("$subscribe", channel)
    ada.answers["ready?"], bob.answers["ready?"] = "by ada", {"by": ["bob"]}
    told = api(play.url, "request", {"channel": channel, "event": "ready?", "args": [1, "two"], "timeout_ms": 9000})
    check.assertEqual((told["expected"], told["received"]), (3, 3))
    replies = [(reply.get("args"), reply.get("error")) for reply in told["replies"]]
    check.assertCountEqual(replies, [(["by ada"], None), ([{"by": ["bob"]}], None), (None, "Client didn't provide a result.")])
    for player in (ada, bob, cid):
        check.assertEqual(player.next(), ("ready?", 1, "two"))


def gets_a_channel_as_a_stream_until_it_unsubscribes(play, way):
    channel = fresh()
    ada = play.enter()
    stream = ada.stream("$subscribe", channel)
    eventually(lambda: check.assertEqual(ada.call("$presence", channel, {"count": True})["clients"], 1))
    items = []
    for number in range(3):
        play.publishes(channel, number, event="say")
        items.append(stream.next())
        if "subscribed" in items[-1]:
            items.append(stream.next())
    said = [item["publication"] for item in items if "publication" in item]
    check.assertEqual([(each["event"], each["data"], each["offset"]) for each in said], [("say", number, number + 1) for number in range(3)])
    check.assertEqual(ada.call("$unsubscribe", channel), {"channel": channel})
    check.assertIsNone(stream.completed())


def is_told_what_was_wrong_with_its_stream(play, way):
    ada = play.enter()
    error = ada.stream("$publish", fresh(), "say", 1).completed()
    check.assertEqual(error, "The client attempted to invoke the non-streaming '$publish' method with a streaming invocation.")
    error = ada.stream("count", 3).completed()
    check.assertRegex(error, r"^An unexpected error occurred invoking 'count' on the server\. HubException: .+ \(code 108\)$")


@needs("uploads", "sends")
def is_told_by_an_event_what_was_wrong_when_it_wants_no_answer(play, way):
    ada = play.enter()
    ada.send("deal", "cards")
    [event, problem] = ada.next()
    check.assertEqual((event, problem["code"], problem["event"]), ("$error", 108, "deal"))
    ada.send("$subscribe", "")
    [event, problem] = ada.next()
    check.assertEqual((event, problem["code"], problem["event"]), ("$error", 107, "$subscribe"))
    ada.upload("measure", [1, 2, 3])
    [event, problem] = ada.next()
    check.assertEqual((event, problem["code"], problem["event"]), ("$error", 108, "measure"))


def gets_the_missed_ones_when_it_subscribes_from_a_position(play, way):
    channel = fresh()
    position = play.publishes(channel, "seen")
    play.publishes(channel, "missed")
    ada = play.enter()
    since = {name: position[name] for name in ("epoch", "offset")}
    check.assertEqual(ada.call("$subscribe", channel, {"since": since})["recovered"], True)
    play.publishes(channel, "live")
    check.assertEqual([ada.next(), ada.next()], [("message", "missed"), ("message", "live")])


def gets_nothing_more_after_it_has_unsubscribed(play, way):
    [left, kept] = fresh("left"), fresh("kept")
    ada = play.enter()
    for channel in (left, kept):
        ada.call("$subscribe", channel)
    check.assertEqual(ada.call("$unsubscribe", left), {"channel": left})
    play.publishes(left, "to nobody")
    play.publishes(kept, "to ada")
    check.assertEqual(ada.next(), ("message", "to ada"))


def is_told_by_the_completion_what_was_wrong(play, way):
    ada = play.enter()
    channel = fresh()
    for target, args, code in [
        ("deal", ("cards",), 108),
        ("$publish", (channel, "connect", 1), 107),
        ("$subscribe", ("",), 107),
        ("$subscribe", (), 107),
    ]:
        with check.assertRaises(Refused) as raised:
            ada.call(target, *args)
        reason = rf"^An unexpected error occurred invoking '{re.escape(target)}' on the server\. HubException: .+ \(code {code}\)$"
        check.assertRegex(str(raised.exception), reason)
    with check.assertRaises(Refused) as raised:
        ada.call("$shuffle")
    check.assertEqual(str(raised.exception), "Unknown hub method '$shuffle'")
    check.assertEqual(ada.call("$subscribe", channel)["channel"], channel)


def is_subscribed_to_the_channels_that_its_address_names(play, way):
    channels = [fresh(), fresh()]
    ada = play.enter(query="?channels=" + ",".join(channels))
    # Subscribed at connecting, but not necessarily when that is told.
    for channel in channels:
        eventually(lambda channel=channel: check.assertEqual(ada.call("$presence", channel, {"count": True})["clients"], 1))
        play.publishes(channel, channel)
        check.assertEqual(ada.next(), ("message", channel))


def is_in_a_channel_namespace_by_a_hub_of_its_own(play, way):
    server = play.server(options=[*OPTIONS, "--signalr-hubs", "/signalr,/chathub=chat"])
    room = fresh()
    ada, bob = play.enter(server=server), play.enter(server=server, hub="/chathub")
    check.assertEqual(ada.call("$subscribe", f"chat:{room}")["channel"], f"chat:{room}")
    check.assertEqual(bob.call("$subscribe", room)["channel"], f"chat:{room}")
    play.publishes(room, "of the default namespace", event="say", server=server)
    play.publishes(f"chat:{room}", "by the backend", event="say", server=server)
    for player in (ada, bob):
        check.assertEqual(player.next(), ("say", "by the backend"))


@needs("reconnects")
def comes_back_when_its_connection_was_lost(play, way):
    channel, other = fresh(), fresh()
    ada = play.player()
    ada.reconnects = True
    ada.connect(play.url, query=f"?channels={channel}")
    ada.call("$subscribe", other)
    ada.is_cut_off()
    ada.comes_back()
    # The address subscribes again by itself, a `$subscribe` does not.
    eventually(lambda: check.assertEqual(ada.call("$presence", channel, {"count": True})["clients"], 1))
    eventually(lambda: check.assertEqual(ada.call("$presence", other, {"count": True})["clients"], 0))
    play.publishes(channel, "again")
    check.assertEqual(ada.next(), ("message", "again"))


def is_kept_while_it_has_nothing_to_say(play, way):
    server = play.server(options=["--client-heartbeat", "1s", "--client-pong-timeout", "1s"])
    channel = fresh()
    ada = play.enter(server=server)
    ada.call("$subscribe", channel)
    for number in range(5):
        wait(0.9)
        play.publishes(channel, number, server=server)
    check.assertEqual([ada.next() for _ in range(5)], [("message", number) for number in range(5)])


@needs("tokens")
def hears_that_its_server_drains(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, token=token("ada"))
    server.drain()
    server.start()
    # pysignalr comes back if it is soon enough with what it has negotiated.
    check.assertIn(ada.changes(), ("open", "ended"))
    ada = play.enter(server=server, token=token("ada"))
    check.assertEqual(ada.call("$subscribe", "room")["channel"], "room")


@needs("tokens")
def is_sent_away_when_its_token_was_revoked(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, token=token("ada"))
    bob = play.enter(server=server, token=token("bob"))
    api(server.url, "revoke", {"user": "ada"})
    why = ada.ended()
    if "reasons" in way.skills:
        check.assertIn("revoked", str(why))
    check.assertEqual(bob.call("$subscribe", "room")["channel"], "room")


@needs("tokens")
def is_known_by_its_token(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, token=token("ada"))
    ada.call("$subscribe", "room")
    check.assertEqual([(event, member["user"]) for event, member in [ada.next()]], [("$joined", "ada")])
    bob = play.enter(server=server, token=token("bob"))
    bob.call("$subscribe", "room")
    members = ada.call("$presence", "room")["members"]
    check.assertEqual(sorted(member["user"] for member in members), ["ada", "bob"])
    bob.leave()
    seen = [ada.next() for _ in range(2)]
    check.assertEqual([(event, member["user"]) for event, member in seen], [("$joined", "bob"), ("$left", "bob")])


@needs("tokens")
def is_subscribed_to_the_channels_that_its_token_names(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, token=token("ada", channels=["news"]))
    [event, member] = ada.next()
    check.assertEqual((event, member["user"]), ("$joined", "ada"))
    play.publishes("news", "to ada", server=server)
    check.assertEqual(ada.next(), ("message", "to ada"))


@needs("tokens", "refusals")
def is_not_let_in_with_a_token_that_is_not_good(play, way):
    server = play.server(config=CONFIG)
    for bad in ("nonsense", token("ada")[:-4] + "AAAA", token("ada", seconds=-60), None):
        with check.assertRaises(Exception) as raised:
            play.enter(server=server, token=bad)
        check.assertRegex(f"{type(raised.exception).__name__} {raised.exception}", "401|Authorization|UnAuthorized")


def is_gone_at_the_server_when_it_leaves(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        player.call("$subscribe", channel)
    check.assertEqual(bob.call("$presence", channel, {"count": True})["clients"], 2)
    ada.leave()
    eventually(lambda: check.assertEqual(bob.call("$presence", channel, {"count": True})["clients"], 1))
