//! 3.4, rows 39–46: fragments, text and control frames.

use crate::support::frames::{Incoming, client_frame, fragments};
use crate::support::options;
use crate::support::wire::Wire;
use crate::table::{Door, Expect, Row, check, frames, play, row};

fn echo(name: impl Into<String>, bytes: Vec<u8>, expect: impl Into<Expect>) -> Row {
    row(name, Door::Echo, bytes, expect)
}

#[test]
fn a_message_has_a_beginning_an_end_and_few_pieces() {
    let endless = |byte: &'static [u8]| {
        play(move |wire: &mut Wire| {
            wire.send(&client_frame(0x01, byte));
            let thousand = client_frame(0x00, byte).repeat(1_000);
            (0..131).for_each(|_| wire.send(&thousand));
        })
    };
    let start = client_frame(0x01, b"a");
    check(
        options(),
        [
            row("3.4/39 131,000 fragments of a byte", Door::Echo, endless(b"a"), 1008),
            row("3.4/39 131,000 empty fragments", Door::Echo, endless(b""), 1008),
            echo("3.4/40 a continuation of nothing", client_frame(0x80, b"a"), 1002),
            echo("3.4/40 one without an end", client_frame(0x00, b"a"), 1002),
            echo(
                "3.4/40 one after a whole message",
                [client_frame(0x81, b"a"), client_frame(0x80, b"b")].concat(),
                1002,
            ),
            echo("3.4/40 text inside a message", [start.clone(), client_frame(0x81, b"b")].concat(), 1002),
            echo("3.4/40 binary inside a message", [start.clone(), client_frame(0x02, b"b")].concat(), 1002),
            echo(
                "3.4/41 a ping inside a message",
                [start.clone(), client_frame(0x89, b"p"), client_frame(0x80, b"b")].concat(),
                frames(["pong p", "text ab"]),
            ),
            echo(
                "3.4/41 a pong inside a message",
                [start.clone(), client_frame(0x8a, b"p"), client_frame(0x80, b"b")].concat(),
                frames(["text ab"]),
            ),
            echo(
                "3.4/41 a close frame inside a message",
                [start, client_frame(0x88, b"\x03\xe8")].concat(),
                1000,
            ),
            echo(
                "3.4/40 empty frames around a message",
                fragments(1, &[b"", b"a", b"", b"b", b""]),
                frames(["text ab"]),
            ),
        ],
    );
}

