//! Negotiating `permessage-deflate` (RFC 7692, 5 and 7.1). What we cannot meet is declined, never an error.

use super::fields::{split_unquoted, token};

/// What a client sends; both sides start every message from nothing, so contexts need not be kept per connection.
pub(super) const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const NAME: &str = "permessage-deflate";
/// The window of our deflater, in bits.
const WINDOW_BITS: u8 = 15;

/// An offer of a client that a server can accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deflate {
    server_max_window_bits: Option<u8>,
}

impl Deflate {
    /// Whether the peer's window holds what our deflater may refer back to.
    pub(super) fn fits_window(self) -> bool {
        self.server_max_window_bits.is_none_or(|bits| bits >= WINDOW_BITS)
    }

    /// The header value that accepts the offer (RFC 7692, 7.1). `client_max_window_bits` is left out: our inflater
    /// has the full window, whatever the client uses.
    pub(super) fn answer(self) -> String {
        match self.server_max_window_bits {
            Some(bits) => format!("{OFFER}; server_max_window_bits={bits}"),
            None => OFFER.to_owned(),
        }
    }
}

/// The first offer we can meet; one that fits our window if there is any.
pub(super) fn choose<'a>(values: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Deflate> {
    let mut acceptable = values.flat_map(|value| split_unquoted(value, b',')).filter_map(offer);
    let first = acceptable.next()?;
    if first.fits_window() {
        return Some(first);
    }
    acceptable.find(|later| later.fits_window()).or(Some(first))
}

fn offer(element: &[u8]) -> Option<Deflate> {
    let parameters = Parameters::parse(element)?;
    Some(Deflate { server_max_window_bits: parameters.server_max_window_bits })
}

/// Whether a server's answer to [`OFFER`] is one we can live with (RFC 7692, 7.1).
///
/// It must promise not to carry context over, since our inflater does not; and it may not limit our window, since we
/// did not say that it could.
pub(super) fn is_legal_answer(value: &[u8]) -> bool {
    let mut elements = split_unquoted(value, b',');
    let (Some(element), None) = (elements.next(), elements.next()) else { return false };
    Parameters::parse(element)
        .is_some_and(|found| found.server_no_context_takeover && !found.client_max_window_bits)
}

/// The parameters of one `permessage-deflate` element, each at most once and each legal (RFC 7692, 7.1).
#[derive(Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Parameters {
    fn parse(element: &[u8]) -> Option<Self> {
        let mut parts = split_unquoted(element, b';').map(<[u8]>::trim_ascii);
        let name = parts.next()?;
        if !name.eq_ignore_ascii_case(NAME.as_bytes()) {
            return None;
        }
        parts.try_fold(Self::default(), Self::with)
    }

    fn with(mut self, part: &[u8]) -> Option<Self> {
        let (name, value) = name_and_value(part)?;
        match (name, value) {
            ("server_no_context_takeover", None) => set(&mut self.server_no_context_takeover)?,
            ("client_no_context_takeover", None) => set(&mut self.client_no_context_takeover)?,
            ("server_max_window_bits", Some(bits)) => {
                put(&mut self.server_max_window_bits, window_bits(bits)?)?;
            }
            ("client_max_window_bits", None) => set(&mut self.client_max_window_bits)?,
            ("client_max_window_bits", Some(bits)) => {
                // Any legal window fits our inflater.
                window_bits(bits)?;
                set(&mut self.client_max_window_bits)?;
            }
            _ => return None,
        }
        Some(self)
    }
}

fn name_and_value(part: &[u8]) -> Option<(&str, Option<&[u8]>)> {
    match part.iter().position(|byte| *byte == b'=') {
        None => Some((token(part)?, None)),
        Some(at) => Some((token(part[..at].trim_ascii())?, Some(unquoted(part[at + 1..].trim_ascii())))),
    }
}

/// RFC 6455, 9.1: a parameter may be quoted if the content is a token. Ours are digits, which nobody escapes.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    }
}

