//! Two shards, a broker far away, some clients, and what happens to them.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use duplex_broker::{Capacity, Memory};
use duplex_core::{
    Backend, Call, ChannelName, EncodingId, Frame, Identity, Pending, Refusal, Retention, Said,
};
use duplex_engine::{
    Allow, Encoding, Flushed, Ground, Namespaces, Node, Opening, Overload, Pieces, Policy, Settings, Shard,
    Visibility, Who,
};

use crate::client::{Client, Connection, Heard, Pace, Spoken, View, Wire, Words};
use crate::dice::Dice;
use crate::weather::{Far, Way};

const CLIENTS: usize = 6;
const CHANNELS: [&str; 4] = ["a", "b", "told:room", "thin:ticker"];
/// Publications a channel keeps.
const KEPT: u64 = 8;
/// Steps in which everything must have come to rest.
const REST_STEPS: usize = 400;

/// How much of what happened, to be sure that it did.
#[derive(Debug, Default)]
pub struct Tally {
    publications: u64,
    delivered: usize,
    recovered: usize,
    unrecovered: usize,
    slow: usize,
    starved: usize,
    lost: u64,
    thinned_out: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let Self { publications, delivered, recovered, unrecovered, slow, starved, lost, thinned_out } =
            other;
        self.publications += publications;
        self.delivered += delivered;
        self.recovered += recovered;
        self.unrecovered += unrecovered;
        self.slow += slow;
        self.starved += starved;
        self.lost += lost;
        self.thinned_out += thinned_out;
    }

    /// A simulation in which nothing goes wrong proves nothing.
    pub fn check_that_it_was_a_storm(&self) {
        let happened = [
            self.delivered as u64,
            self.recovered as u64,
            self.unrecovered as u64,
            self.slow as u64,
            self.starved as u64,
            self.lost,
            self.thinned_out,
        ];
        assert!(happened.iter().all(|count| *count > 500), "too little happened: {self:?}");
    }
}

pub struct World {
    dice: Dice,
    node: Arc<Node>,
    way: Arc<Way>,
    far: Arc<Far>,
    shards: Vec<Rc<Shard>>,
    clients: Vec<Client>,
    now_ms: u64,
    said: u64,
    tally: Tally,
}

impl World {
    pub fn new(dice: Dice) -> Self {
        let settings = Settings { outbox_bytes: 1_500, position_check_ms: 5_000, ..Settings::default() };
        let encoding = Encoding { encode: Box::new(Words), plain: EncodingId(0), pieces: Pieces::Joined };
        let node = Arc::new(Node::new(2, vec![encoding], settings.inbox_bytes));
        let way = Arc::new(Way::new(Arc::clone(&node), Dice::new(dice.draw())));
        way.loses.store(dice.once_in(2), Relaxed);
        let memory = Arc::new(Memory::new(Capacity::default(), way.clone()));
        let far = Arc::new(Far { memory, dice: Mutex::new(Dice::new(dice.draw())), truth: Mutex::default() });
        let ground = Ground {
            node: Arc::clone(&node),
            broker: far.clone(),
            presence: far.clone(),
            backend: Arc::new(Anyone),
        };
        let namespaces = Arc::new(namespaces());
        let shard = |id| Shard::new(id, ground.clone(), settings, Arc::clone(&namespaces));
        let shards = node.shards().map(shard).collect();
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self { dice, node, way, far, shards, clients, now_ms: 0, said: 0, tally: Tally::default() }
    }

    /// Something happens.
    pub async fn step(&mut self) {
        let client = self.dice.below(CLIENTS);
        match self.dice.below(16) {
            0 | 1 => self.come(client),
            2 => self.go(client),
            3..=5 => self.toggle(client),
            6..=9 => self.publish(client),
            10 => self.change_pace(client),
            11 => self.pass(100),
            _ => {}
        }
        self.breathe().await;
    }

    /// Some of what waits gets its turn.
    async fn breathe(&mut self) {
        for _ in 0..self.dice.below(3) {
            tokio::task::yield_now().await;
        }
        self.way.arrive(self.dice.below(4));
        let shard = &self.shards[self.dice.below(2)];
        if self.dice.once_in(2) {
            shard.drain();
        }
        while self.dice.below(4) > 0 && shard.flush() == Flushed::Some {}
        self.listen();
    }

