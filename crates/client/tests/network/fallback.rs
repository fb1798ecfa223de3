//! What a client does where the network is not as it should be, over real sockets.

use crate::support::{
    Asked, CONNECTED, OPENED, Server, attached, client, heard, publication, subscribed, told, within,
};
use duplex_client::{CommandError, Message, SubscribeOptions, Transport};

const RESPONSES: [Transport; 3] = [Transport::Sse, Transport::Stream, Transport::Poll];

#[tokio::test]
async fn behind_a_proxy_that_refuses_sockets_and_buffers_responses_polls_work() {
    let server = Server::start().await;
    let client = client(&server, &Transport::ALL);
    let mut events = client.events();
    let socket = server.expect("GET /ws").await;
    assert!(socket.head.contains("upgrade: websocket") && socket.head.contains("duplex.v1.json"));
    drop(socket.answer("400 Bad Request", "no sockets here").await);
    let opening = server.expect("POST /session").await;
    assert_eq!(opening.body, r#"{"id":1,"connect":{}}"#);
    let kept = opening.answer("200 OK", OPENED).await;
    // The buffering proxy: responses begin for the server, and not for the client. The first goes on the kept connection.
    let _first = within(Asked::read(kept)).await.expect("a request for events");
    let _second = server.expect("GET /session/s/stream?after=0").await;
    let poll = server.expect("GET /session/s/poll?after=0").await;
    let answer = format!("{}\n{CONNECTED}\n", attached(0, 1));
    let kept = poll.answer("200 OK", &answer).await;
    assert_eq!(told(&mut events).await, "connected poll");
    let next = within(Asked::read(kept)).await.expect("the next poll uses the same connection");
    assert_eq!(next.line, "GET /session/s/poll?after=1");
}

#[tokio::test]
async fn a_response_that_is_cut_goes_on_from_its_last_whole_frame() {
    let server = Server::start().await;
    let client = client(&server, &RESPONSES);
    let mut news = client.subscribe("news", SubscribeOptions::default()).await.unwrap();
    let opening = server.expect("POST /session").await;
    let kept = opening.answer("200 OK", OPENED).await;
    let mut first = within(Asked::read(kept)).await.expect("a request for events");
    first.stay("text/event-stream").await;
    let (whole, cut) = (publication(6), publication(7));
    for frame in [&attached(0, 1), CONNECTED, &subscribed(2, 5, ""), &whole] {
        first.event(frame).await;
    }
    first.chunk(&format!("data: {}", &cut[..40])).await;
    assert_eq!(heard(&mut news).await, "at e:5 None");
    assert_eq!(heard(&mut news).await, "6");
    drop(first);

    let mut again = next_get(&server).await;
    assert!(again.line.ends_with("/sse?after=3"), "{}", again.line);
    again.stay("text/event-stream").await;
    for frame in [&attached(3, 2), &cut, &publication(8)] {
        again.event(frame).await;
    }
    assert_eq!([heard(&mut news).await, heard(&mut news).await], ["7", "8"]);
}

/// The next request for frames; messages that come meanwhile are taken.
async fn next_get(server: &Server) -> Asked {
    let mut asked = server.next().await;
    while asked.line.starts_with("POST") {
        drop(asked.answer("204 No Content", "").await);
        asked = server.next().await;
    }
    asked
}

#[tokio::test]
async fn a_message_whose_answer_is_lost_is_sent_again_under_its_number() {
    let server = Server::start().await;
    let client = client(&server, &[Transport::Stream]);
    let mut events = client.events();
    let opening = server.expect("POST /session").await;
    let kept = opening.answer("200 OK", OPENED).await;
    let mut stream = within(Asked::read(kept)).await.expect("a request for frames");
    stream.stay("application/x-ndjson").await;
    stream.chunk(&format!("{}\n\n{CONNECTED}\n", attached(0, 1))).await;
    assert_eq!(told(&mut events).await, "connected stream");

    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish("news", Message::data("hello")).await }
    });
    let first = server.expect("POST /session/s?after=1&n=2").await;
    let said = first.body.clone();
    assert!(said.contains(r#""data":"hello""#), "{said}");
    drop(first);
    let unavailable = server.expect("POST /session/s?after=1&n=2").await;
    drop(unavailable.answer("503 Busy", "").await);
    let again = server.expect("POST /session/s?after=1&n=2").await;
    assert_eq!(again.body, said);
    let kept = again.answer("204 No Content", "").await;
    stream.chunk("{\"id\":2,\"published\":{\"channel\":\"news\",\"epoch\":\"e\",\"offset\":9}}\n").await;
    let published = within(publishing).await.unwrap().unwrap();
    assert_eq!(published.position.to_string(), "e:9");

    // The next message has the next number, and goes over the connection that was kept.
    let ping = tokio::spawn(async move { client.ping().await });
    let next = within(Asked::read(kept)).await.expect("the connection is kept");
    assert_eq!(next.line, "POST /session/s?after=2&n=3");
    drop(next.answer("204 No Content", "").await);
    stream.chunk("{\"id\":3,\"pong\":{}}\n").await;
    within(ping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_is_gone_is_followed_by_another_that_recovers() {
    for status in ["404 Not Found", "410 Gone"] {
        let server = Server::start().await;
        let client = client(&server, &[Transport::Stream]);
        let mut events = client.events();
        let mut news = client.subscribe("news", SubscribeOptions::default()).await.unwrap();
        let opening = server.expect("POST /session").await;
        let kept = opening.answer("200 OK", OPENED).await;
        let mut stream = within(Asked::read(kept)).await.expect("a request for frames");
        stream.stay("application/x-ndjson").await;
        let frames = [attached(0, 1), CONNECTED.into(), subscribed(2, 5, ""), publication(6)];
        stream.chunk(&(frames.join("\n") + "\n")).await;
        assert_eq!([heard(&mut news).await, heard(&mut news).await], ["at e:5 None", "6"]);
        drop(stream);
        let again = next_get(&server).await;
        assert_eq!(again.line, "GET /session/s/stream?after=3");
        drop(again.answer(status, "there is no such session").await);
        let told = [told(&mut events).await, told(&mut events).await];
        assert_eq!(told, ["connected stream".to_owned(), format!("disconnected {}", &status[..3])]);

        let another = server.expect("POST /session?returning=true").await;
        let since = r#""since":{"epoch":"e","offset":6}"#;
        assert!(another.body.contains(since), "{}", another.body);
    }
}

#[tokio::test]
async fn whoever_is_not_wanted_does_not_come_back_and_says_why() {
    let server = Server::start().await;
    let client = client(&server, &[Transport::Sse]);
    let mut events = client.events();
    let opening = server.expect("POST /session").await;
    drop(opening.answer("403 Forbidden", "revoked\n").await);
    assert_eq!(told(&mut events).await, "closed 403");
    let refused = client.ping().await.unwrap_err();
    let CommandError::Closed(end) = refused else { panic!("{refused}") };
    assert_eq!((end.code, end.reason.as_str()), (403, "revoked"));
}

#[tokio::test]
async fn something_else_than_duplex_is_not_taken_for_it() {
    let server = Server::start().await;
    let client = client(&server, &[Transport::Sse, Transport::Stream]);
    let mut events = client.events();
    let opening = server.expect("POST /session").await;
    drop(opening.answer("200 OK", "<html>Sign in to the network</html>").await);
    assert_eq!(told(&mut events).await, "disconnected 1006");
    let opening = server.expect("POST /session").await;
    let kept = opening.answer("200 OK", OPENED).await;
    let response = within(Asked::read(kept)).await.expect("a request for events");
    drop(response.answer("200 OK", "<html>\n\n").await);
    assert!(server.next().await.line.starts_with("GET /session/s/stream"));
}