#[test]
fn text_is_utf_8_and_judged_as_soon_as_it_is_not() {
    let whole = [
        ("overlong /", &b"\xc0\xaf"[..]),
        ("overlong NUL", b"\xe0\x80\x80"),
        ("overlong in four bytes", b"\xf0\x80\x80\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("a continuation byte", b"a\x80"),
        ("0xff", b"\xff"),
        ("cut at the end", b"\xf0\x9f\x98"),
    ];
    let mut rows: Vec<Row> =
        whole.map(|(name, bytes)| echo(format!("3.4/42 {name}"), client_frame(0x81, bytes), 1007)).into();
    // The rest of these messages never comes: the verdict does not wait for it.
    rows.extend(
        whole[..9]
            .iter()
            .map(|(name, bytes)| echo(format!("3.4/42 {name}, unfinished"), client_frame(0x01, bytes), 1007)),
    );
    let cut_frame = client_frame(0x81, b"\xff\xff\xff\xff\xff\xff")[..8].to_vec();
    rows.extend([
        echo("3.4/42 inside a frame", cut_frame, 1007),
        echo(
            "3.4/42 a character in four fragments",
            fragments(1, &[b"\xf0", b"\x9f", b"\x98", b"\x80"]),
            frames(["text 😀"]),
        ),
        echo("3.4/42 cut by FIN", fragments(1, &[b"\xf0\x9f", b"\x98"]), 1007),
        echo("3.4/42 broken in the second fragment", fragments(1, &[b"\xf0\x9f", b"a"]), 1007),
        echo(
            "3.4/42 the last character",
            client_frame(0x81, "\u{10ffff}\u{fffe}".as_bytes()),
            frames(["text \u{10ffff}\u{fffe}"]),
        ),
        echo("3.4/42 any bytes as binary", client_frame(0x82, b"\xff\xc0"), frames(["binary [ff, c0]"])),
    ]);
    check(options(), rows);
}

#[test]
fn text_is_passed_on_untouched_and_names_are_bytes() {
    let odd = "NUL \0, BOM \u{feff}, override \u{202e}abc\u{202c}, zero width \u{200b}, а is Cyrillic";
    let publish = |channel: &str, data: &str| {
        client_frame(
            0x81,
            format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":{data}}}}}"#).as_bytes(),
        )
    };
    let subscribe = |channel: &str| {
        client_frame(0x81, format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#).as_bytes())
    };
    let escaped = r#""\u0000\u202e\ufeff <\/script> \\r\\n""#;
    let untouched = play(move |wire: &mut Wire| {
        wire.send(&[subscribe("odd:caf\u{e9}"), publish("odd:caf\u{e9}", escaped)].concat());
        wire.text();
        let publication = wire.text() + &wire.text();
        assert!(publication.contains(r#""channel":"odd:café","#), "{publication}");
        assert!(publication.contains(&format!(r#""data":{escaped},"#)), "{publication}");
    });
    // The same to look at, but not the same bytes.
    let other = [
        subscribe("odd:cafe\u{301}"),
        publish("odd:caf\u{e9}", "1"),
        publish("odd:CAF\u{e9}", "1"),
        publish("odd:c\u{430}f\u{e9}", "1"),
        publish("odd:caf\u{e9} ", "1"),
    ]
    .concat();
    check(
        options(),
        [
            echo(
                "3.4/43 odd characters",
                client_frame(0x81, odd.as_bytes()),
                frames([&format!("text {odd}")]),
            ),
            row("3.4/43 odd characters in a publication", Door::Native, untouched, frames([])),
            row(
                "3.4/43 a name that looks the same",
                Door::Native,
                other,
                frames(["subscribed#2", "published#3", "published#3", "published#3", "published#3"]),
            ),
        ],
    );
}

#[test]
fn control_frames_are_short_whole_and_few() {
    let flood = |first: u8| {
        play(move |wire: &mut Wire| {
            let thousand = client_frame(first, b"flood").repeat(1_000);
            (0..10).for_each(|_| wire.send(&thousand));
        })
    };
    // All pongs but the last one may be left out (RFC 6455, 5.5.3); this server leaves none out.
    let few: Vec<u8> = (0..50).flat_map(|n| client_frame(0x89, format!("{n}").as_bytes())).collect();
    let pongs = Expect::Frames((0..50).map(|n| format!("pong {n}")).collect());
    let longest = [b'p'; 125];
    check(
        options(),
        [
            echo("3.4/44 a ping of 126 bytes", client_frame(0x89, &[b'p'; 126]), 1002),
            echo("3.4/44 a pong of 126 bytes", client_frame(0x8a, &[b'p'; 126]), 1002),
            echo("3.4/44 a ping in two frames", fragments(9, &[b"a", b"b"]), 1002),
            echo(
                "3.4/44 a ping of 125 bytes",
                client_frame(0x89, &longest),
                frames([&format!("{:?}", Incoming::Pong(longest.to_vec()))]),
            ),
            echo("3.4/45 50 pings", few, pongs),
            row("3.4/45 10,000 pings", Door::Echo, flood(0x89), 1008),
            row("3.4/46 10,000 pongs", Door::Echo, flood(0x8a), 1008),
            echo("3.4/46 50 pongs nobody asked for", client_frame(0x8a, b"?").repeat(50), frames([])),
        ],
    );
}
