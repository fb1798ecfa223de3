//! Those who send too much, or nothing, or nonsense.

use crate::arena::{Arena, publish};
use crate::support::frames::{Incoming, client_frame};
use crate::support::native::Client;
use crate::support::wire::Wire;

/// Somebody who talks to himself and must not notice anything.
struct Neighbour(Client);

impl Neighbour {
    fn check(&mut self) {
        publish(&mut self.0, "neighbourhood", "still here");
        assert_eq!(self.0.publication()["data"], "still here");
    }
}

pub fn flood(arena: &Arena) -> String {
    let mut neighbour = Neighbour(Client::subscribe(arena.address, "neighbourhood").0);
    let message = client_frame(0x81, br#"{"publish":{"channel":"flood","data":1}}"#);
    for _ in 0..5 {
        let mut wire = Wire::websocket(arena.address, "/ws?channels=flood", "");
        wire.send(&message.repeat(3_000));
        assert!(matches!(wire.until_end().last(), Some(Incoming::Close(Some(3013), _))));
        neighbour.check();
    }
    "5 floods".to_owned()
}

pub fn garbage(arena: &Arena) -> String {
    let mut neighbour = Neighbour(Client::subscribe(arena.address, "neighbourhood").0);
    let inputs: [(&[u8], u16); 5] = [
        (&client_frame(0x81, b"{"), 3501),
        (&client_frame(0x81, b"\xff\xfe"), 1007),
        (&[0xff, 0xff, 0xff], 1002),
        (&client_frame(0x81, &[b'x'; 70_000]), 1009),
        (&client_frame(0x82, b"x"), 3501),
    ];
    for (input, code) in inputs.iter().cycle().take(100) {
        let mut wire = Wire::websocket(arena.address, "/ws?channels=garbage", "");
        wire.send(input);
        let frames = wire.until_end();
        assert!(
            matches!(frames.last(), Some(Incoming::Close(Some(given), _)) if given == code),
            "{code}: {frames:?}"
        );
    }
    // Halves of handshakes and of messages.
    for index in 0..100 {
        let mut wire = Wire::connect(arena.address);
        match index % 2 {
            0 => wire.send(b"GET /ws HTTP/1.1\r\nHost: loc"),
            _ => {
                wire.upgrade("/ws?channels=garbage", "");
                wire.send(&client_frame(0x81, br#"{"ping":{}}"#)[..5]);
            }
        }
        wire.reset();
    }
    neighbour.check();
    "200 of them".to_owned()
}

pub fn storm(arena: &Arena) -> String {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let clients: Vec<Client> =
                        (0..50).map(|_| Client::subscribe(arena.address, "storm").0).collect();
                    clients.into_iter().for_each(Client::leave);
                }
            });
        }
    });
    "1000 clients".to_owned()
}

pub fn silence(arena: &Arena) -> String {
    for _ in 0..10 {
        let wires: Vec<Wire> = (0..100).map(|_| Wire::connect(arena.address)).collect();
        wires.into_iter().for_each(Wire::reset);
    }
    "1000 connections".to_owned()
}
