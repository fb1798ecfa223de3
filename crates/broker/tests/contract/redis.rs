//! The contract, kept by Redis in each of its forms, and what becomes of nodes that share one when it fails.

use duplex_broker::{Redis, Target};

use duplex_core::Cluster;

use super::*;

mod single {
    use super::*;

    contract!({
        let server = duplex_rigs::Redis::start();
        let rig = rig(&server.url()).await;
        (server, rig)
    });
}

mod sentinel {
    use super::*;

    contract!({
        let servers = duplex_rigs::RedisSentinel::start();
        let rig = rig(&sentinels(&servers)).await;
        (servers, rig)
    });
}

mod cluster {
    use super::*;

    contract!({
        let servers = duplex_rigs::RedisCluster::start();
        let rig = rig(&nodes(&servers)).await;
        (servers, rig)
    });
}

fn sentinels(servers: &duplex_rigs::RedisSentinel) -> String {
    let addresses: Vec<String> = servers.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{}/{}", addresses.join(","), servers.name())
}

fn nodes(servers: &duplex_rigs::RedisCluster) -> String {
    let addresses = servers
        .urls()
        .iter()
        .map(|url| url.trim_start_matches("redis://").trim_end_matches('/').to_owned())
        .collect::<Vec<_>>();
    format!("redis+cluster://{}", addresses.join(","))
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_random([number; 8])
}

fn broker(url: &str, number: u8) -> (Arc<Node>, Arc<Redis>) {
    let node = Arc::new(Node::default());
    let target = Target::parse(url).unwrap();
    let redis =
        Redis::start(target, "duplex", node_id(number), Arc::clone(&node) as Arc<dyn Deliver>).unwrap();
    (node, Arc::new(redis))
}

async fn reachable(broker: &Redis) {
    until(|| broker.health() == duplex_core::Health::Reachable, || "not reachable".to_owned()).await;
}

async fn rig(url: &str) -> Rig {
    let (node, broker) = broker(url, 1);
    reachable(&broker).await;
    Rig { node, broker }
}
