use bytes::Bytes;
use serde_json::Value;

/// How messages are written (`docs/protocol.md`, MessagePack).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON in text messages.
    #[default]
    Json,
    /// The same objects as MessagePack in binary messages.
    MessagePack,
}

impl Form {
    pub(crate) fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "duplex.v1.json",
            Self::MessagePack => "duplex.v1.msgpack",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/vnd.msgpack",
        }
    }

    /// The message that says what `json` says.
    pub(crate) fn write(self, json: String) -> Bytes {
        match self {
            Self::Json => Bytes::from(json),
            Self::MessagePack => {
                let value: Value = serde_json::from_str(&json).expect("commands are written as JSON");
                Bytes::from(rmp_serde::to_vec(&value).expect("a Vec takes every JSON value"))
            }
        }
    }

    /// What a message of the server says, as JSON. `None` if it is not of this form.
    pub(crate) fn read(self, message: &[u8]) -> Option<String> {
        match self {
            Self::Json => String::from_utf8(message.to_vec()).ok(),
            Self::MessagePack => {
                let value: Value = rmp_serde::from_slice(message).ok()?;
                Some(value.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let text = r#"{"a":[1,-2,1.5,18446744073709551615,null,true,"é"]}"#;
        for form in [Form::Json, Form::MessagePack] {
            assert_eq!(form.read(&form.write(text.to_owned())).as_deref(), Some(text));
            assert_eq!(form.read(&[0xc1]), None);
        }
    }
}
