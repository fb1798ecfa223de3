//! What one message of a channel's history is: publications that follow one another, and where in the stream those
//! before them are.
//!
//! A line of words that begins with the version, then each publication behind a line with its length:
//! `1 EPOCH OFFSET COUNT KEPT TTL_MS NONCE LINK,LINK,…`. The offset is that of the last of them. A message without
//! publications says where the channel stands, so that it is known when all of them have expired.

use bytes::Bytes;
use duplex_core::{ChannelName, Epoch, Position, Publication, Retention};

use crate::envelope::read_draft;

/// Messages before it that a message names.
pub(super) const LINKS_MAX: usize = 16;
/// No channel ever has so many publications.
const OFFSETS: u64 = 1 << 56;
/// More bytes than everything in a message that is not a publication.
pub(super) const BATCH_HEAD: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// The last one's.
    pub top: Position,
    /// What the channel keeps.
    pub retention: Retention,
    /// Tells this message from all others.
    pub nonce: u64,
    /// Sequences of the messages before it, the newest first.
    pub links: Vec<u64>,
    /// Written drafts.
    pub drafts: Vec<Bytes>,
}

impl Batch {
    /// The offset before the first one.
    pub fn before(&self) -> u64 {
        self.top.offset - self.drafts.len() as u64
    }

    pub fn write(&self) -> Bytes {
        let Self { top, retention, nonce, links, drafts } = self;
        let links: Vec<String> = links.iter().map(|link| format!("{link:x}")).collect();
        let mut bytes = format!(
            "1 {} {} {} {} {} {nonce:x} {}\n",
            top.epoch,
            top.offset,
            drafts.len(),
            retention.publications,
            retention.ttl_ms,
            links.join(","),
        )
        .into_bytes();
        for draft in drafts {
            bytes.extend_from_slice(format!("{}\n", draft.len()).as_bytes());
            bytes.extend_from_slice(draft);
        }
        bytes.into()
    }

    /// Reads what [`write`](Self::write) wrote. Anybody may have written it, so anything may be in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &Bytes) -> Result<Self, &'static str> {
        if !bytes.starts_with(b"1 ") {
            return Err("it is of another version, or not from Duplex at all");
        }
        let (line, mut rest) = line(bytes).ok_or("it has no head")?;
        let (mut batch, count) = Self::read_head(line).ok_or("its head is broken")?;
        for _ in 0..count {
            let (length, after) = self::line(&rest).ok_or("it is cut off")?;
            let length: usize = length.parse().map_err(|_| "it is broken")?;
            if length > after.len() {
                return Err("it is cut off");
            }
            batch.drafts.push(after.slice(..length));
            rest = after.slice(length..);
        }
        if rest.is_empty() { Ok(batch) } else { Err("it is too long") }
    }

    fn read_head(line: &str) -> Option<(Self, u64)> {
        let mut words = line.split(' ').skip(1);
        let mut word = || words.next();
        let top = Position { epoch: Epoch::parse(word()?)?, offset: word()?.parse().ok()? };
        let count: u64 = word()?.parse().ok().filter(|count| *count <= top.offset && top.offset < OFFSETS)?;
        let retention = Retention { publications: word()?.parse().ok()?, ttl_ms: word()?.parse().ok()? };
        let nonce = u64::from_str_radix(word()?, 16).ok()?;
        let links = match word()? {
            "" => Some(Vec::new()),
            links => links.split(',').map(|link| u64::from_str_radix(link, 16).ok()).collect(),
        };
        Some((Self { top, retention, nonce, links: links?, drafts: Vec::new() }, count))
    }

    /// The publications, oldest first.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn publications(&self, channel: &ChannelName) -> Result<Vec<Publication>, String> {
        let offsets = self.before() + 1..;
        let publication = |(offset, draft): (u64, &Bytes)| {
            let position = Position { offset, ..self.top };
            let draft = read_draft(draft, channel.clone()).map_err(|error| error.to_string())?;
            Ok(Publication { position, order: 0, draft })
        };
        offsets.zip(&self.drafts).map(publication).collect()
    }
}

fn line(bytes: &Bytes) -> Option<(&str, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, bytes.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(drafts: &[&'static str]) -> Batch {
        Batch {
            top: Position { epoch: Epoch::from_random([1; 6]), offset: 7 },
            retention: Retention { publications: 100, ttl_ms: 300_000 },
            nonce: 0xfeed,
            links: vec![12, 3],
            drafts: drafts.iter().map(|draft| Bytes::from_static(draft.as_bytes())).collect(),
        }
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        for batch in [batch(&["1{\"d\":\n}", "", "x"]), batch(&[]), Batch { links: vec![], ..batch(&["x"]) }]
        {
            assert_eq!(Batch::read(&batch.write()), Ok(batch));
        }
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_not_read_and_does_no_harm() {
        let written = batch(&["1{\"d\":1}", "x"]).write();
        for end in 0..written.len() {
            assert!(Batch::read(&written.slice(..end)).is_err(), "{end}");
        }
        for foreign in [
            "",
            "2 a 1 0 1 1 1 \n",
            "1 a 1 9999999999999 1 1 1 \n",
            "1 a 18446744073709551615 0 1 1 1 \n",
            "1 a 1 2 1 1 1 \n",
            "1 \n",
            "1 a 1 1 1 1 1 \n-1\n",
        ] {
            assert!(Batch::read(&Bytes::from_static(foreign.as_bytes())).is_err(), "{foreign}");
        }
    }
}
