//! How nodes write to each other what was published, and who joined or left: JSON behind one byte that says which version
//! it is.
//!
//! Names are short, since they go with every publication. What is not known is passed over, so that a later version may add
//! to it; what is not understood is not delivered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use duplex_core::{
    Audience, ChannelName, ClientId, Draft, Effort, EventName, IdempotencyKey, Json, Member, Payload, Span,
    Tags, UserId,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The version that is written.
const VERSION: u8 = b'1';

/// Why what came was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum EnvelopeError {
    #[error("it is of another version, or not from Duplex at all")]
    Version,
    #[error("it is broken: {0}")]
    Broken(String),
}

fn broken(error: impl std::fmt::Display) -> EnvelopeError {
    EnvelopeError::Broken(error.to_string())
}

#[derive(Serialize, Deserialize)]
struct DraftForm<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    e: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    d: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    a: Option<&'a RawValue>,
    /// Where binary values stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<(usize, usize)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    t: BTreeMap<String, String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    c: Option<Cow<'a, str>>,
    m: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    k: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x: Vec<String>,
    /// 1: it is not waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<u8>,
}

/// A draft, without its channel.
pub(crate) fn write_draft(draft: &Draft) -> Vec<u8> {
    let json = draft.payload.json();
    let raw = serde_json::from_str::<&RawValue>(json.as_str()).expect("a Json is JSON");
    let (data, args) = match draft.payload {
        Payload::Data(_) => (Some(raw), None),
        Payload::Args(_) => (None, Some(raw)),
    };
    let form = DraftForm {
        e: (!draft.event.is_default()).then(|| Cow::Borrowed(&*draft.event)),
        d: data,
        a: args,
        b: json.binary().iter().map(|span| (span.start, span.end)).collect(),
        t: draft.tags.pairs().clone(),
        c: draft.client.map(|client| client.to_string().into()),
        m: draft.time_ms,
        k: draft.key.as_ref().map(|key| Cow::Borrowed(key.as_str())),
        x: draft.audience.except.iter().map(ClientId::to_string).collect(),
        w: (draft.audience.effort == Effort::Volatile).then_some(1),
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &form).expect("strings and numbers always serialize");
    bytes
}

/// Reads what [`write_draft`] wrote. It comes from another process, so anything may be in it.
pub(crate) fn read_draft(bytes: &[u8], channel: ChannelName) -> Result<Draft, EnvelopeError> {
    let form: DraftForm<'_> = read(bytes)?;
    let (raw, is_data) = match (form.d, form.a) {
        (Some(data), None) => (data, true),
        (None, Some(args)) => (args, false),
        _ => return Err(broken("it has not one payload")),
    };
    let binary: Vec<Span> = form.b.into_iter().map(|(start, end)| Span { start, end }).collect();
    let is_inside = |span: &Span| {
        let literal = raw.get().as_bytes().get(span.start..span.end);
        literal.is_some_and(|literal| {
            literal.len() >= 2 && literal.starts_with(b"\"") && literal.ends_with(b"\"")
        })
    };
    if !binary.iter().all(is_inside) || !binary.is_sorted_by(|a, b| a.end <= b.start) {
        return Err(broken("a binary value is not in its payload"));
    }
    let json = Json::check_with_binary(raw, binary).map_err(broken)?;
    let client = |text: &str| ClientId::parse(text).ok_or_else(|| broken("a client's id is none"));
    Ok(Draft {
        channel,
        event: form
            .e
            .map(|event| EventName::of_method(&event))
            .transpose()
            .map_err(broken)?
            .unwrap_or_default(),
        payload: if is_data { Payload::Data(json) } else { Payload::Args(json) },
        tags: Tags::parse(form.t).map_err(broken)?,
        client: form.c.as_deref().map(client).transpose()?,
        time_ms: form.m,
        key: form.k.map(|key| IdempotencyKey::parse(&key)).transpose().map_err(broken)?,
        audience: Audience {
            except: form.x.iter().map(|text| client(text)).collect::<Result<_, _>>()?,
            effort: if form.w == Some(1) { Effort::Volatile } else { Effort::Wait },
        },
    })
}

#[derive(Serialize, Deserialize)]
struct MemberForm<'a> {
    #[serde(borrow)]
    c: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    u: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    i: Option<&'a RawValue>,
}

