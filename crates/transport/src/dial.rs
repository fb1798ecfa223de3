//! Connections that this server opens to another one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpSocket;

use crate::Stream;
use crate::listener::SocketOptions;

/// How long a server on the same network may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which the kernel asks whether the other machine is still there, which a wait for an answer does not tell.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Kernel receive buffer. By itself the kernel takes several megabytes of what nobody reads, and who sends would not
/// learn that its client is slow.
const RECEIVE_BUFFER_BYTES: u32 = 64 << 10;

/// Connects to a server.
///
/// # Errors
/// Those of the operating system; [`TimedOut`](io::ErrorKind::TimedOut) after 2 s.
pub(crate) async fn dial(address: SocketAddr, options: SocketOptions) -> io::Result<Stream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_send_buffer_size(u32::try_from(options.send_buffer_bytes).unwrap_or(u32::MAX))?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    SockRef::from(&socket).set_tcp_user_timeout(Some(options.user_timeout))?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address));
    let connected = connecting.await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    connected.map(Stream::from)
}
