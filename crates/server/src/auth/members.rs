use std::collections::HashMap;

use duplex_core::{ErrorCode, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Seconds since 1970 that a JSON number holds exactly in every parser (RFC 7493, 2.2).
const SECONDS: std::ops::Range<f64> = 0.0..9_007_199_254_740_992.0;

/// The members of a JSON object, read one by one: a wrong type is never taken for an absent member, and is told by name.
///
/// Of two members with one name the last counts, here as in most parsers (RFC 7519, 4).
#[derive(Deserialize)]
pub(super) struct Members<'a>(#[serde(borrow)] HashMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.typed(name, "a string")
    }

    /// A string, or an array of strings.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        match self.raw(name) {
            Some(raw) if raw.get().starts_with('"') => Ok(self.text(name)?.map(|text| vec![text])),
            _ => self.typed(name, "a string or an array of strings"),
        }
    }

    /// An array of at most `max` values.
    pub fn array<T: Deserialize<'a>>(&self, name: &str, max: usize) -> Result<Vec<T>, Refusal> {
        let values: Vec<T> = self.typed(name, "an array of strings")?.unwrap_or_default();
        if values.len() > max {
            return Err(wrong(name, format_args!("has {} entries; at most {max} are allowed", values.len())));
        }
        Ok(values)
    }

    /// The members of a member.
    pub fn object(&self, name: &str) -> Result<Option<Members<'a>>, Refusal> {
        self.typed(name, "an object")
    }

    /// A point in time, rounded down to seconds, in milliseconds since 1970 UTC.
    pub fn time_ms(&self, name: &str) -> Result<Option<u64>, Refusal> {
        const MUST: &str = "a number of seconds since 1970, from 0 to 2^53";
        match self.typed::<f64>(name, MUST)? {
            Some(seconds) if !SECONDS.contains(&seconds) => Err(must_be(name, MUST)),
            seconds => Ok(seconds.map(|seconds| seconds as u64 * 1_000)),
        }
    }

    fn typed<T: Deserialize<'a>>(&self, name: &str, must: &str) -> Result<Option<T>, Refusal> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| must_be(name, must))
    }
}

fn must_be(name: &str, must: &str) -> Refusal {
    wrong(name, format_args!("must be {must}"))
}

/// A refusal of what the token says in `name`.
pub(super) fn wrong(name: &str, what: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, format_args!("the token's `{name}` {what}; mend what makes tokens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_that_means_a_time() {
        for (json, time) in [
            ("0", Some(0)),
            ("1.9", Some(1_000)),
            ("1700000000", Some(1_700_000_000_000)),
            ("17e8", Some(1_700_000_000_000)),
            ("9007199254740991", Some(9_007_199_254_740_991_000)),
            ("9007199254740992", None),
            ("-1", None),
            ("-0.5", None),
            ("1e300", None),
            ("1e400", None),
            ("18446744073709551616", None),
            ("\"1700000000\"", None),
            ("null", None),
            ("true", None),
            ("[1700000000]", None),
            ("{}", None),
        ] {
            let object = format!("{{\"exp\":{json}}}");
            let found = Members::parse(object.as_bytes()).unwrap().time_ms("exp");
            match time {
                Some(time) => assert_eq!(found, Ok(Some(time)), "{json}"),
                None => assert!(found.is_err_and(|refusal| refusal.message.contains("`exp`")), "{json}"),
            }
        }
        assert_eq!(Members::parse(b"{}").unwrap().time_ms("exp"), Ok(None));
    }

    #[test]
    fn of_two_members_with_one_name_the_last_counts() {
        let members = Members::parse(br#"{"sub":"alice","s\u0075b":7}"#).unwrap();
        assert!(members.text("sub").is_err());
        let members = Members::parse(br#"{"sub":7,"sub":"bob"}"#).unwrap();
        assert_eq!(members.text("sub"), Ok(Some("bob".into())));
    }
}
