//! What becomes of publications when NATS restarts, is silent, emptied, slow for us, or cut off.

use super::*;

#[tokio::test]
async fn with_what_it_has_stored_nats_comes_back_as_it_was() {
    for end in [duplex_rigs::Nats::stop, duplex_rigs::Nats::kill9] {
        let mut server = duplex_rigs::Nats::start();
        let ((_, one), (node, _other)) = pair(&server.url()).await;
        let before = publish(&one, 10).await;
        end(&mut server);
        unreachable(&one).await;
        assert_eq!(one.publish(draft("news", "x", 0), KEEP).await, Err(BrokerError::Unreachable));
        server.restart();
        reachable(&one).await;
        assert_eq!(publish(&one, 1).await, Position { offset: 11, ..before });
        delivered(&node, 1..=11).await;
        assert_eq!(told(&node), 0);
    }
}

/// What became of publications.
#[derive(Default)]
struct Account {
    done: Vec<u64>,
    /// Of so many it is not known.
    unsure: usize,
}

impl Account {
    async fn publish(&mut self, broker: &Nats, count: usize) {
        let keep = Retention { publications: 5_000, ..KEEP };
        let all: Vec<_> = (0..count).map(|_| broker.publish(draft("news", "x", 0), keep)).collect();
        for publishing in all {
            match publishing.await {
                Ok(position) => self.done.push(position.offset),
                Err(BrokerError::NoAnswer) => self.unsure += 1,
                Err(error) => assert_eq!(error, BrokerError::Unreachable),
            }
        }
    }

    /// Each was delivered once, and nothing else.
    async fn is_delivered_by(&self, node: &Node) {
        assert!(self.done.is_sorted_by(|a, b| a < b), "{:?}", self.done);
        let last = self.done.last().copied().unwrap_or(0);
        let missing = usize::try_from(last).unwrap() - self.done.len();
        assert!(
            missing <= self.unsure,
            "{missing} were published and refused, {} may have been",
            self.unsure
        );
        until(|| node.offsets("news").len() as u64 >= last, || format!("{:?}", node.offsets("news"))).await;
        let offsets = node.offsets("news");
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert!(offsets.len() <= self.done.len() + self.unsure);
        assert_eq!(told(node), 0);
    }
}

#[tokio::test]
async fn what_is_under_way_when_nats_restarts_is_published_once_or_refused() {
    let mut server = duplex_rigs::Nats::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let (enough, mut is_enough) = tokio::sync::oneshot::channel::<()>();
    let publisher = tokio::spawn({
        let one = Arc::clone(&one);
        async move {
            let mut account = Account::default();
            while is_enough.try_recv().is_err() {
                account.publish(&one, 20).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            account
        }
    });
    for _ in 0..3 {
        let before = node.offsets("news").len();
        until(|| node.offsets("news").len() > before, || format!("no more than {before}")).await;
        server.kill9();
        server.restart();
    }
    reachable(&one).await;
    enough.send(()).unwrap();
    let mut account = publisher.await.unwrap();
    account.publish(&one, 1).await;
    account.is_delivered_by(&node).await;
}

#[tokio::test]
async fn empty_nats_begins_a_new_epoch_and_subscribers_are_told() {
    let mut server = duplex_rigs::Nats::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let before = publish(&one, 10).await;
    delivered(&node, 1..=10).await;
    server.restart_empty();
    until(|| told(&node) == 1, || "not told".to_owned()).await;
    reachable(&one).await;
    let after = publish(&one, 1).await;
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(missed(&*one, "news", before).await, None);
    until(|| node.offsets("news").len() == 11, || format!("{:?}", node.offsets("news"))).await;
    // The same for a stream that someone deletes, or empties.
    let client = stranger(&server).await;
    for (lost, what) in [(2, "STREAM.DELETE.duplex-history"), (3, "STREAM.PURGE.duplex-history")] {
        let before = publish(&one, 1).await;
        until(|| node.offsets("news").last() == Some(&before.offset), || "not delivered".to_owned()).await;
        assert!(api(&client, what, "").await.contains("\"success\":true"));
        assert_ne!(publish(&one, 1).await.epoch, before.epoch);
        until(|| told(&node) == lost, || format!("told {} times", told(&node))).await;
    }
}

#[tokio::test]
async fn what_was_delivered_and_then_lost_begins_a_new_epoch() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    let before = publish(&one, 10).await;
    delivered(&node, 1..=10).await;
    // As if the last three had not reached the disk before the machine went down: there is no such message any more.
    let client = stranger(&server).await;
    let behind = format!("1 {} 7 0 100 300000 1 \n", before.epoch);
    // The answer says that it is stored.
    client.request("duplex.h.-.news", behind.into()).await.unwrap();
    let after = publish(&one, 1).await;
    assert_ne!(after.epoch, before.epoch);
    until(|| told(&node) == 1, || "not told".to_owned()).await;
    assert_eq!(missed(&*other, "news", before).await, None);
}

