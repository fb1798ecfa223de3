/// What one peer may ask of us (RFC 6455, 10.4). Every limit is finite; exceeding one ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of one message, after reassembly and after inflating. Default 64 KiB. A compressed message may
    /// take an eighth more on the wire, which is the most deflate can lose on incompressible data.
    pub message_bytes: usize,
    /// Frames of one message, empty ones included. Default 1,024; 0 means 1.
    pub fragments: u32,
    /// Pings and pongs between two calls of [`Decoder::replenish`](crate::Decoder::replenish). Default 100.
    pub control_frames: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 65_536, fragments: 1_024, control_frames: 100 }
    }
}

impl Limits {
    /// Bytes a message may take on the wire. Deflate's worst case is 9 bits a byte (fixed codes) and a few bytes.
    pub(crate) fn wire_bytes(&self, compressed: bool) -> usize {
        match compressed {
            true => self.message_bytes.saturating_add(self.message_bytes / 8).saturating_add(64),
            false => self.message_bytes,
        }
    }
}
