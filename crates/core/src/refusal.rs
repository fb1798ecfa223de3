use std::fmt;

/// Why a command was not carried out, as a number for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// Our fault; try again later.
    Internal = 100,
    /// Not allowed.
    PermissionDenied = 103,
    /// No such command.
    UnknownCommand = 104,
    /// The client is subscribed to the channel.
    AlreadySubscribed = 105,
    /// A limit of this client is reached.
    LimitExceeded = 106,
    /// The command is not as it must be.
    BadRequest = 107,
    /// Not offered here or not at the moment.
    NotAvailable = 108,
    /// The idempotency key was used for another message.
    Conflict = 113,
    /// History no longer reaches back to the position that was named.
    Unrecoverable = 112,
}

/// Why a command was not carried out: a code for programs, a sentence that says what to do for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    /// A refusal whose sentence is made from `message`.
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// The command is not as it must be.
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code as u16)
    }
}