#[tokio::test]
async fn a_silent_nats_fails_calls_in_time_and_heals() {
    let mut server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 1).await;
    server.pause();
    // A process that is stopped is silent a moment later. In a lane, each call has its own time.
    let (published, read) = loop {
        let publishing = one.publish(draft("news", "x", 0), KEEP);
        let reading = one.history(&name("news"), Extent::Nothing);
        let both = async { tokio::join!(publishing, reading) };
        match tokio::time::timeout(PATIENCE, both).await.unwrap() {
            (Ok(_), _) => {}
            failed => break failed,
        }
    };
    assert_eq!(published, Err(BrokerError::NoAnswer));
    assert!(read.is_err());
    unreachable(&one).await;
    unreachable(&other).await;
    assert_eq!(one.publish(draft("news", "x", 0), KEEP).await, Err(BrokerError::Unreachable));
    server.resume();
    reachable(&one).await;
    // What had no answer may have been done.
    let last = publish(&one, 1).await;
    delivered(&node, 1..=last.offset).await;
    assert_eq!(told(&node), 0);
}

#[tokio::test]
async fn what_is_missed_while_a_connection_is_broken_is_read() {
    let server = duplex_rigs::Nats::start();
    let way = Way::to(&server).await;
    let ((_, one), (node, _other)) = pair_by(&server.url(), &way.url()).await;
    publish(&one, 10).await;
    for _ in 0..5 {
        way.cut();
        publish(&one, 10).await;
    }
    delivered(&node, 1..=60).await;
    assert_eq!(told(&node), 0);
    // What history no longer has is told.
    let few = Retention { publications: 2, ..KEEP };
    way.cut();
    for _ in 0..20 {
        one.publish(draft("news", "x", 0), few).await.unwrap();
    }
    let is_over = || told(&node) == 1 || node.offsets("news").len() == 80;
    until(is_over, || format!("{:?}", node.offsets("news"))).await;
    publish(&one, 1).await;
    until(|| node.offsets("news").last() == Some(&81), || format!("{:?}", node.offsets("news"))).await;
}

#[tokio::test]
async fn what_a_node_publishes_while_its_connection_breaks_is_published_once() {
    let server = duplex_rigs::Nats::start();
    let way = Way::to(&server).await;
    let ((_, one), (node, _other)) = pair_by(&way.url(), &server.url()).await;
    let mut account = Account::default();
    for round in 0..10 {
        reachable(&one).await;
        let some = node.offsets("news").len() + round % 3;
        let cut = async {
            until(|| node.offsets("news").len() >= some, || format!("no more than {some}")).await;
            way.cut();
        };
        tokio::join!(account.publish(&one, 50), cut);
    }
    assert!(!account.done.is_empty());
    account.is_delivered_by(&node).await;
}

#[tokio::test]
async fn a_cluster_goes_on_without_its_leader() {
    let mut servers = duplex_rigs::NatsCluster::start();
    let url = servers.urls().join(",").replace(",nats://", ",");
    let storage = NatsStorage { replicas: 3, ..NatsStorage::default() };
    let (one, (node, other)) = (broker(&url, 1, storage).1, broker(&url, 2, storage));
    reachable(&one).await;
    reachable(&other).await;
    other.listen(&name("news"), shard(0)).await.unwrap();
    let before = publish(&one, 10).await;
    assert_eq!(other.history(&name("news"), Extent::Nothing).await.unwrap().position, before);
    let leader = servers.leader().unwrap();
    servers.nodes()[leader].kill9();
    let mut failed = 0;
    let position = at_last(async || {
        let published = one.publish(draft("news", "after", 0), KEEP).await;
        failed += u64::from(published.is_err());
        published.ok()
    });
    let position = position.await;
    assert_eq!(position.epoch, before.epoch);
    // What had no answer may have been done.
    assert!((11..=11 + failed).contains(&position.offset), "{position:?}");
    delivered(&node, 1..=position.offset).await;
    assert_eq!(told(&node), 0);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "that is how this node is made slow")]
async fn a_node_that_is_too_slow_is_cut_off_and_reads_what_it_missed() {
    let more = "max_pending: 1MB\nwrite_deadline: \"500ms\"\n".to_owned();
    let server = duplex_rigs::Nats::start_with(&duplex_rigs::NatsOptions { more, ..Default::default() });
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let keep = Retention { publications: 5_000, ..KEEP };
    let text = "x".repeat(10_000);
    // The second node's thread stands still at the first delivery.
    let slow = node.events.lock().unwrap();
    let mut count = 0;
    while !server.log().contains("Slow Consumer") {
        let all: Vec<_> = (0..100).map(|_| one.publish(draft("news", &text, 0), keep)).collect();
        for publishing in all {
            count = publishing.await.unwrap().offset;
        }
        assert!(count < 5_000, "the server does not mind");
    }
    drop(slow);
    delivered(&node, 1..=count).await;
    assert_eq!(told(&node), 0);
}
