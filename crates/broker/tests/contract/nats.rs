//! The contract, kept by NATS, and what becomes of nodes that share it when it fails.

use duplex_broker::{Nats, NatsStorage, NatsTarget};
use duplex_core::{Cluster, Health};

use super::*;

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
