use std::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        /// Why a command was not carried out, as a number for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name = $code,)*
        }

        impl ErrorCode {
            /// Every code there is, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name, in words.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// When it is given and what to do about it, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

codes! {
    Internal = 100,
        "The server failed. Try again later, and tell its operator.";
    Unauthorized = 101,
        "Who you are is not known: the token or API key is missing or invalid. Show a valid one.";
    UnknownNamespace = 102,
        "The channel's namespace, the part before the first `:`, is not configured. Mend the name, or configure `[namespace.NAME]`.";
    PermissionDenied = 103,
        "Not allowed here. Ask for a token that allows it, or change the namespace's `allow`.";
    UnknownCommand = 104,
        "There is no such command. The message lists those there are.";
    AlreadySubscribed = 105,
        "The client is subscribed to the channel.";
    LimitExceeded = 106,
        "A limit is reached. The message says which.";
    BadRequest = 107,
        "The command is not as it must be. The message says what is wrong.";
    NotAvailable = 108,
        "Not offered here, or not at the moment. If it is offered, try again later.";
    TokenExpired = 109,
        "The token is no longer valid. Get a new one.";
    TooManyRequests = 111,
        "Too many commands of this client are still under way, or too many came in a second. Wait for answers, then try again.";
    Unrecoverable = 112,
        "History no longer reaches back to the position that was named. Read from the end.";
    Conflict = 113,
        "The idempotency key was used for another message. Use a new key for a new message.";
    Timeout = 114,
        "The backend did not answer in time. Whether it acted is not known.";
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
