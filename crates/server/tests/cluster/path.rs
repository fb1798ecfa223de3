//! A long and bad way to a broker: everything takes its time, some of it must be sent again, and connections break.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// There and back, half of it each way.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// How long a lost piece is waited for, and with it what was sent behind it: a round trip, and what TCP waits at least.
const SENT_AGAIN: Duration = Duration::from_millis(400);
/// One piece in so many is lost.
const LOST_ONE_IN: u64 = 20;
/// Pieces under way in a direction; who sends more waits.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 1_400;

pub struct Path {
    pub address: SocketAddr,
    breaks: watch::Sender<u64>,
    _runtime: Runtime,
}

impl Path {
    pub fn to(target: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (breaks, broken) = watch::channel(0);
        runtime.spawn(async move {
            for seed in 1.. {
                let Ok((inner, _)) = listener.accept().await else { return };
                tokio::spawn(relay(inner, target, Luck(seed), broken.clone()));
            }
        });
        Self { address, breaks, _runtime: runtime }
    }

    /// Every connection breaks, and all that is under way is lost; who tries again gets through.
    pub fn break_all(&self) {
        self.breaks.send_modify(|breaks| *breaks += 1);
    }
}

/// The same each time.
struct Luck(u64);

impl Luck {
    fn is_lost(&mut self) -> bool {
        // Knuth's linear congruential generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).is_multiple_of(LOST_ONE_IN)
    }
}

async fn relay(inner: TcpStream, target: SocketAddr, luck: Luck, mut broken: watch::Receiver<u64>) {
    broken.mark_unchanged();
    let Ok(outer) = TcpStream::connect(target).await else { return };
    for stream in [&inner, &outer] {
        // What ends here breaks off.
        let _ = (stream.set_nodelay(true), SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    }
    let ((inner_read, inner_write), (outer_read, outer_write)) = (inner.into_split(), outer.into_split());
    let back = Luck(luck.0 << 16);
    tokio::select! {
        () = way(inner_read, outer_write, luck) => {}
        () = way(outer_read, inner_write, back) => {}
        _ = broken.changed() => {}
    }
}

async fn way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut luck: Luck) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let depart = async {
        let mut last = Instant::now();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(length);
            let again = if luck.is_lost() { SENT_AGAIN } else { Duration::ZERO };
            // Nothing overtakes what was lost.
            last = last.max(Instant::now() + ROUND_TRIP / 2 + again);
            if sender.send((last, piece)).await.is_err() {
                return;
            }
        }
    };
    let arrive = async {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = depart => {}
        () = arrive => {}
    }
}
