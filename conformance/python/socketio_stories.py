"""What both clients of python-socketio must live through, over each way to the server. A name is a promise."""

import socketio

from play import BYTES, TEXTS, check, fresh
from stage import CONFIG, api, eventually, token


def goes_the_way_it_was_told_to(play, way):
    ada = play.enter()
    wanted = "polling" if way == "polling" else "websocket"
    check.assertEqual(ada.transport, wanted)
    check.assertEqual(set(ada.call("$subscribe", fresh())), {"channel", "epoch", "offset"})
    check.assertEqual(ada.transport, wanted)


def gets_what_another_client_and_the_http_api_publish_once_and_in_order(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        subscribed = player.call("$subscribe", channel)
        check.assertEqual((subscribed["channel"], subscribed["offset"]), (channel, 0))
    for number in range(20):
        if number % 2:
            play.publishes(channel, number)
        else:
            published = bob.call("$publish", channel, "message", number)
            check.assertEqual(published, {"channel": channel, "epoch": subscribed["epoch"], "offset": number + 1})
    for player in (ada, bob):
        check.assertEqual([player.next() for _ in range(20)], [("message", number) for number in range(20)])


def gets_an_event_by_its_name_with_all_its_arguments(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    ada.call("$subscribe", channel)
    bob.call("$publish", channel, "moved", 3, {"to": "b4"}, None, "now")
    bob.call("$publish", channel, "nothing")
    api(play.url, "publish", {"channel": channel, "event": "moved", "args": [4, ["c5"]]})
    play.publishes(channel, {"by": "data"}, event="moved")
    wanted = [("moved", 3, {"to": "b4"}, None, "now"), ("nothing",), ("moved", 4, ["c5"]), ("moved", {"by": "data"})]
    check.assertEqual([ada.next() for _ in wanted], wanted)


def gets_any_text_as_it_was_sent(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    ada.call("$subscribe", channel)
    for text in TEXTS:
        bob.call("$publish", channel, "text", text)
        check.assertEqual(ada.next(), ("text", text))
        play.publishes(channel, text, event="text")
        check.assertEqual(ada.next(), ("text", text))


def gets_bytes_as_bytes_wherever_they_stand(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        player.call("$subscribe", channel)
    for number, raw in enumerate(BYTES):
        args = (raw, {"name": "a file", "parts": [raw, "and", raw[:2]]}, number)
        published = bob.call("$publish", channel, "file", *args)
        check.assertEqual(published["offset"], number + 1)
        for player in (ada, bob):
            check.assertEqual(player.next(), ("file", *args))


def sends_bytes_that_a_client_of_json_gets_as_base64(play, way):
    channel = fresh()
    ada = play.enter()
    ada.call("$publish", channel, "file", {"raw": b"\x00\xff\x1e4"})
    [publication] = api(play.url, "history", {"channel": channel, "limit": 1})["publications"]
    check.assertEqual((publication["event"], publication["data"]), ("file", {"raw": "AP8eNA=="}))


def does_not_get_what_it_broadcasts_itself(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        player.call("$subscribe", channel)
    check.assertEqual(ada.call("$broadcast", channel, "say", "to the others", b"\x00")["offset"], 1)
    ada.call("$publish", channel, "say", "to all")
    check.assertEqual(ada.next(), ("say", "to all"))
    check.assertEqual([bob.next(), bob.next()], [("say", "to the others", b"\x00"), ("say", "to all")])


def answers_what_the_backend_asks(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter(namespaces=("/", "/chat"))
    for player, answer in ((ada, ("by ada", {"raw": b"\x00\xff"})), (bob, "by bob")):
        player.answers["ready?"] = answer
        player.call("$subscribe", channel)
    told = api(play.url, "request", {"channel": channel, "event": "ready?", "args": [1, "two"], "timeout_ms": 9000})
    check.assertEqual((told["expected"], told["received"]), (2, 2))
    check.assertEqual(sorted((reply["args"] for reply in told["replies"]), key=str), [["by ada", {"raw": "AP8="}], ["by bob"]])
    for player in (ada, bob):
        check.assertEqual(player.next(), ("ready?", 1, "two"))


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


def is_told_by_the_acknowledgement_what_was_wrong(play, way):
    ada = play.enter()
    channel = fresh()
    for event, args, code in [
        ("deal", ("cards",), 108),
        ("$publish", (channel, "connect", 1), 107),
        ("$subscribe", ("",), 107),
        ("$subscribe", (), 107),
    ]:
        problem = ada.call(event, *args)
        check.assertEqual((list(problem), problem["error"]["code"]), (["error"], code), problem)
        check.assertTrue(problem["error"]["message"], problem)
    check.assertEqual(ada.call("$subscribe", channel)["channel"], channel)


def is_told_by_an_event_what_was_wrong_when_it_wants_no_acknowledgement(play, way):
    ada = play.enter()
    ada.emit("deal", "cards")
    [event, problem] = ada.next()
    check.assertEqual((event, problem["code"], problem["event"]), ("$error", 108, "deal"))
    ada.emit("$subscribe", "")
    [event, problem] = ada.next()
    check.assertEqual((event, problem["code"], problem["event"]), ("$error", 107, "$subscribe"))


def is_subscribed_to_the_channels_that_its_address_names(play, way):
    channels = [fresh(), fresh()]
    ada = play.enter(query="?channels=" + ",".join(channels))
    # Subscribed at connecting, but not necessarily when that is told.
    for channel in channels:
        eventually(lambda channel=channel: check.assertEqual(ada.call("$presence", channel, {"count": True})["clients"], 1))
        play.publishes(channel, channel)
    check.assertEqual([ada.next(), ada.next()], [("message", channel) for channel in channels])


def is_in_a_channel_namespace_by_a_namespace_of_its_own(play, way):
    room = fresh()
    ada = play.enter(namespaces=("/", "/chat"))
    bob = play.enter(namespaces=("/chat",))
    check.assertEqual(ada.call("$subscribe", f"chat:{room}")["channel"], f"chat:{room}")
    for player in (ada, bob):
        player.call("$subscribe", room, namespace="/chat")
    bob.call("$publish", room, "say", "by bob", b"\x01", namespace="/chat")
    ada.call("$publish", f"chat:{room}", "say", "by ada")
    play.publishes(f"chat:{room}", "by the backend", event="say")
    play.publishes(room, "of the default namespace", event="say")
    play.publishes(f"chat:{room}", "last", event="say")
    wanted = [("say", "by bob", b"\x01"), ("say", "by ada"), ("say", "by the backend"), ("say", "last")]
    check.assertEqual([ada.next() for _ in wanted], wanted)
    for player in (ada, bob):
        check.assertEqual([player.next("/chat") for _ in wanted], wanted)


def comes_back_when_its_server_was_killed_and_is_there_again(play, way):
    server = play.server()
    channel, other = fresh(), fresh()
    ada = play.enter(query=f"?channels={channel}", server=server)
    ada.call("$subscribe", other)
    server.kill()
    check.assertNotEqual(ada.farewell(), "server disconnect")
    server.start()
    ada.is_connected()
    # The address subscribes again by itself, a `$subscribe` does not.
    eventually(lambda: check.assertEqual(ada.call("$presence", channel, {"count": True})["clients"], 1))
    check.assertEqual(ada.call("$presence", other, {"count": True})["clients"], 0)
    play.publishes(channel, "again", server=server)
    check.assertEqual(ada.next(), ("message", "again"))
    check.assertEqual(ada.transport, "polling" if way == "polling" else "websocket")


def comes_back_when_its_server_drains_and_is_there_again(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, auth={"token": token("ada")})
    server.drain()
    check.assertNotEqual(ada.farewell(), "server disconnect")
    server.start()
    ada.is_connected()
    check.assertEqual(ada.call("$subscribe", "room")["channel"], "room")


def stays_away_when_its_token_was_revoked(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, auth={"token": token("ada")})
    bob = play.enter(server=server, auth={"token": token("bob")})
    api(server.url, "revoke", {"user": "ada"})
    check.assertEqual(ada.farewell(), "server disconnect")
    ada.gives_up()
    check.assertEqual(bob.call("$subscribe", "room")["channel"], "room")


def is_known_by_the_token_that_it_shows_or_that_its_address_has(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, auth={"token": token("ada")})
    bob = play.enter(server=server, query=f"?token={token('bob')}")
    for player in (ada, bob):
        check.assertEqual(player.call("$subscribe", "room")["channel"], "room")
    members = ada.call("$presence", "room")["members"]
    check.assertEqual(sorted(member["user"] for member in members), ["ada", "bob"])
    bob.leave()
    seen = [ada.next() for _ in range(3)]
    check.assertEqual([(event, member["user"]) for event, member in seen], [("$joined", "ada"), ("$joined", "bob"), ("$left", "bob")])


def is_subscribed_to_the_channels_that_its_token_names(play, way):
    server = play.server(config=CONFIG)
    ada = play.enter(server=server, auth={"token": token("ada", channels=["news"])})
    [event, member] = ada.next()
    check.assertEqual((event, member["user"]), ("$joined", "ada"))
    play.publishes("news", "to ada", server=server)
    check.assertEqual(ada.next(), ("message", "to ada"))


def hears_why_its_token_is_not_good(play, way):
    server = play.server(config=CONFIG)
    for bad, sentence in [
        ({"token": "nonsense"}, "invalid token: "),
        ({"token": token("ada")[:-4] + "AAAA"}, "invalid token: "),
        ({"token": token("ada", seconds=-60)}, "token expired"),
        (None, "invalid token: "),
    ]:
        ada = play.player()
        with check.assertRaises(socketio.exceptions.ConnectionError) as raised:
            ada.connect(server.url, auth=bad)
        check.assertEqual(str(raised.exception), "One or more namespaces failed to connect: /")
        [refusal] = ada.refusal()
        check.assertTrue(refusal["message"].startswith(sentence), refusal)
        check.assertEqual(set(refusal["data"]), {"code"}, refusal)


def is_refused_in_a_namespace_that_is_not_there(play, way):
    server = play.server(config=CONFIG)
    ada = play.player()
    with check.assertRaises(socketio.exceptions.ConnectionError) as raised:
        ada.connect(server.url, auth={"token": token("ada")}, namespaces=("/", "/nowhere"))
    check.assertEqual(str(raised.exception), "One or more namespaces failed to connect: /nowhere")
    [refusal] = ada.refusal("/nowhere")
    check.assertEqual(refusal["message"], "Invalid namespace")


def is_gone_at_the_server_when_it_leaves(play, way):
    channel = fresh()
    ada, bob = play.enter(), play.enter()
    for player in (ada, bob):
        player.call("$subscribe", channel)
    check.assertEqual(bob.call("$presence", channel, {"count": True})["clients"], 2)
    ada.leave()
    eventually(lambda: check.assertEqual(bob.call("$presence", channel, {"count": True})["clients"], 1))
