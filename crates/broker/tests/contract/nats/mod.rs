//! The contract, kept by NATS, and what becomes of nodes that share it when it fails.

use duplex_broker::{Nats, NatsStorage, NatsTarget};
use duplex_core::{Cluster, Health, Recipient};

use super::*;

mod faults;
mod members;

mod single {
    use super::*;

    contract!({
        let server = duplex_rigs::Nats::start();
        let rig = rig(&server.url()).await;
        (server, rig)
    });
}

mod cluster {
    use super::*;

    contract!({
        let servers = duplex_rigs::NatsCluster::start();
        let storage = NatsStorage { replicas: 3, ..NatsStorage::default() };
        let (node, broker) = broker(&servers.urls().join(",").replace(",nats://", ","), 1, storage);
        reachable(&broker).await;
        (servers, Rig { node, broker })
    });
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_random([number; 8])
}

fn broker(url: &str, number: u8, storage: NatsStorage) -> (Arc<Node>, Arc<Nats>) {
    let node = Arc::new(Node::default());
    let target = NatsTarget::parse(url).unwrap();
    let nats = Nats::start(target, storage, "duplex", node_id(number), Arc::clone(&node) as Arc<dyn Deliver>);
    (node, Arc::new(nats.unwrap()))
}

async fn reachable(broker: &Nats) {
    until(|| broker.health() == Health::Reachable, || "not reachable".to_owned()).await;
}

async fn rig(url: &str) -> Rig {
    let (node, broker) = broker(url, 1, NatsStorage::default());
    reachable(&broker).await;
    Rig { node, broker }
}

type Member = (Arc<Node>, Arc<Nats>);

/// Two nodes that share a server, of which the second listens to `news` and knows where it stands.
async fn pair(url: &str) -> (Member, Member) {
    pair_by(url, url).await
}

/// The same, each by a way of its own.
async fn pair_by(url: &str, other_url: &str) -> (Member, Member) {
    let storage = NatsStorage::default();
    let (one, other) = (broker(url, 1, storage), broker(other_url, 2, storage));
    reachable(&one.1).await;
    reachable(&other.1).await;
    other.1.listen(&name("news"), shard(0)).await.unwrap();
    other.1.history(&name("news"), Extent::Nothing).await.unwrap();
    (one, other)
}

fn told(node: &Node) -> usize {
    node.missed.lock().unwrap().len()
}

async fn unreachable(broker: &Nats) {
    until(|| broker.health() == Health::Unreachable, || "still reachable".to_owned()).await;
}

/// Someone else who talks to the server.
async fn stranger(server: &duplex_rigs::Nats) -> async_nats::Client {
    async_nats::connect(server.url()).await.unwrap()
}

/// What JetStream's API answers.
async fn api(client: &async_nats::Client, name: &str, query: &str) -> String {
    let answer = client.request(format!("$JS.API.{name}"), query.to_owned().into()).await.unwrap();
    String::from_utf8(answer.payload.to_vec()).unwrap()
}

/// A way to the server that can be cut.
struct Way {
    port: u16,
    state: tokio::sync::watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Shut,
}

impl Way {
    async fn to(server: &duplex_rigs::Nats) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port());
        let state = tokio::sync::watch::Sender::new(State::Open);
        let changes = state.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut changes = changes.subscribe();
                if *changes.borrow_and_update() == State::Shut {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = changes.changed() => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Who is connected is no more.
    fn cut(&self) {
        self.is_now(State::Open);
    }

    fn is_now(&self, state: State) {
        self.state.send_replace(state);
    }
}

#[tokio::test]
async fn what_one_node_publishes_the_other_delivers() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 100).await;
    publish(&other, 1).await;
    delivered(&node, 1..=101).await;
    one.join(&name("news"), promises::member("ann", 1), Tell::Everyone).await.unwrap();
    until(|| node.changes() == "+ann", || node.changes()).await;
    let present = other.present(&name("news"), 9).await.unwrap();
    assert_eq!(present.attendance, Attendance { clients: 1, users: 1 });
}

#[tokio::test]
async fn nodes_that_publish_against_each_other_share_no_offset_and_none_waits_for_ever() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    let publish = |broker: Arc<Nats>| {
        tokio::spawn(async move {
            let all: Vec<_> = (0..1_000).map(|_| broker.publish(draft("news", "x", 0), KEEP)).collect();
            let mut offsets = Vec::new();
            for publishing in all {
                offsets.push(publishing.await.unwrap().offset);
            }
            assert!(offsets.is_sorted(), "a node's publications keep their order");
            offsets
        })
    };
    let (first, second) = (publish(Arc::clone(&one)), publish(Arc::clone(&other)));
    let mut all = [first.await.unwrap(), second.await.unwrap()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=2_000).collect::<Vec<_>>());
    delivered(&node, 1..=2_000).await;
}

