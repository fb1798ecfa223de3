//! TLS for one connection (RFC 8446), between a socket and what is read and written. While nothing is under way it holds no
//! buffer: records are read into memory that all connections of a thread share, and decrypted there.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{Error, ServerConfig};
use tokio::net::TcpStream;

use crate::stream::receive;

/// What one read can bring, bytes: a record that was begun before (16 KiB and what surrounds it), and more.
const IN_BYTES: usize = 64 << 10;
/// What is encrypted at once, bytes: two records.
const CHUNK_BYTES: usize = 32 << 10;
/// Room for that, and for what a handshake has to say.
const OUT_BYTES: usize = CHUNK_BYTES + (16 << 10);

thread_local! {
    static IN: RefCell<Box<[u8]>> = RefCell::new(vec![0; IN_BYTES].into());
    static OUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; OUT_BYTES].into());
}

/// The server's side of a connection.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// Of a record that is not whole yet.
    incoming: Vec<u8>,
    /// Decrypted, and not read yet.
    unread: Bytes,
    /// Encrypted, and not taken by the socket yet.
    outgoing: Bytes,
    peer: Peer,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Peer {
    Open,
    /// It said that it sends nothing more.
    Ended,
}

impl Session {
    pub fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(broken)?;
        let (incoming, unread, outgoing) = (Vec::new(), Bytes::new(), Bytes::new());
        Ok(Self { connection, incoming, unread, outgoing, peer: Peer::Open })
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether something can be read without the socket.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads what was sent to us; 0 at the end.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when the socket has nothing more; any other if the connection broke, or the
    /// peer did not keep to the protocol.
    pub fn read(&mut self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let length = buffer.len().min(self.unread.len());
            self.unread.copy_to_slice(&mut buffer[..length]);
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
            return Ok(length);
        }
        loop {
            if self.peer == Peer::Ended {
                return Ok(0);
            }
            match self.receive(socket, buffer)? {
                Received::Nothing => {}
                Received::Plain(length) => return Ok(length),
                Received::End => return Ok(0),
            }
        }
    }

    /// Takes in once what the socket has.
    pub fn receive(&mut self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<Received> {
        IN.with_borrow_mut(|scratch| {
            let held = self.incoming.len();
            scratch[..held].copy_from_slice(&self.incoming);
            let length = receive(socket, &mut scratch[held..])?;
            if length == 0 {
                return Ok(Received::End);
            }
            self.incoming = Vec::new();
            let taken = self.take_in(&mut scratch[..held + length], buffer);
            // An alert, the next flight of the handshake, tickets.
            match (self.flush(socket), taken) {
                (_, Err(error)) => Err(error),
                (Err(error), _) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                (_, Ok(0)) => Ok(Received::Nothing),
                (_, Ok(length)) => Ok(Received::Plain(length)),
            }
        })
    }

    /// Processes records; says how many bytes of `buffer` were filled. What does not fit is kept.
    fn take_in(&mut self, records: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let Self { connection, incoming, unread, outgoing, peer } = self;
        let (mut start, mut filled, mut rest) = (0, 0, Vec::new());
        let mut said = Vec::new();
        let outcome = loop {
            let UnbufferedStatus { mut discard, state } =
                connection.process_tls_records(&mut records[start..]);
            let state = match state {
                Ok(state) => state,
                Err(error) if said.is_empty() => {
                    start += discard;
                    // What is wrong is told to the peer.
                    let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
                    if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
                        encode(&mut data, &mut said)?;
                    }
                    break Err(broken(error));
                }
                Err(error) => break Err(broken(error)),
            };
            let is_done = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        discard += record.discard;
                        let fits = record.payload.len().min(buffer.len() - filled);
                        buffer[filled..filled + fits].copy_from_slice(&record.payload[..fits]);
                        filled += fits;
                        rest.extend_from_slice(&record.payload[fits..]);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut said)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    *peer = Peer::Ended;
                    true
                }
                // Early data is never accepted, so none comes.
                _ => true,
            };
            start += discard;
            if is_done {
                break Ok(filled);
            }
        };
        *incoming = records[start..].to_vec();
        *unread = rest.into();
        if !said.is_empty() {
            *outgoing = [&outgoing[..], &said].concat().into();
        }
        outcome
    }

    /// Encrypts some of `bytes` for the socket; what it does not take at once is kept. Returns how many were encrypted.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) as long as something is kept; any other if the connection broke.
    pub fn write(&mut self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let bytes = &bytes[..bytes.len().min(CHUNK_BYTES)];
        self.send(socket, |traffic, out| traffic.encrypt(bytes, out))?;
        Ok(bytes.len())
    }

    /// Tells the peer that nothing follows, as far as the socket takes that.
    pub fn end(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.flush(socket)?;
        self.send(socket, |traffic, out| traffic.queue_close_notify(out))
    }

    fn send(
        &mut self,
        socket: &TcpStream,
        encrypt: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        OUT.with_borrow_mut(|out| {
            let mut said = Vec::new();
            let length = loop {
                let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.incoming);
                match state.map_err(broken)? {
                    ConnectionState::WriteTraffic(mut traffic) => {
                        break encrypt(&mut traffic, out).map_err(io::Error::other)?;
                    }
                    ConnectionState::EncodeTlsData(mut data) => encode(&mut data, &mut said)?,
                    ConnectionState::TransmitTlsData(data) => data.done(),
                    ConnectionState::PeerClosed => self.peer = Peer::Ended,
                    _ => return Err(io::ErrorKind::BrokenPipe.into()),
                }
            };
            let joined;
            let out = match said.is_empty() {
                true => &out[..length],
                false => {
                    joined = [&said[..], &out[..length]].concat();
                    &joined[..]
                }
            };
            let written = match socket.try_write(out) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.outgoing = Bytes::copy_from_slice(&out[written..]);
            Ok(())
        })
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the socket does not take all of it.
    pub fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match socket.try_write(&self.outgoing) {
                Ok(written) => self.outgoing.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.outgoing.is_empty() {
                // An empty slice would keep all of its buffer.
                self.outgoing = Bytes::new();
            }
        }
        Ok(())
    }
}

/// What came with one look at the socket.
pub(crate) enum Received {
    /// Nothing that is for the reader.
    Nothing,
    /// So much of it.
    Plain(usize),
    /// The connection has ended.
    End,
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, said: &mut Vec<u8>) -> io::Result<()> {
    let start = said.len();
    match data.encode(&mut said[start..]) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            said.resize(start + required_size, 0);
            data.encode(&mut said[start..]).map_err(io::Error::other)?;
        }
        Err(error) => return Err(io::Error::other(error)),
        Ok(_) => {}
    }
    Ok(())
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