    /// Everyone reads; whoever was sent away is gone.
    fn listen(&mut self) {
        let truth = self.far.truth.lock().unwrap().clone();
        for index in 0..CLIENTS {
            let Some(connection) = &self.clients[index].connection else { continue };
            if !connection.link.settle() {
                continue;
            }
            let Heard { closed, publications, recovered, unrecovered } =
                self.clients[index].listen(&truth, KEPT);
            self.tally.delivered += publications;
            self.tally.recovered += recovered;
            self.tally.unrecovered += unrecovered;
            if let Some(code) = closed {
                self.tally.slow += usize::from(code == 3008);
                self.tally.starved += usize::from(code == 3010);
                if std::env::var("SIMULATION_SEED").is_ok() {
                    println!("client {index} was closed with {code}");
                }
                assert!(matches!(code, 0 | 3008 | 3010 | 3012), "closed for no reason: {code}");
                self.hang_up(index);
            }
        }
    }

    fn come(&mut self, client: usize) {
        if self.clients[client].connection.is_some() {
            return;
        }
        let shard = self.dice.below(2);
        let link = Rc::new(Wire::default());
        let opening = Opening {
            link: link.clone(),
            protocol: Box::new(Spoken),
            encoding: EncodingId(0),
            identity: None,
            client: None,
            trail: None,
        };
        let key = self.shards[shard].open(opening);
        self.clients[client].connection = Some(Connection { shard, key, link });
        self.say(client, "connect");
        let back: Vec<(String, View)> = self.clients[client].views.clone().into_iter().collect();
        for (channel, view) in back {
            self.subscribe(client, &channel, view);
        }
    }

    fn subscribe(&self, client: usize, channel: &str, view: View) {
        match view.position {
            Some((epoch, offset)) => self.say(client, &format!("sub {channel} {epoch} {offset}")),
            None => self.say(client, &format!("sub {channel}")),
        }
    }

    /// Its network is gone, or it goes by itself.
    fn go(&mut self, client: usize) {
        if self.clients[client].connection.is_some() {
            self.hang_up(client);
        }
    }

    fn hang_up(&mut self, client: usize) {
        if let Some(Connection { shard, key, .. }) = &self.clients[client].connection {
            self.shards[*shard].ended(*key);
        }
        self.clients[client].disconnected();
    }

    fn toggle(&mut self, client: usize) {
        if self.clients[client].connection.is_none() {
            return;
        }
        let channel = *self.dice.pick(&CHANNELS);
        match self.clients[client].views.get(channel).map(|view| view.live) {
            None => {
                self.clients[client].views.insert(channel.to_owned(), View::default());
                self.say(client, &format!("sub {channel}"));
            }
            // What it has not read yet would come to somebody who is not subscribed any more.
            Some(true)
                if self.clients[client]
                    .connection
                    .as_ref()
                    .is_some_and(|c| c.link.pace.get() == Pace::Reads) =>
            {
                self.rest_of(client);
                if self.clients[client].connection.is_some() {
                    self.say(client, &format!("unsub {channel}"));
                    self.rest_of(client);
                    self.clients[client].forget(channel);
                }
            }
            Some(_) => {}
        }
    }

    /// A client that reads gets all that waits for it.
    fn rest_of(&mut self, client: usize) {
        let Some(Connection { shard, .. }) = self.clients[client].connection else { return };
        while self.shards[shard].flush() == Flushed::Some {}
        self.listen();
    }

    fn publish(&mut self, client: usize) {
        if self.clients[client].connection.is_none() {
            return;
        }
        for _ in 0..=self.dice.below(6) {
            self.said += 1;
            let channel = *self.dice.pick(&CHANNELS);
            self.say(client, &format!("pub {channel} \"{:0>100}\"", self.said));
        }
    }

