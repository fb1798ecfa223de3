//! What all transports on a bare socket do with it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use duplex_core::FrameQueue;
use tokio::net::TcpStream;

/// Frames one vectored write takes.
const SLICES_MAX: usize = 32;
/// Bytes that are read of a client that has nothing to say, in one poll.
const UNASKED_BYTES: usize = 512;

/// One write of what the socket takes now.
pub(crate) fn write_some(stream: &TcpStream, queue: &FrameQueue) -> io::Result<usize> {
    let mut frames = queue.iter();
    match (frames.next(), frames.next()) {
        (None, _) => Ok(0),
        (Some(one), None) => stream.try_write(one),
        (Some(_), Some(_)) => {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used =
                queue.iter().zip(&mut slices).map(|(frame, slice)| *slice = IoSlice::new(frame)).count();
            stream.try_write_vectored(&slices[..used])
        }
    }
}

/// Writes from the front of `queue` until it is empty.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when the socket is full; any other if the connection broke.
pub(crate) fn write_all(stream: &TcpStream, queue: &mut FrameQueue) -> io::Result<()> {
    while !queue.is_empty() {
        match write_some(stream, queue) {
            Ok(written) => queue.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for what comes from a client that has nothing to say, and gives it to `take`. Ready when the connection has ended.
pub(crate) fn poll_end(stream: &TcpStream, cx: &mut Context<'_>, mut take: impl FnMut(&[u8])) -> Poll<()> {
    let mut unasked = [0; UNASKED_BYTES];
    loop {
        match stream.poll_read_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {}
        }
        match stream.try_read(&mut unasked) {
            Ok(0) => return Poll::Ready(()),
            Ok(length) => take(&unasked[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Poll::Ready(()),
        }
    }
}
