//! A load balancer that knows nothing of sessions: whoever comes is sent to whoever is next.

mod body;
mod exchange;
mod head;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;

/// Connections that may wait to be accepted: a crowd comes at once.
const BACKLOG: u32 = 4096;
/// What the system keeps of a connection in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// A backend on this machine takes a connection at once or is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What is sent to the next backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each connection, whatever it carries.
    Connections,
    /// Each HTTP request, also of one connection. An upgraded connection stays where it is.
    Requests,
}

/// A running balancer; it ends with all its connections when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    backends: Arc<Backends>,
    close: Option<oneshot::Sender<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Balancer {
    /// Starts one on a free loopback port.
    pub fn start(mode: Mode, backends: &[SocketAddr]) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), mode, backends)
    }

    /// Starts one.
    ///
    /// # Panics
    /// If nobody can listen there.
    pub fn start_at(listen: SocketAddr, mode: Mode, backends: &[SocketAddr]) -> Self {
        let backends = Arc::new(Backends::of(backends));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let listener = runtime.block_on(async { listener(listen) }).expect("the balancer can listen");
        let address = listener.local_addr().expect("a listener has an address");
        let (stop, stopped) = oneshot::channel();
        let (close, closed) = oneshot::channel();
        let theirs = Arc::clone(&backends);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::spawn(async move {
                    tokio::select! {
                        () = accept(listener, mode, theirs) => {}
                        // Dropped or sent: either way nobody wants it any more.
                        _ = closed => {}
                    }
                });
                let _ = stopped.await;
            });
        });
        Self { address, backends, close: Some(close), stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, for HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on whoever comes is sent to these. What is connected stays.
    pub fn set_backends(&self, backends: &[SocketAddr]) {
        self.backends.lock().addresses = backends.to_vec();
    }

    /// From now on nobody else can come. What is connected stays.
    pub fn close(&mut self) {
        self.close = None;
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.backends.lock().clients
    }

    /// How much was sent to this backend: connections or requests.
    pub fn sent_to(&self, backend: SocketAddr) -> usize {
        self.backends.lock().sent.get(&backend).copied().unwrap_or(0)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The thread may have ended by a panic of its own.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, mode: Mode, backends: Arc<Backends>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: some connection will end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let backends = Arc::clone(&backends);
        tokio::spawn(async move {
            prepare(&client);
            let _counted = Counted::new(&backends);
            match mode {
                Mode::Connections => match backends.connect().await {
                    Some(backend) => relay(client, backend).await,
                    None => reset(&client),
                },
                Mode::Requests => exchange::serve(client, &backends).await,
            }
        });
    }
}

/// Everything that either says, to the other; who breaks off breaks off there, too.
async fn relay(mut client: TcpStream, mut backend: TcpStream) {
    if copy_bidirectional(&mut client, &mut backend).await.is_err() {
        reset(&client);
        reset(&backend);
    }
}

/// Nothing waits for company, and little waits at all: who is slow must be slow for the backend, too.
fn prepare(socket: &TcpStream) {
    let options = SockRef::from(socket);
    // A socket that takes no options is gone already.
    let _ = options.set_tcp_nodelay(true);
    let _ = options.set_send_buffer_size(BUFFER_BYTES);
    let _ = options.set_recv_buffer_size(BUFFER_BYTES);
}

/// When the socket is dropped, its other end sees an error and no proper end.
fn reset(socket: &TcpStream) {
    // A socket that has no options any more is reset already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Where to send who comes.
#[derive(Debug)]
struct Backends {
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    addresses: Vec<SocketAddr>,
    next: usize,
    sent: HashMap<SocketAddr, usize>,
    clients: usize,
}

/// A client for as long as it is connected.
struct Counted<'a>(&'a Backends);

impl<'a> Counted<'a> {
    fn new(backends: &'a Backends) -> Self {
        backends.lock().clients += 1;
        Self(backends)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.lock().clients -= 1;
    }
}

impl Backends {
    fn of(addresses: &[SocketAddr]) -> Self {
        let turns = Turns { addresses: addresses.to_vec(), next: 0, sent: HashMap::new(), clients: 0 };
        Self { turns: Mutex::new(turns) }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // A turn is whole at any moment.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to whoever is next among those who take one.
    async fn connect(&self) -> Option<TcpStream> {
        for address in self.in_turn() {
            let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
            if let Ok(Ok(backend)) = connected {
                prepare(&backend);
                *self.lock().sent.entry(address).or_default() += 1;
                return Some(backend);
            }
        }
        None
    }

    /// All of them, whose turn it is first.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut turns = self.lock();
        let count = turns.addresses.len();
        if count == 0 {
            return Vec::new();
        }
        let first = turns.next % count;
        turns.next = first + 1;
        (0..count).map(|at| turns.addresses[(first + at) % count]).collect()
    }
}

#[cfg(test)]
mod tests;
