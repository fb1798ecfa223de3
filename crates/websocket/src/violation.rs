use crate::CloseCode;

/// What the peer did wrong. The connection is over; [`close_code`](Self::close_code) is what to tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A client must mask its frames (RFC 6455, 5.1).
    #[error("a frame from a client is not masked")]
    UnmaskedFrame,
    /// A server must not mask its frames (RFC 6455, 5.1).
    #[error("a frame from a server is masked")]
    MaskedFrame,
    /// A reserved bit is set that no negotiated extension gave a meaning in this place (RFC 6455, 5.2; RFC 7692, 6).
    #[error("reserved bits {bits:#05b} are set")]
    ReservedBits {
        /// RSV1, RSV2, RSV3 from high to low.
        bits: u8,
    },
    /// Opcodes 3–7 and 11–15 have no meaning (RFC 6455, 5.2).
    #[error("opcode {opcode} is reserved")]
    ReservedOpcode {
        /// The opcode as received.
        opcode: u8,
    },
    /// A length must take the fewest bytes that hold it (RFC 6455, 5.2).
    #[error("a length of {length} is not written in its shortest form")]
    LengthNotMinimal {
        /// The length as received.
        length: u64,
    },
    /// The top bit of a 64-bit length must be clear (RFC 6455, 5.2).
    #[error("a length has its top bit set")]
    LengthTooLarge,
    /// A control frame carries at most 125 bytes (RFC 6455, 5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A control frame is one frame (RFC 6455, 5.5).
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// There is no message to continue (RFC 6455, 5.4).
    #[error("a continuation frame continues nothing")]
    UnexpectedContinuation,
    /// Messages are not interleaved (RFC 6455, 5.4).
    #[error("a new message starts inside another")]
    ExpectedContinuation,
    /// A close body is empty or starts with two bytes of code (RFC 6455, 5.5.1).
    #[error("a close frame has a body of one byte")]
    CloseTooShort,
    /// The close code may not appear on the wire (RFC 6455, 7.4).
    #[error("close code {code} may not be sent")]
    InvalidCloseCode {
        /// The code as received.
        code: u16,
    },
    /// A text message or a close reason is not UTF-8 (RFC 6455, 8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A compressed message does not inflate, or ends inside a block (RFC 7692, 7.2.2).
    #[error("a compressed message does not inflate")]
    BadDeflate,
    /// The message is, or will be, larger than the limit (RFC 6455, 10.4).
    #[error("a message is larger than {limit} bytes")]
    MessageTooLarge {
        /// [`Limits::message_bytes`](crate::Limits::message_bytes).
        limit: usize,
    },
    /// The message has more frames than the limit (RFC 6455, 10.4).
    #[error("a message has more than {limit} fragments")]
    TooManyFragments {
        /// [`Limits::fragments`](crate::Limits::fragments).
        limit: u32,
    },
    /// Pings and pongs came faster than the budget allows.
    #[error("more than {limit} control frames before the budget was replenished")]
    TooManyControlFrames {
        /// [`Limits::control_frames`](crate::Limits::control_frames).
        limit: u16,
    },
}

impl Violation {
    /// The code to close with: 1002, 1007, 1008 or 1009 (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::BadDeflate => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooLarge { .. } => CloseCode::TOO_BIG,
            Self::TooManyFragments { .. } | Self::TooManyControlFrames { .. } => CloseCode::POLICY,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
