use std::time::Duration;

use super::*;
use crate::line::PostAnswer;

/// Plays a script, and says what goes up after each line of it.
///
/// `send N` a message with that first id, `socket RECEIVED`, `response RECEIVED`, `poll`, `cut`, `answered ID`, `owe BYTES`,
/// `204`, `503`, `lost` (a POST without an answer), `wait SECONDS`.
fn play(script: &str) -> String {
    let times = Times::default();
    let mut now = Instant::now();
    let mut up = Upward::new();
    let mut shown = Vec::new();
    for line in script.split(';').map(str::trim) {
        let (verb, number) = line.split_once(' ').unwrap_or((line, "0"));
        let number: u64 = number.parse().unwrap();
        let answer = |status| Ok(PostAnswer { status, after: None, body: Bytes::from("text") });
        let mut conclude = |posted| up.concluded(posted, &times, now, u32::MAX);
        match verb {
            "204" => conclude(answer(204)).unwrap(),
            "503" => conclude(answer(503)).unwrap(),
            "lost" => conclude(Err("cut".to_owned())).unwrap(),
            "409" => shown.push(format!("{:?}", conclude(answer(409)).unwrap_err().code)),
            "send" => up.send(Outgoing { first_id: number, bytes: Bytes::from(number.to_string()) }),
            "socket" => up.attach(Some(9), number),
            "response" => up.attach(None, number),
            "poll" => up.reattach(),
            "cut" => up.detach(),
            "answered" => up.answered(number),
            "owe" => up.owe(number as usize, &times, now),
            "wait" => now += Duration::from_secs(number),
            other => panic!("{other}"),
        }
        while let Some(up) = up.next(now) {
            shown.push(match up {
                Up::Write { message, .. } => format!("write {}", std::str::from_utf8(&message).unwrap()),
                Up::Post { number: Some(number), message } => {
                    format!("post {number}={}", std::str::from_utf8(&message).unwrap())
                }
                Up::Post { number: None, .. } => "post".to_owned(),
            });
        }
    }
    let writable = if up.writable() { "" } else { " full" };
    shown.join(" ") + writable
}

#[test]
fn messages_arrive_once_and_in_order_however_they_go_up() {
    for (script, expected) in [
        // One POST is under way at a time.
        ("response 1; send 5; send 6", "post 2=5 full"),
        ("response 1; send 5; send 6; 204; 204", "post 2=5 post 3=6"),
        // The same number after a failure, until there is an answer.
        ("response 1; send 5; lost; wait 1; 503; wait 1; 204", "post 2=5 post 2=5 post 2=5"),
        ("response 1; send 5; lost; wait 0", "post 2=5 full"),
        ("response 1; send 5; 409", "post 2=5 409 full"),
        // An answer of the server's says that the message has arrived.
        ("response 1; send 5; lost; answered 5; wait 1", "post 2=5"),
        // A socket takes all there are; what it took is repeated only if it did not arrive.
        ("socket 1; send 5; send 6", "write 5 write 6"),
        ("socket 1; send 5; send 6; answered 5; cut; socket 2", "write 5 write 6 write 6"),
        ("socket 1; send 5; send 6; cut; socket 3", "write 5 write 6"),
        // After a socket broke nothing goes up until it is known what has arrived.
        ("socket 1; send 5; cut; send 6", "write 5 full"),
        ("socket 1; send 5; cut; response 1", "write 5 post 2=5 full"),
        ("socket 1; send 5; cut; response 2; send 6", "write 5 post 3=6 full"),
        ("socket 1; send 5; cut; poll", "write 5 post 2=5 full"),
        // A POST that was begun goes on over a socket, which takes what comes behind it.
        ("response 1; send 5; socket 1; send 6", "post 2=5"),
        ("response 1; send 5; socket 1; send 6; 204", "post 2=5 write 6"),
        ("response 1; send 5; socket 2; send 6", "post 2=5 write 6"),
    ] {
        assert_eq!(play(script), expected, "{script}");
    }
}

#[test]
fn frames_are_acknowledged_in_time() {
    for (script, expected) in [
        ("response 1; owe 100; wait 4", ""),
        ("response 1; owe 100; wait 5", "post"),
        ("response 1; owe 16000; owe 384", ""),
        ("response 1; owe 16000; owe 385", "post"),
        ("response 1; owe 16000; owe 385; owe 16000; owe 1000", "post"),
        ("response 1; owe 16000; owe 385; owe 16000; owe 1000; 204", "post post"),
        // Every message says it anyway.
        ("response 1; owe 16000; send 5; 204; owe 385; wait 4", "post 2=5"),
        ("socket 1; owe 99999", ""),
    ] {
        assert_eq!(play(script), expected, "{script}");
    }
}