/// A value that is there, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A member.
pub(crate) fn write_member(member: &Member) -> Vec<u8> {
    let info = member.info.as_ref();
    let form = MemberForm {
        c: member.client.to_string().into(),
        u: member.user.as_deref().map(Cow::Borrowed),
        i: info.map(|info| serde_json::from_str(info.as_str()).expect("a Json is JSON")),
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &form).expect("strings and numbers always serialize");
    bytes
}

/// Reads what [`write_member`] wrote.
pub(crate) fn read_member(bytes: &[u8]) -> Result<Member, EnvelopeError> {
    let form: MemberForm<'_> = read(bytes)?;
    Ok(Member {
        client: ClientId::parse(&form.c).ok_or_else(|| broken("a client's id is none"))?,
        user: form.u.map(|user| UserId::parse(&user)).transpose().map_err(broken)?,
        info: form.i.map(Json::check).transpose().map_err(broken)?,
    })
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, EnvelopeError> {
    let (&version, body) = bytes.split_first().ok_or(EnvelopeError::Version)?;
    if version != VERSION {
        return Err(EnvelopeError::Version);
    }
    serde_json::from_slice(body).map_err(broken)
}

/// Tells what drafts say apart, whoever says it and when: FNV-1a, 128 bits, of what [`Draft::says_the_same`] compares.
pub(crate) fn digest(draft: &Draft) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let kind = match draft.payload {
        Payload::Data(_) => "d",
        Payload::Args(_) => "a",
    };
    let tags = draft.tags.pairs().iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let parts = [kind, &draft.event, draft.payload.json().as_str()].into_iter().chain(tags);
    // A part ends with a byte that is in no text.
    let bytes = parts.flat_map(|part| part.bytes().chain([0xff]));
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::parse("news").unwrap()
    }

    #[test]
    fn what_is_cut_off_or_not_ours_is_not_understood() {
        let whole: &[u8] =
            br#"1{"e":"moved","a":["AAEC",1],"b":[[1,7]],"t":{"a":"b"},"m":7,"k":"once","w":1}"#;
        assert!(read_draft(whole, channel()).is_ok());
        for end in 0..whole.len() {
            assert!(read_draft(&whole[..end], channel()).is_err(), "cut at {end}");
        }
        for wrong in [
            r#"2{"d":1,"m":7}"#,
            r#"1{"d":1}"#,
            r#"1{"m":7}"#,
            r#"1{"d":1,"a":[],"m":7}"#,
            r#"1{"d":1,"m":7,"e":"$no"}"#,
            r#"1{"d":1,"m":7,"c":"me"}"#,
            r#"1{"d":["x"],"m":7,"b":[[0,5]]}"#,
            r#"1{"d":["x"],"m":7,"b":[[1,999]]}"#,
            r#"1{"d":["x","y"],"m":7,"b":[[5,8],[1,4]]}"#,
            "1null",
            "1[]",
        ] {
            assert!(read_draft(wrong.as_bytes(), channel()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn null_is_a_payload_and_not_none() {
        for text in [r#"1{"d":null,"m":7}"#, r#"1{"a":[null],"m":7}"#] {
            let draft = read_draft(text.as_bytes(), channel()).unwrap();
            assert_eq!(write_draft(&draft), text.as_bytes());
        }
        let member = r#"1{"c":"00000000000000000000000000000001","i":null}"#;
        assert_eq!(write_member(&read_member(member.as_bytes()).unwrap()), member.as_bytes());
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let later: &[u8] = br#"1{"d":1,"m":7,"new":{"x":[]}}"#;
        assert_eq!(read_draft(later, channel()).unwrap().time_ms, 7);
        let later: &[u8] = br#"1{"c":"00000000000000000000000000000001","new":1}"#;
        assert!(read_member(later).is_ok());
    }

    #[test]
    fn drafts_that_say_different_things_have_different_digests() {
        let read = |text: &str| read_draft(text.as_bytes(), channel()).unwrap();
        let one = read(r#"1{"d":["x"],"m":7}"#);
        assert_eq!(digest(&one), digest(&read(r#"1{"d":["x"],"m":8,"w":1}"#)), "when does not matter");
        for other in [
            r#"1{"a":["x"],"m":7}"#,
            r#"1{"d":["y"],"m":7}"#,
            r#"1{"e":"x","d":["x"],"m":7}"#,
            r#"1{"d":["x"],"t":{"a":"b"},"m":7}"#,
        ] {
            assert_ne!(digest(&one), digest(&read(other)), "{other}");
        }
    }
}
