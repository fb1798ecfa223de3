//! What stands behind the `?` of an address.

use duplex_core::{ChannelName, NameError};
use percent_encoding::percent_decode_str;

/// Why `channels` cannot be read. The text completes "channels: …".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChannelsError {
    #[error("a name is not UTF-8 after percent-decoding")]
    NotUtf8,
    #[error("{name:?} {error}")]
    Name { name: String, error: NameError },
}

/// The first value of a parameter, decoded; `None` if it is missing or not UTF-8.
pub(crate) fn value(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8().ok()?.into_owned())
}

/// The same, whatever the case of the parameter's name.
pub(crate) fn any_case(query: Option<&str>, name: &str) -> Option<String> {
    let names = query.unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.0));
    let known = names.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    value(query, known)
}

/// A parameter that is a whole number; `None` if it is missing.
pub(crate) fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, NumberError> {
    value(query, name).map(|value| value.parse().map_err(|_| NumberError(value))).transpose()
}

/// A parameter is not a number. The text completes "after: …".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a whole number; give one like 42")]
pub(crate) struct NumberError(String);

/// Whether a parameter is there and `true`.
pub(crate) fn flag(query: Option<&str>, name: &str) -> bool {
    value(query, name).as_deref() == Some("true")
}

/// The channels in `?channels=a,b`: split at commas first, so that a comma in a name is written `%2C`.
pub(crate) fn channels(query: Option<&str>) -> Result<Option<Vec<ChannelName>>, ChannelsError> {
    let parameters = query.unwrap_or_default().split('&');
    let Some(list) = parameters.filter_map(|pair| pair.strip_prefix("channels=")).next() else {
        return Ok(None);
    };
    list.split(',').map(channel).collect::<Result<_, _>>().map(Some)
}

/// The same of clients that take the query apart and put it together again, and encode the comma between two names with all
/// else: those of Socket.IO, and some of SignalR. No name has a comma there.
pub(crate) fn channels_encoded(query: Option<&str>) -> Result<Vec<ChannelName>, ChannelsError> {
    let list = value(query, "channels").unwrap_or_default();
    list.split(',').filter(|_| !list.is_empty()).map(parse).collect()
}

fn channel(encoded: &str) -> Result<ChannelName, ChannelsError> {
    // Forms write a space as `+`, and a plus as %2B.
    let spaced = encoded.replace('+', " ");
    parse(&percent_decode_str(&spaced).decode_utf8().map_err(|_| ChannelsError::NotUtf8)?)
}

fn parse(name: &str) -> Result<ChannelName, ChannelsError> {
    ChannelName::parse(name).map_err(|error| ChannelsError::Name { name: name.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_split_before_they_are_decoded() {
        for (query, names) in [
            ("channels=a", vec!["a"]),
            ("x=1&channels=a,b:c&y", vec!["a", "b:c"]),
            ("channels=dm:%23alice%2Cbob,caf%C3%A9", vec!["dm:#alice,bob", "café"]),
            ("channels=a+b,a%2Bb,100%", vec!["a b", "a+b", "100%"]),
        ] {
            let channels = channels(Some(query)).unwrap().unwrap();
            assert_eq!(channels.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{query}");
        }
        assert_eq!(channels(None), Ok(None));
        assert_eq!(channels(Some("channel=a")), Ok(None));
    }

    #[test]
    fn a_comma_that_a_client_encoded_stands_between_names_all_the_same() {
        for (query, names) in [
            ("channels=a%2Cb:c", vec!["a", "b:c"]),
            ("x&channels=a,caf%C3%A9", vec!["a", "café"]),
            ("id=1", vec![]),
        ] {
            let channels = channels_encoded(Some(query)).unwrap();
            assert_eq!(channels.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{query}");
        }
        assert!(channels_encoded(Some("channels=a%2C%2Cb")).is_err());
    }

    #[test]
    fn a_name_that_cannot_be_is_refused() {
        for query in
            ["channels=", "channels=a,,b", "channels=%00", "channels=%C0%AF", "channels=%FF", "channels=:a"]
        {
            assert!(channels(Some(query)).is_err(), "{query}");
        }
    }
}
