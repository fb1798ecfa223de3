//! Header values: lists, tokens, white space (RFC 9110, 5.6).

/// The values of every header called `name`, in order.
pub(super) fn values<'a, I>(headers: I, name: &'static str) -> impl Iterator<Item = &'a [u8]> + Clone
where
    I: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    headers.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_ascii())
}

/// How often a header appeared that may appear once.
pub(super) enum Single<'a> {
    Missing,
    One(&'a [u8]),
    Repeated,
}

impl<'a> Single<'a> {
    pub(super) fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Missing,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// Whether one of the comma-separated lists contains `token`, in any case.
pub(super) fn list_contains<'a>(mut values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    values.any(|value| elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes())))
}

/// The non-empty elements of a comma-separated list of tokens.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The token `bytes` is (RFC 9110, 5.6.2).
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.bytes().all(is_token_byte)).then_some(text)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A host and an optional port, by its characters (RFC 3986, 3.2.2); it names someone, so it is not empty.
pub(super) fn is_host(value: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    !value.is_empty() && value.iter().all(allowed)
}

/// Splits at `separator`, except inside quoted strings (RFC 9110, 5.6.4). A string that is never closed reaches to
/// the end.
pub(super) fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let literal = std::mem::take(&mut escaped);
        match byte {
            _ if literal => false,
            b'\\' if quoted => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                false
            }
            _ => !quoted && *byte == separator,
        }
    })
}
