//! A network between a client and the server, which a scenario can take away and give back.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

pub struct Gate {
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    passage: Passage,
    /// How often everything that was connected broke.
    breaks: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Passage {
    Open,
    /// Nothing passes, and nobody is told.
    Held,
    /// Nobody gets through.
    Closed,
}

impl Gate {
    /// A way to `target`.
    pub fn open(handle: &Handle, target: SocketAddr) -> Self {
        let (state, now) = watch::channel(State { passage: Passage::Open, breaks: 0 });
        let listener = handle.block_on(TcpListener::bind("127.0.0.1:0")).expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        handle.spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                tokio::spawn(relay(inner, target, now.clone()));
            }
        });
        Self { address, state }
    }

    /// What is connected breaks; who tries again gets through.
    pub fn break_all(&self) {
        self.state.send_modify(|state| state.breaks += 1);
    }

    pub fn hold(&self) {
        self.state.send_modify(|state| state.passage = Passage::Held);
    }

    pub fn close(&self) {
        self.state.send_modify(|state| (state.passage, state.breaks) = (Passage::Closed, state.breaks + 1));
    }

    pub fn reopen(&self) {
        self.state.send_modify(|state| state.passage = Passage::Open);
    }
}

async fn relay(inner: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let State { passage, breaks } = *state.borrow();
    let reset = |stream: &TcpStream| drop(SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
    reset(&inner);
    if passage == Passage::Closed {
        return;
    }
    let Ok(outer) = TcpStream::connect(target).await else { return };
    reset(&outer);
    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
    let ((inner_read, inner_write), (outer_read, outer_write)) = (inner.into_split(), outer.into_split());
    let up = pass(inner_read, outer_write, state.clone());
    let down = pass(outer_read, inner_write, state.clone());
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = state.wait_for(|state| state.breaks > breaks) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(_) = state.wait_for(|state| state.passage == Passage::Open).await else { return };
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let Ok(_) = state.wait_for(|state| state.passage == Passage::Open).await else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
