//! A Redis Cluster of three masters.

use std::process::Command;

use super::{CLI, Redis, RedisOptions};
use crate::{eventually, free_port};

/// Three masters that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts them and waits until each has its slots.
    ///
    /// # Panics
    /// If the cluster cannot be made.
    pub fn start() -> Self {
        let options = || {
            let options = RedisOptions::default().with("cluster-enabled", "yes");
            // Otherwise it is the port and 10,000, which may be no port at all.
            options.with("cluster-port", free_port()).with("cluster-node-timeout", 1000)
        };
        let nodes: Vec<Redis> = (0..3).map(|_| Redis::start_with(&options())).collect();
        let mut create = Command::new(CLI);
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()))).arg("--cluster-yes");
        let output = create.output().expect("redis-cli comes with the server");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let is_ok = |node: &Redis| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        eventually("the cluster is whole", || nodes.iter().all(is_ok));
        Self { nodes }
    }

    /// Its masters.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Where clients may connect, in the order of the masters.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The slot of a key.
    ///
    /// # Panics
    /// If the first master is down.
    pub fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot is a number")
    }

    /// Which master has the slot, as it says itself.
    ///
    /// # Panics
    /// If none has.
    pub fn owner_of(&self, slot: u16) -> usize {
        let has = |node: &Redis| {
            let table = node.cli(&["CLUSTER", "NODES"]);
            let own = table.lines().find(|line| line.contains("myself")).unwrap_or_default();
            own.split(' ').skip(8).any(|range| contains(range, slot))
        };
        self.nodes.iter().position(has).expect("each slot has a master")
    }

    /// Moves a slot with its keys to another master.
    ///
    /// # Panics
    /// If a step of that is refused.
    pub fn move_slot(&mut self, slot: u16, to: usize) {
        let from = self.owner_of(slot);
        let ids: Vec<String> = self.nodes.iter().map(|node| node.cli(&["CLUSTER", "MYID"])).collect();
        let slot = slot.to_string();
        let set = |node: &Redis, state: &str, id: &str| {
            let answer = node.cli(&["CLUSTER", "SETSLOT", &slot, state, id]);
            assert_eq!(answer, "OK", "SETSLOT {slot} {state}");
        };
        set(&self.nodes[to], "IMPORTING", &ids[from]);
        set(&self.nodes[from], "MIGRATING", &ids[to]);
        let port = self.nodes[to].port().to_string();
        let keys = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100000"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            assert_eq!(self.nodes[from].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK");
        }
        // First whoever gets it: the other order leaves a moment without an owner.
        set(&self.nodes[to], "NODE", &ids[to]);
        set(&self.nodes[from], "NODE", &ids[to]);
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != from && *at != to);
        others.for_each(|(_, node)| set(node, "NODE", &ids[to]));
    }
}

/// Whether `7` or `5-9` has the slot; what is on its way is written in brackets.
fn contains(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&slot),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn slots_are_read_as_redis_writes_them() {
        assert!(contains("7", 7) && contains("5-9", 9) && contains("5-9", 5));
        assert!(!contains("7", 8) && !contains("5-9", 4) && !contains("[7->-abc]", 7));
    }
}
