//! What one peer may cost (RFC 6455, 10.4).

mod support;

use duplex_websocket::{Compression, Decoder, Event, Inflater, Limits, Role, Violation};
use support::{BINARY, CLOSE, CONT, FIN, KEY, PING, PONG, SERVER, TEXT, brief, client, head, within};

fn small() -> support::Ear {
    SERVER.limits(Limits { message_bytes: 10, fragments: 4, control_frames: 3 })
}

#[test]
fn an_idle_decoder_is_48_bytes() {
    assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
    assert!(size_of::<Option<Decoder>>() <= 48, "{}", size_of::<Option<Decoder>>());
}

#[test]
fn a_message_may_have_the_limit_and_not_a_byte_more() {
    for (frames, expected) in [
        (vec![client(FIN | TEXT, &[b'a'; 10])], "text \"aaaaaaaaaa\""),
        (vec![client(FIN | TEXT, &[b'a'; 11])], "! MessageTooLarge { limit: 10 } 1009"),
        (vec![client(BINARY, &[b'a'; 6]), client(FIN | CONT, &[b'a'; 4])], "binary \"aaaaaaaaaa\""),
        (
            vec![client(BINARY, &[b'a'; 6]), client(FIN | CONT, &[b'a'; 5])],
            "! MessageTooLarge { limit: 10 } 1009",
        ),
        // The next message starts counting from nothing, and pings do not count.
        (
            vec![
                client(TEXT, &[b'a'; 9]),
                client(FIN | PING, b"pppppppppp"),
                client(FIN | CONT, b"a"),
                client(FIN | TEXT, &[b'b'; 10]),
            ],
            "ping \"pppppppppp\"; text \"aaaaaaaaaa\"; text \"bbbbbbbbbb\"",
        ),
    ] {
        assert_eq!(small().hears(&frames.concat()), expected);
    }
}

#[test]
fn a_size_is_judged_by_the_head_alone() {
    for length in [65_537, 1 << 30, 1 << 62] {
        let head = [head(FIN | BINARY, 0x80, length), KEY.to_vec()].concat();
        assert_eq!(SERVER.hears(&head), "! MessageTooLarge { limit: 65536 } 1009");
        assert_eq!(SERVER.deflate().hears(&head), "! MessageTooLarge { limit: 65536 } 1009");
    }
}

#[test]
fn memory_follows_what_arrived_not_what_was_announced() {
    let limits = Limits { message_bytes: 1 << 40, ..Limits::default() };
    let mut inflater = Inflater::new();
    let mut decoder = Decoder::new(Role::Server, Compression::Off);
    let mut wire = [&head(FIN | BINARY, 0x80, 1 << 40)[..], &KEY, b"abc"].concat();
    assert!(matches!(decoder.decode(&mut wire, &limits, &mut inflater), Ok((17, None))));
    assert_eq!(decoder.held_bytes(), 3);
}

#[test]
fn fragments_are_counted_even_when_empty() {
    let parts = |count: usize| [client(TEXT, b""), client(CONT, b"").repeat(count)].concat();
    let last = client(FIN | CONT, b"x");
    assert_eq!(small().hears(&[parts(2), last.clone()].concat()), "text \"x\"");
    assert_eq!(small().hears(&[parts(3), last.clone()].concat()), "! TooManyFragments { limit: 4 } 1008");
    let twice = [parts(2), last.clone(), parts(2), last].concat();
    assert_eq!(small().hears(&twice), "text \"x\"; text \"x\"");
    let endless = [client(BINARY, b"a"), client(CONT, b"a").repeat(131_000)].concat();
    assert_eq!(SERVER.hears_cut(&endless, &[]), "! TooManyFragments { limit: 1024 } 1008");
}

#[test]
fn pings_and_pongs_have_a_budget_that_closes_do_not_touch() {
    let over = "! TooManyControlFrames { limit: 3 } 1008";
    let ping = client(FIN | PING, b"");
    let pong = client(FIN | PONG, b"");
    let three = [ping.clone(), pong.clone(), ping.clone()].concat();
    let heard = "ping \"\"; pong \"\"; ping \"\"";
    assert_eq!(small().hears(&three), heard);
    assert_eq!(small().hears(&[&three[..], &pong].concat()), format!("{heard}; {over}"));
    assert_eq!(small().hears(&[&three[..], &client(FIN | CLOSE, b"")].concat()), format!("{heard}; close"));
}

#[test]
fn a_replenished_budget_is_whole_again() {
    let limits = Limits { control_frames: 2, ..Limits::default() };
    let mut inflater = Inflater::new();
    let mut decoder = Decoder::new(Role::Server, Compression::Off);
    for _ in 0..5 {
        for _ in 0..2 {
            let mut ping = client(FIN | PING, b"");
            assert_eq!(decoder.decode(&mut ping, &limits, &mut inflater), Ok((6, Some(Event::Ping(b"")))));
        }
        decoder.replenish();
    }
    let refused = Violation::TooManyControlFrames { limit: 2 };
    for expected in [None, None, Some(refused)] {
        let mut ping = client(FIN | PING, b"");
        assert_eq!(decoder.decode(&mut ping, &limits, &mut inflater).err(), expected);
    }
}

#[test]
fn a_large_message_byte_by_byte_costs_linear_time() {
    let ear = SERVER.limits(Limits { message_bytes: 1 << 20, ..Limits::default() });
    for opcode in [TEXT, BINARY] {
        let payload = vec![b'x'; 1 << 20];
        let wire = client(FIN | opcode, &payload);
        let all: Vec<usize> = (0..wire.len()).collect();
        let kind = if opcode == TEXT { "text" } else { "binary" };
        assert_eq!(within(20, || ear.hears_cut(&wire, &all)), format!("{kind} {}", brief(&payload)));
    }
}

#[test]
fn empty_fragments_of_text_do_not_recheck_what_was_checked() {
    let ear = SERVER.limits(Limits { message_bytes: 1 << 20, fragments: 1 << 20, control_frames: 1 });
    let payload = vec![b'x'; (1 << 20) - 1];
    let wire = [client(TEXT, &payload), client(CONT, b"").repeat(200_000), client(FIN | CONT, b"y")].concat();
    assert!(within(20, || ear.hears_cut(&wire, &[])).starts_with("text [1048576 "));
}
