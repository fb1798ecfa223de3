//! Time that passes without waiting: what a client does about silence, and about those who do not read.

use std::time::Duration;

use crate::support::{Asked, CONNECTED, OPENED, Server, attached, client, told, within};
use duplex_client::{Client, ConnectError, Options, Times, Transport};

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up() {
    let server = Server::start().await;
    let times = Times { answer: Duration::from_millis(300), ..Times::default() };
    let transports = vec![Transport::Stream, Transport::Poll];
    let options = Options { transports, times, ..Options::default() };
    let client = Client::new(&server.url(), options).unwrap();
    let mut events = client.events();
    let opening = server.expect("POST /session").await;
    let kept = opening.answer("200 OK", OPENED).await;
    let mut stream = within(Asked::read(kept)).await.expect("a request for frames");
    stream.stay("application/x-ndjson").await;
    let connected = CONNECTED.replace("25000", "100");
    stream.chunk(&format!("{}\n{connected}\n", attached(0, 1))).await;
    assert_eq!(told(&mut events).await, "connected stream");
    // Two polls: the one that must give way shows that both got through.
    let polls = [server.next().await, server.next().await];
    for poll in &polls {
        assert_eq!(poll.line, "GET /session/s/poll?after=1");
    }
    let [first, second] = polls;
    drop(first.answer("409 Conflict", "another request carries the session now").await);
    assert_eq!(told(&mut events).await, "moved poll");
    drop(second);
}

#[tokio::test]
async fn connecting_is_given_up_in_time_and_says_what_was_wrong() {
    let server = Server::start().await;
    let url = server.url();
    drop(server);
    let times = Times { connect: Duration::from_millis(200), ..Times::default() };
    let failed = Client::connect(&url, Options { times, ..Options::default() }).await.unwrap_err();
    let ConnectError::Timeout { last, .. } = failed else { panic!("{failed}") };
    assert!(last.reason.contains("refused"), "{last}");
}

#[tokio::test]
async fn a_client_that_closes_says_so_and_one_that_is_dropped_too() {
    for closes in ["by itself", "by dropping its handles"] {
        let server = Server::start().await;
        let client = client(&server, &[Transport::Stream]);
        let mut events = client.events();
        let opening = server.expect("POST /session").await;
        let kept = opening.answer("200 OK", OPENED).await;
        let mut stream = within(Asked::read(kept)).await.expect("a request for frames");
        stream.stay("application/x-ndjson").await;
        stream.chunk(&format!("{}\n{CONNECTED}\n", attached(0, 1))).await;
        assert_eq!(told(&mut events).await, "connected stream", "{closes}");
        let closing = tokio::spawn(async move {
            if closes == "by itself" {
                client.close().await;
            }
        });
        let end = server.expect("POST /session/s/end").await;
        drop(end.answer("204 No Content", "").await);
        within(closing).await.unwrap();
        assert_eq!(told(&mut events).await, "closed 1000", "{closes}");
    }
}
