//! What was published, and who has got it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::limits::crowd::{Heard, answers};
use crate::limits::words::is_publication;
use crate::load::link::strange;
use crate::load::message::{message, sequence};

use super::Traffic;

/// Channels without subscribers.
const UNHEARD: usize = 1_000;

/// The name of a channel.
pub fn channel(traffic: Traffic, number: usize) -> String {
    match traffic {
        Traffic::Unheard => format!("unheard-{number}"),
        Traffic::Own => format!("own-{number}"),
        Traffic::Shared => format!("shared-{number}"),
    }
}

/// CPU time of every process, and for what.
#[derive(Debug, Clone)]
pub struct Spent {
    pub publications: u64,
    pub deliveries: u64,
    /// Since this program has begun; of a difference, how long it took.
    pub length: Duration,
    pub nodes: Vec<Duration>,
    pub redis: Duration,
}

impl Spent {
    /// Nothing, now.
    pub fn begin() -> Self {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self {
            publications: 0,
            deliveries: 0,
            length: BEGIN.elapsed(),
            nodes: Vec::new(),
            redis: Duration::ZERO,
        }
    }

    /// What was spent since then.
    pub fn since(&self, before: &Self) -> Self {
        let nodes = self.nodes.iter().zip(&before.nodes).map(|(now, then)| now.saturating_sub(*then));
        Self {
            publications: 0,
            deliveries: 0,
            length: self.length - before.length,
            nodes: nodes.collect(),
            redis: self.redis.saturating_sub(before.redis),
        }
    }
}

/// What is published and what is due of it.
pub struct Books {
    /// The first members of the crowd.
    publishers: usize,
    subscribers: usize,
    /// How many channels are shared.
    pub channels: usize,
    /// Publications of each traffic so far, which go to its channels in turn.
    made: [u64; 3],
    /// The number of the next publication of its own channel, and of that which it shares, for each subscriber.
    due: Vec<[u64; 2]>,
    count: Count,
}

/// Since the books were opened.
#[derive(Default, Clone, Copy)]
struct Count {
    made: u64,
    accepted: u64,
    due: u64,
    delivered: u64,
}

impl Books {
    pub fn new(publishers: usize, subscribers: usize, channels: usize) -> Self {
        let due = vec![[0; 2]; subscribers];
        Self { publishers, subscribers, channels, made: [0; 3], due, count: Count::default() }
    }

    /// Counts from here on.
    pub fn open(&mut self) {
        self.count = Count::default();
    }

    /// Publications accepted, and deliveries.
    pub fn count(&self) -> (u64, u64) {
        (self.count.accepted, self.count.delivered)
    }

    pub fn is_done(&self) -> bool {
        self.count.accepted == self.count.made && self.count.delivered == self.count.due
    }

    /// Whether less than so many publications are under way.
    pub fn has_room(&self, traffic: Traffic, under_way: u64) -> bool {
        let Count { made, accepted, due, delivered } = self.count;
        made - accepted < under_way && due - delivered <= (under_way - 1) * self.listeners(traffic)
    }

    /// The next publication, and who makes it: always the same one in a channel, so that it keeps its order.
    pub fn next(&mut self, traffic: Traffic) -> (usize, Vec<u8>) {
        let channels = match traffic {
            Traffic::Unheard => UNHEARD,
            Traffic::Own => self.subscribers,
            Traffic::Shared => self.channels,
        } as u64;
        let made = &mut self.made[traffic as usize];
        let (number, place) = (*made / channels, (*made % channels) as usize);
        *made += 1;
        self.count.made += 1;
        self.count.due += self.listeners(traffic);
        let data = message(number);
        let data = str::from_utf8(&data).expect("it is printable");
        let name = channel(traffic, place);
        let id = self.count.made;
        let text = format!(r#"{{"id":{id},"publish":{{"channel":"{name}","data":"{data}"}}}}"#);
        (place % self.publishers, text.into_bytes())
    }

    /// Someone hears something: an answer, or what is due.
    pub fn hear(&mut self, index: usize, heard: Heard<'_>) -> Result<(), Failure> {
        let Heard::Text(text) = heard else { return answers(index, heard) };
        if !is_publication(text) {
            answers(index, heard)?;
            self.count.accepted += u64::from(index < self.publishers);
            return Ok(());
        }
        let got = sequence(text).ok_or_else(|| strange(text))?;
        let member = index.checked_sub(self.publishers).ok_or_else(|| strange(text))?;
        let kind = usize::from(!text.starts_with(br#"{"publication":{"channel":"own-"#));
        let expected = &mut self.due[member][kind];
        if got != *expected {
            return Err(Failure::OutOfOrder { expected: *expected, got });
        }
        *expected += 1;
        self.count.delivered += 1;
        Ok(())
    }

    /// How many get a publication.
    fn listeners(&self, traffic: Traffic) -> u64 {
        match traffic {
            Traffic::Unheard => 0,
            Traffic::Own => 1,
            Traffic::Shared => (self.subscribers / self.channels) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::NODES_MAX;
    use crate::work::Sizes;

    fn publication(channel: &str, number: u64) -> Vec<u8> {
        let data = message(number);
        let data = str::from_utf8(&data).unwrap();
        format!(r#"{{"publication":{{"channel":"{channel}","data":"{data}"}}}}"#).into_bytes()
    }

    #[test]
    fn all_nodes_have_as_many_subscribers_of_each_shared_channel() {
        for sizes in [Sizes::FULL, Sizes::QUICK] {
            assert!(sizes.nodes_subscribers.is_multiple_of(sizes.nodes_channels * NODES_MAX));
        }
    }

    #[test]
    fn one_at_a_time_means_that_the_one_before_is_accepted_and_delivered() {
        let mut books = Books::new(1, 4, 2);
        let (publisher, text) = books.next(Traffic::Shared);
        assert_eq!(publisher, 0);
        assert!(String::from_utf8_lossy(&text).contains(r#""channel":"shared-0""#));
        assert!(!books.has_room(Traffic::Shared, 1) && books.has_room(Traffic::Shared, 2));
        books.hear(0, Heard::Text(br#"{"id":1,"published":{}}"#)).unwrap();
        books.hear(1, Heard::Text(&publication("shared-0", 0))).unwrap();
        assert!(!books.has_room(Traffic::Shared, 1) && !books.is_done());
        books.hear(2, Heard::Text(&publication("shared-0", 0))).unwrap();
        assert!(books.has_room(Traffic::Shared, 1) && books.is_done());
        assert_eq!(books.count(), (1, 2));
    }

    #[test]
    fn what_comes_twice_or_is_left_out_is_noticed() {
        let mut books = Books::new(1, 4, 2);
        books.hear(1, Heard::Text(&publication("own-0", 0))).unwrap();
        books.hear(1, Heard::Text(&publication("shared-0", 0))).unwrap();
        assert!(books.hear(1, Heard::Text(&publication("own-0", 0))).is_err());
        assert!(books.hear(1, Heard::Text(&publication("own-0", 2))).is_err());
        assert!(books.hear(0, Heard::Text(&publication("own-0", 0))).is_err());
    }
}