    fn change_pace(&mut self, client: usize) {
        let Some(Connection { shard, key, link }) = &self.clients[client].connection else { return };
        let takes = Pace::Takes(1 + self.dice.below(200));
        let pace = *self.dice.pick(&[Pace::Reads, Pace::Reads, takes, Pace::Stuck, Pace::Dead]);
        link.pace.set(pace);
        self.shards[*shard].writable(*key);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for client in &self.clients {
            if let Some(Connection { shard, key, .. }) = &client.connection {
                self.shards[*shard].heard(*key);
            }
        }
        self.shards.iter().for_each(|shard| shard.tick(self.now_ms));
    }

    fn say(&self, client: usize, words: &str) {
        if let Some(Connection { shard, key, .. }) = &self.clients[client].connection {
            self.shards[*shard].heard(*key);
            self.shards[*shard].receive(*key, Frame::Text(words));
        }
    }

    /// The storm is over: everyone comes back and reads, and must end up with everything; then everyone leaves.
    pub async fn end(mut self) -> Tally {
        self.way.loses.store(false, Relaxed);
        let mut restless = REST_STEPS;
        while !self.is_at_rest() {
            restless -= 1;
            assert!(restless > 0, "no rest: {}", self.describe());
            for client in 0..CLIENTS {
                self.come(client);
                if let Some(Connection { shard, key, link }) = &self.clients[client].connection {
                    link.pace.set(Pace::Reads);
                    self.shards[*shard].writable(*key);
                }
            }
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            self.way.arrive(usize::MAX);
            self.pass(100);
            for shard in &self.shards {
                shard.drain();
                while shard.flush() == Flushed::Some {}
            }
            self.listen();
        }
        (0..CLIENTS).for_each(|client| self.hang_up(client));
        let gauges = self.node.gauges();
        assert_eq!((gauges.sessions(), gauges.subscriptions()), (0, 0), "something is left");
        self.shards.iter().for_each(|shard| shard.tick(self.now_ms + 1));
        assert_eq!(gauges.outbox_bytes(), 0, "something is left in outboxes");
        let present =
            duplex_core::Presence::present(&*self.far, &ChannelName::parse("told:room").unwrap(), 9)
                .await
                .unwrap();
        assert_eq!(present.attendance.clients, 0, "somebody is present who has left");
        self.tally.publications = self.said;
        self.tally.lost = self.way.lost.load(Relaxed);
        self.tally.thinned_out = gauges.thinned_out();
        self.tally
    }

    /// Whether every client is connected, subscribed to all that it wants, and stands where its channels stand.
    fn is_at_rest(&self) -> bool {
        let truth = self.far.truth.lock().unwrap().clone();
        self.clients.iter().all(|client| {
            client.connection.is_some()
                && client.views.iter().all(|(channel, view)| {
                    let top = truth.iter().rev().find(|said| &*said.channel == channel.as_str());
                    let stands = view.position.as_ref().map_or(0, |(_, offset)| *offset);
                    let epoch = view.position.as_ref().map(|(epoch, _)| epoch.clone());
                    view.live
                        && top.is_none_or(|top| {
                            // A channel that nobody listened to and that kept nothing begins again.
                            Some(top.position.epoch.to_string()) != epoch || stands == top.position.offset
                        })
                })
        })
    }

    fn describe(&self) -> String {
        let views = self.clients.iter().map(|client| (client.connection.is_some(), &client.views));
        format!("{:#?}", views.collect::<Vec<_>>())
    }
}

fn namespaces() -> Namespaces {
    let open = Policy {
        allow: Allow::all(Who::Anyone),
        retention: Retention { publications: KEPT as usize, ttl_ms: u64::from(u32::MAX) },
        ..Policy::default()
    };
    let mut namespaces = Namespaces::one(open.clone());
    let told = Policy { attendance: Visibility::Announced, ..open.clone() };
    namespaces.named.insert("told".into(), Arc::new(told));
    let thin = Policy { overload: Overload::Latest { key: None }, ..open };
    namespaces.named.insert("thin".into(), Arc::new(thin));
    namespaces
}

/// Believes everyone.
struct Anyone;

impl Backend for Anyone {
    fn connect(&self, _: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        Box::pin(std::future::ready(Ok(Identity::default())))
    }

    fn subscribe(&self, _: &Identity, _: &ChannelName, _: &str) -> Pending<Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn call(&self, _: Call) -> Pending<Result<Said, Refusal>> {
        Box::pin(std::future::pending())
    }
}