/// RFC 7692, 7.1.2.1: 8 to 15, without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// `None` if it was set before.
fn set(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

/// `None` if it was there before.
fn put<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(header: &str) -> String {
        match choose([header.as_bytes()].into_iter()) {
            Some(deflate) if deflate.fits_window() => deflate.answer().replace(OFFER, "yes"),
            Some(deflate) => deflate.answer().replace(OFFER, "plain"),
            None => "no".to_owned(),
        }
    }

    #[test]
    fn the_first_offer_we_can_meet_is_taken_and_all_others_are_declined() {
        for (header, expected) in [
            ("permessage-deflate", "yes"),
            ("  PerMessage-Deflate  ", "yes"),
            ("permessage-deflate; client_max_window_bits", "yes"),
            ("permessage-deflate;client_max_window_bits=9;server_no_context_takeover", "yes"),
            (
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=15",
                "yes; server_max_window_bits=15",
            ),
            ("permessage-deflate; server_max_window_bits=\"15\"", "yes; server_max_window_bits=15"),
            ("permessage-deflate; server_max_window_bits = 15", "yes; server_max_window_bits=15"),
            // A small window means plain frames from us, unless there is a better offer.
            ("permessage-deflate; server_max_window_bits=10", "plain; server_max_window_bits=10"),
            ("permessage-deflate; server_max_window_bits=8", "plain; server_max_window_bits=8"),
            ("permessage-deflate; server_max_window_bits=9, permessage-deflate", "yes"),
            (
                "permessage-deflate; server_max_window_bits=9, permessage-deflate; x",
                "plain; server_max_window_bits=9",
            ),
            // Other extensions and impossible offers are passed over.
            ("x-webkit-deflate-frame, permessage-deflate", "yes"),
            ("permessage-bzip2; a=\"1, permessage-deflate\", permessage-deflate", "yes"),
            ("permessage-deflate; server_max_window_bits=16, permessage-deflate", "yes"),
            ("constructor", "no"),
            ("permessage-deflate; constructor", "no"),
            ("permessage-deflate; __proto__=1", "no"),
            ("permessage-deflate; server_max_window_bits", "no"),
            ("permessage-deflate; server_max_window_bits=7", "no"),
            ("permessage-deflate; server_max_window_bits=16", "no"),
            ("permessage-deflate; server_max_window_bits=99", "no"),
            ("permessage-deflate; server_max_window_bits=08", "no"),
            ("permessage-deflate; server_max_window_bits=", "no"),
            ("permessage-deflate; server_max_window_bits=-9", "no"),
            ("permessage-deflate; client_max_window_bits=7", "no"),
            ("permessage-deflate; client_max_window_bits=16", "no"),
            ("permessage-deflate; server_no_context_takeover=1", "no"),
            ("permessage-deflate; client_no_context_takeover=\"\"", "no"),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", "no"),
            ("permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", "no"),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", "no"),
            ("permessage-deflate;", "no"),
            ("permessage-deflate; ;", "no"),
            ("permessage-deflate; server_max_window_bits=\"15", "no"),
            ("permessage-deflate; a=\"\\\", permessage-deflate", "no"),
            ("", "no"),
            (",,,", "no"),
            (";;;=\"", "no"),
        ] {
            assert_eq!(answer(header), expected, "{header}");
        }
    }

    #[test]
    fn a_thousand_bad_offers_do_not_hide_a_good_one() {
        let mut header = "permessage-deflate; server_max_window_bits=99,".repeat(1_000);
        assert_eq!(answer(&header), "no");
        header.push_str("permessage-deflate");
        assert_eq!(answer(&header), "yes");
    }

    #[test]
    fn a_client_takes_only_answers_that_keep_messages_independent() {
        for (header, legal) in [
            ("permessage-deflate; server_no_context_takeover", true),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", true),
            ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9", true),
            ("permessage-deflate", false),
            ("permessage-deflate; server_no_context_takeover; client_max_window_bits=15", false),
            ("permessage-deflate; server_no_context_takeover; server_max_window_bits=7", false),
            ("permessage-deflate; server_no_context_takeover; extra", false),
            ("permessage-deflate; server_no_context_takeover, permessage-deflate", false),
            ("permessage-bzip2", false),
            ("", false),
        ] {
            assert_eq!(is_legal_answer(header.as_bytes()), legal, "{header}");
        }
    }
}
