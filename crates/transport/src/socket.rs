//! What all transports on a bare socket do with it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::Stream;
use duplex_core::FrameQueue;

/// Frames one vectored write takes.
const SLICES_MAX: usize = 32;
/// Bytes that are read of a client that has nothing to say, in one poll.
const UNASKED_BYTES: usize = 512;
/// Bytes a client may send behind a request that waits, for its connection to go on after it.
const EARLY_BYTES_MAX: usize = 16 << 10;

/// One write of what the socket takes now.
pub(crate) fn write_some(stream: &Stream, queue: &FrameQueue) -> io::Result<usize> {
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

/// Writes from the front of `queue` until it is empty, and all of it is with the kernel.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when the socket is full; any other if the connection broke.
pub(crate) fn write_all(stream: &Stream, queue: &mut FrameQueue) -> io::Result<()> {
    while !queue.is_empty() {
        match write_some(stream, queue) {
            Ok(written) => queue.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.try_flush()
}

/// Waits for what comes from a client that has nothing to say, and gives it to `take`. Ready when the connection has ended.
pub(crate) fn poll_end(stream: &Stream, cx: &mut Context<'_>, mut take: impl FnMut(&[u8])) -> Poll<()> {
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

/// Waits for the end of a client whose request waits; what it sends behind the request is kept. Ready also if that is too
/// much.
pub(crate) fn poll_gone(stream: &Stream, early: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<()> {
    let mut is_abused = false;
    let ended = poll_end(stream, cx, |bytes| {
        is_abused |= early.len() + bytes.len() > EARLY_BYTES_MAX;
        if !is_abused {
            early.extend_from_slice(bytes);
        }
    });
    if is_abused { Poll::Ready(()) } else { ended }
}
