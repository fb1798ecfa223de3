//! What an event or an invocation carries: a JSON array whose binary data is strings of Base64.

use std::ops::Range;

use duplex_core::{Json, JsonError, Payload, Span};
use serde_json::value::RawValue;

/// The arguments of a message.
#[derive(Debug, Default)]
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
                let binary = within(&self.binary, start..start + one.get().len(), 0);
                Json::check_with_binary(one, binary).map(Payload::Data)
            }
            Some([one, .., last]) => {
                let (start, end) = (self.offset(one), self.offset(last) + last.get().len());
                let json = format!("[{}]", &self.json[start..end]);
                let binary = within(&self.binary, start..end, 1);
                Json::check_with_binary(raw(&json), binary).map(Payload::Args)
            }
        }
    }

    /// Each of them, and where it is binary data.
    pub fn each(&self) -> impl Iterator<Item = (&str, Vec<Span>)> {
        self.values().into_iter().map(|value| {
            let start = self.offset(value);
            (value.get(), within(&self.binary, start..start + value.get().len(), 0))
        })
    }

    /// One more behind them, which has come bit by bit.
    pub fn append(&mut self, Growing { json, binary }: Growing) {
        self.json.pop();
        self.json.push_str(if self.json.len() > 1 { ",[" } else { "[" });
        self.binary.extend(shifted(&binary, self.json.len()));
        self.json.push_str(&json);
        self.json.push_str("]]");
    }

    /// Where a value stands in the text.
    fn offset(&self, value: &RawValue) -> usize {
        value.get().as_ptr() as usize - self.json.as_ptr() as usize
    }
}

/// The elements of an array that comes bit by bit.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    json: String,
    binary: Vec<Span>,
}

impl Growing {
    /// One more.
    pub fn push(&mut self, value: &Json) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        self.binary.extend(shifted(value.binary(), self.json.len()));
        self.json.push_str(value.as_str());
    }
}

/// Binary data in a part of a text, in another text where that part begins at `to`.
pub(crate) fn within(binary: &[Span], part: Range<usize>, to: usize) -> Vec<Span> {
    let within = binary.iter().filter(|span| part.contains(&span.start));
    within.map(|span| Span { start: span.start - part.start + to, end: span.end - part.start + to }).collect()
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
