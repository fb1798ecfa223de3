use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Pause after the process has run out of file descriptors, so that accepting does not become a busy loop.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How sockets are set up.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Connections the kernel holds for us until we accept them. Default 4,096; the kernel caps it (`somaxconn`).
    pub backlog: i32,
    /// Kernel send buffer of a connection, bytes. Default 64 KiB. Without a limit the kernel takes about 3 MB for each
    /// client that does not read. The kernel doubles the number for its own bookkeeping.
    pub send_buffer_bytes: usize,
    /// How long written data may stay unacknowledged until the connection counts as dead. Default 30 s. Linux only.
    pub user_timeout: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { backlog: 4_096, send_buffer_bytes: 64 << 10, user_timeout: Duration::from_secs(30) }
    }
}

/// A listening socket. Accepted sockets are non-blocking and belong to no event loop yet.
pub struct Acceptor {
    listener: TcpListener,
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
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())? })
    }

    /// Where it listens; the port is the one chosen by the system if 0 was asked for.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts for ever and hands each socket to `take`; while that waits, connections wait in the kernel's backlog.
    pub async fn run(&self, mut take: impl AsyncFnMut(TcpStream)) {
        loop {
            match self.listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => take(stream).await,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// The peer was gone before we accepted: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
