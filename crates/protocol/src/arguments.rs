//! What an event or an invocation carries: a JSON array whose binary data is strings of Base64.

use duplex_core::{Json, JsonError, Payload, Span};
use serde_json::value::RawValue;

/// The arguments of a message.
#[derive(Debug)]
pub(crate) struct Arguments {
    json: String,
    binary: Vec<Span>,
}

impl Arguments {
    /// Those whose text is `json`, with binary data at `binary`.
    pub fn new(json: String, binary: Vec<Span>) -> Self {
        Self { json, binary }
    }

    /// The single arguments.
    pub fn values(&self) -> Vec<&RawValue> {
        serde_json::from_str(&self.json).expect("a message's arguments were checked to be an array")
    }

    /// All of them.
    pub fn all(&self) -> Result<Json, JsonError> {
        Json::check_with_binary(raw(&self.json), self.binary.clone())
    }

    /// Those from the one at index `first` on, to be published.
    pub fn payload(&self, first: usize) -> Result<Payload, JsonError> {
        let values = self.values();
        match values.get(first..) {
            None | Some([]) => Ok(Payload::Args(Json::check(raw("[]"))?)),
            Some([one]) => {
                let start = self.offset(one);
                let binary = self.binary_in(start, start + one.get().len(), 0);
                Json::check_with_binary(one, binary).map(Payload::Data)
            }
            Some([one, .., last]) => {
                let (start, end) = (self.offset(one), self.offset(last) + last.get().len());
                let json = format!("[{}]", &self.json[start..end]);
                let binary = self.binary_in(start, end, 1);
                Json::check_with_binary(raw(&json), binary).map(Payload::Args)
            }
        }
    }

    /// Where a value stands in the text.
    fn offset(&self, value: &RawValue) -> usize {
        value.get().as_ptr() as usize - self.json.as_ptr() as usize
    }

    /// Binary data between two places, in a text where the first of them is at `to`.
    fn binary_in(&self, start: usize, end: usize, to: usize) -> Vec<Span> {
        let within = self.binary.iter().filter(|span| (start..end).contains(&span.start));
        within.map(|span| Span { start: span.start - start + to, end: span.end - start + to }).collect()
    }
}

/// The arguments of an event, and where they are binary data.
pub(crate) fn values(payload: &Payload) -> (String, Vec<Span>) {
    match payload {
        Payload::Data(data) => (format!("[{}]", data.as_str()), shifted(data.binary(), 1)),
        Payload::Args(args) => (args.as_str().to_owned(), args.binary().to_vec()),
    }
}

/// The same places in a text that has moved.
pub(crate) fn shifted(binary: &[Span], by: usize) -> Vec<Span> {
    binary.iter().map(|span| Span { start: span.start + by, end: span.end + by }).collect()
}

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).expect("values between brackets are an array")
}