#[tokio::test]
async fn a_key_is_known_to_all_nodes() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 40).await;
    let keyed = promises::keyed;
    let first = one.publish(keyed("a", "x"), KEEP).await.unwrap();
    publish(&other, 40).await;
    assert_eq!(other.publish(keyed("a", "x"), KEEP).await, Ok(first));
    assert_eq!(other.publish(keyed("a", "y"), KEEP).await, Err(BrokerError::KeyReused));
    let racing = (0..20).map(|_| [one.publish(keyed("b", "x"), KEEP), other.publish(keyed("b", "x"), KEEP)]);
    let racing: Vec<_> = racing.flatten().collect();
    for publishing in racing {
        assert_eq!(publishing.await, Ok(Position { offset: 82, ..first }));
    }
    delivered(&node, 1..=82).await;
}

#[tokio::test]
async fn what_is_longer_than_nats_takes_is_refused_and_says_so() {
    let options = duplex_rigs::NatsOptions { payload_bytes_max: Some(4_096), ..Default::default() };
    let server = duplex_rigs::Nats::start_with(&options);
    let ((first, one), (node, other)) = pair(&server.url()).await;
    let refused = one.publish(draft("news", &"x".repeat(5_000), 0), KEEP).await.unwrap_err().to_string();
    assert!(refused.contains("max_payload") && refused.contains("4096"), "{refused}");
    // Many that fit are not too long together.
    let all: Vec<_> = (0..20).map(|_| one.publish(draft("news", &"x".repeat(1_000), 0), KEEP)).collect();
    for publishing in all {
        publishing.await.unwrap();
    }
    delivered(&node, 1..=20).await;
    // Notes are sent in parts.
    let note: Bytes = (0..30_000).map(|byte| byte as u8).collect();
    other.send(Recipient::All, note.clone());
    other.send(Recipient::One(node_id(1)), Bytes::from_static(b"and another"));
    let notes = || first.notes.lock().unwrap().clone();
    until(|| notes().len() == 2, || format!("{}", notes().len())).await;
    assert_eq!(notes(), [(node_id(2), note), (node_id(2), "and another".into())]);
}

#[tokio::test]
async fn what_is_not_ours_is_passed_over() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    let before = publish(&one, 3).await;
    let client = stranger(&server).await;
    let epoch = before.epoch;
    let lies = [
        "".to_owned(),
        "x".to_owned(),
        "1 ".to_owned(),
        format!("2 {epoch} 4 0 100 1000 1 \n"),
        format!("1 {epoch} 4 1 100 1000 1 \n9\n1{{\"m\":"),
        "J1{}".to_owned(),
        "L".to_owned(),
    ];
    for lie in &lies {
        for subject in ["duplex.c.news", "duplex.n.all", "duplex.b"] {
            client.publish(subject, lie.clone().into()).await.unwrap();
        }
        // The answer says that it is stored.
        client.request("duplex.h.-.news", lie.clone().into()).await.unwrap();
    }
    assert_eq!(publish(&one, 1).await, Position { offset: 4, ..before });
    // A node that knows nothing of the channel finds what is ours behind what is not, too.
    client.request("duplex.h.-.news", "lie".into()).await.unwrap();
    let third = broker(&server.url(), 3, NatsStorage::default()).1;
    reachable(&third).await;
    assert_eq!(missed(&*third, "news", Position { offset: 1, ..before }).await, Some(vec![2, 3, 4]));
    assert_eq!(publish(&third, 1).await, Position { offset: 5, ..before });
    delivered(&node, 1..=5).await;
    assert_eq!((told(&node), other.health()), (0, Health::Reachable));
}

#[tokio::test]
async fn notes_reach_one_or_all_others_and_rows_are_kept() {
    let server = duplex_rigs::Nats::start();
    let ((first, one), (second, other)) = pair(&server.url()).await;
    for number in 0..100 {
        let to = if number % 3 == 0 { Recipient::All } else { Recipient::One(node_id(2)) };
        one.send(to, vec![number].into());
        one.send(Recipient::One(node_id(9)), Bytes::from_static(b"to nobody"));
    }
    let notes = || second.notes.lock().unwrap().clone();
    until(|| notes().len() == 100, || format!("{:?}", notes())).await;
    let expected: Vec<_> = (0..100).map(|number| (node_id(1), vec![number].into())).collect();
    assert_eq!(notes(), expected);
    assert_eq!(*first.notes.lock().unwrap(), []);
    crate::promises::rows(&*one, &*other).await;
}

#[tokio::test]
async fn nodes_log_in_as_a_user_or_with_a_token() {
    let users = "authorization { user: \"us@er\", password: \"p:w\" }\n";
    for (more, right, wrong) in [
        (users, "us%40er:p%3Aw", "us%40er:other"),
        ("authorization { token: \"secret\" }\n", "secret", "other"),
    ] {
        let options = duplex_rigs::NatsOptions { more: more.to_owned(), ..Default::default() };
        let server = duplex_rigs::Nats::start_with(&options);
        let url = |login: &str| format!("nats://{login}@127.0.0.1:{}", server.port());
        let stranger = broker(&url(wrong), 1, NatsStorage::default()).1;
        let ours = rig(&url(right)).await;
        ours.broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
        assert_eq!(stranger.health(), Health::Unreachable);
    }
}
