use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Pause after the process has run out of file descriptors, so that accepting does not become a busy loop.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are turned away before each such pause.
const TURNED_AWAY_MAX: usize = 64;

/// How sockets are set up.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Connections the kernel holds for us until we accept them. Default 4,096; the kernel caps it (`somaxconn`).
    pub backlog: i32,
    /// Kernel send buffer of a connection, bytes. Default 64 KiB. Without a limit the kernel takes about 3 MB for each
    /// client that does not read. The kernel doubles the number for its own bookkeeping.
    pub send_buffer_bytes: usize,
    /// Bytes a socket may hold that are not sent yet. Default 8 KiB. What is written later can still be thinned out.
    /// Linux only.
    pub unsent_bytes: u32,
    /// How long written data may stay unacknowledged until the connection counts as dead. Default 30 s. Linux only.
    pub user_timeout: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: 4_096,
            send_buffer_bytes: 64 << 10,
            unsent_bytes: 8 << 10,
            user_timeout: Duration::from_secs(30),
        }
    }
}

/// A listening socket. Accepted sockets are non-blocking and belong to no event loop yet.
pub struct Acceptor {
    listener: TcpListener,
    /// Given up to have a file descriptor for a connection that is turned away when there is no other.
    reserve: Option<File>,
}

impl Acceptor {
    /// Listens on `address`. Call it on the runtime that will accept.
    ///
    /// # Errors
    /// Those of the operating system, above all an address in use.
    pub fn bind(address: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit these on Linux and macOS, which saves a system call each per connection.
        socket.set_send_buffer_size(options.send_buffer_bytes)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(options.unsent_bytes)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())?, reserve: open_reserve() })
    }

    /// Where it listens; the port is the one chosen by the system if 0 was asked for.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts for ever and hands each socket to `take`; while that waits, connections wait in the kernel's backlog. When
    /// the process has no file descriptors left, connections are turned away and `exhausted` is told how many.
    pub async fn run(
        mut self,
        mut take: impl AsyncFnMut(TcpStream, SocketAddr),
        mut exhausted: impl FnMut(usize),
    ) {
        loop {
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => take(stream, peer).await,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let turned_away = self.turn_some_away();
                    exhausted(turned_away);
                    tracing::warn!(%error, turned_away, "cannot accept connections; trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    /// Tells those who wait to come back later, instead of letting them wait for nothing.
    fn turn_some_away(&mut self) -> usize {
        drop(self.reserve.take());
        let accept = |_: &usize| rustix::net::accept(&self.listener);
        let turned_away = (0..TURNED_AWAY_MAX).map_while(|index| accept(&index).ok());
        let count = turned_away.map(|socket| turn_away(&mut TcpStream::from(socket), BUSY)).count();
        self.reserve = open_reserve();
        count
    }
}

/// The answer to whoever cannot be served now.
pub const BUSY: &str = "503 Service Unavailable";
/// The answer to whoever has too much open.
pub const TOO_MANY: &str = "429 Too Many Requests";

/// Answers a connection of which nothing was read, and ends it. It is done at best: the socket is fresh, so what is written
/// fits into its buffer.
pub fn turn_away(stream: &mut TcpStream, status: &str) {
    const BODY: &str = "there are too many connections; come back later\n";
    let length = BODY.len();
    let _ = stream.set_nonblocking(true);
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nretry-after: 5\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {length}\r\n\r\n{BODY}"
    );
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// The peer was gone before we accepted: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
