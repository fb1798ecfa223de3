//! A connection as all transports use it: a socket, with TLS on it or without.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::TcpStream as Detached;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::{Received, Session};

/// Bytes of several slices that are encrypted together.
const GATHERED_BYTES: usize = 16 << 10;

/// A connection to a client or to another node.
pub struct Stream {
    socket: TcpStream,
    /// Boxed: most of it is there only with TLS.
    tls: Option<Box<RefCell<Session>>>,
}

/// A connection that belongs to no event loop: on its way to another thread.
pub struct Moving {
    socket: Detached,
    tls: Option<Box<RefCell<Session>>>,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }
}

impl Stream {
    /// A connection whose client speaks TLS. Returns after the handshake, which is to be bounded in time.
    ///
    /// # Errors
    /// The connection broke, or the handshake failed.
    pub async fn secure(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut session = Session::new(config)?;
        while session.is_handshaking() {
            socket.readable().await?;
            match session.receive(&socket, &mut []) {
                Ok(Received::End) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Received::Nothing | Received::Plain(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            while let Err(error) = session.flush(&socket) {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                socket.writable().await?;
            }
        }
        Ok(Self { socket, tls: Some(Box::new(RefCell::new(session))) })
    }

    /// Whether there is, or may be, something to read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(session) if session.borrow().has_unread() => Poll::Ready(Ok(())),
            _ => self.socket.poll_read_ready(cx),
        }
    }

    /// Whether there may be room.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// Those of the event loop.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Waits until there may be room.
    ///
    /// # Errors
    /// Those of the event loop.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Reads what there is; 0 at the end. If less comes than fits, that was all.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing; any other if the connection broke.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => receive(&self.socket, buffer),
            Some(session) => session.borrow_mut().read(&self.socket, buffer),
        }
    }

    /// Writes what there is room for. With TLS it may not be out before [`try_flush`](Self::try_flush) says so.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; any other if the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.socket.try_write(bytes),
            Some(session) => session.borrow_mut().write(&self.socket, bytes),
        }
    }

    /// The same with several slices.
    ///
    /// # Errors
    /// The same.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(session) = &self.tls else { return self.socket.try_write_vectored(slices) };
        let mut gathered = Vec::with_capacity(GATHERED_BYTES);
        for slice in slices {
            let room = GATHERED_BYTES - gathered.len();
            gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        session.borrow_mut().write(&self.socket, &gathered)
    }

    /// Writes what is encrypted already.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room for all of it; any other if the connection broke.
    pub fn try_flush(&self) -> io::Result<()> {
        match &self.tls {
            None => Ok(()),
            Some(session) => session.borrow_mut().flush(&self.socket),
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The connection broke.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if let Some(session) = &self.tls {
            // Whoever does not take it finds out by the end of the socket.
            let _ = session.borrow_mut().end(&self.socket);
        }
        Ok(rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write)?)
    }

    /// What was written and not sent when the connection is dropped will be forgotten.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.socket.set_zero_linger()
    }

    /// Takes it off this event loop.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn detach(self) -> io::Result<Moving> {
        Ok(Moving { socket: self.socket.into_std()?, tls: self.tls })
    }
}

impl Moving {
    /// Puts it on this thread's event loop.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(Stream { socket: TcpStream::from_std(self.socket)?, tls: self.tls })
    }
}

/// Receives, and when the read was short notes at once that the socket is empty: no second call to learn it.
pub(crate) fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut received = None;
    let noted = socket.try_io(Interest::READABLE, || {
        let (length, _) = rustix::net::recv(socket, &mut *buffer, rustix::net::RecvFlags::empty())?;
        received = Some(length);
        if length < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match received {
        Some(length) => Ok(length),
        None => noted.map(|()| 0),
    }
}

/// A poll that tries again when the socket is ready.
macro_rules! ready_again {
    ($ready:expr, $attempt:expr) => {
        loop {
            ready!($ready)?;
            match $attempt {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = ready_again!(self.poll_read_ready(cx), self.try_read(buffer.initialize_unfilled()))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(ready_again!(self.poll_write_ready(cx), self.try_write(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tls.is_none() {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(ready_again!(self.poll_write_ready(cx), self.try_flush()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(ready_again!(self.poll_write_ready(cx), self.try_write_vectored(slices)))
    }
}
