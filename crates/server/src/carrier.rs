//! The broker that the options name.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use duplex_broker::{Memory, Nats, NatsTarget, Redis, RedisTarget};
use duplex_core::{Broker, Cluster, Deliver, Health, NodeId, Presence};

use crate::options::{AtStart, BrokerPlace};
use crate::{Options, StartError};

/// How long a broker may take to be there, if the server does not start without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What carries publications, by what it does.
#[derive(Clone)]
pub(crate) struct Carrier {
    pub broker: Arc<dyn Broker>,
    pub presence: Arc<dyn Presence>,
    /// What it does for other nodes, if there can be any.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// It is in this process, and must be swept.
    memory: Option<Arc<Memory>>,
}

impl Carrier {
    /// The one that the options name; it hands on what comes to `node`.
    pub fn start(options: &Options, id: NodeId, node: Arc<dyn Deliver>) -> Result<Self, StartError> {
        let prefix = &options.broker.prefix;
        let carrier = match &options.broker.place {
            BrokerPlace::Memory => Self::in_memory(Arc::new(Memory::new(options.capacity, node))),
            BrokerPlace::Redis(target, _) => {
                Self::of(Arc::new(Redis::start(RedisTarget::clone(target), prefix, id, node)?))
            }
            BrokerPlace::Nats(target, _) => {
                let (target, storage) = (NatsTarget::clone(target), options.broker.nats);
                Self::of(Arc::new(Nats::start(target, storage, prefix, id, node)?))
            }
        };
        match options.broker.at_start {
            AtStart::Wait => Ok(carrier),
            AtStart::Exit => carrier.expect(),
        }
    }

    fn in_memory(memory: Arc<Memory>) -> Self {
        Self { broker: memory.clone(), presence: memory.clone(), cluster: None, memory: Some(memory) }
    }

    fn of<T: Broker + Presence + Cluster + 'static>(broker: Arc<T>) -> Self {
        Self { broker: broker.clone(), presence: broker.clone(), cluster: Some(broker), memory: None }
    }

    /// Waits for the broker, but not for ever.
    fn expect(self) -> Result<Self, StartError> {
        let deadline = Instant::now() + PATIENCE;
        while self.health() == Health::Unreachable {
            if Instant::now() >= deadline {
                return Err(StartError::Broker);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Whether it can be reached now.
    pub fn health(&self) -> Health {
        self.cluster.as_ref().map_or(Health::Reachable, |cluster| cluster.health())
    }

    /// Forgets what has expired. Brokers that are elsewhere do that by themselves.
    pub fn sweep(&self, now_ms: u64) {
        if let Some(memory) = &self.memory {
            memory.sweep(now_ms);
        }
    }
}
