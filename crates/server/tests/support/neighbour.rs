//! A well-behaved client on the same server, who must not notice what others do.

use std::net::SocketAddr;

use super::http;
use super::native::Client;

const CHANNEL: &str = "neighbourhood";

pub struct Neighbour {
    client: Client,
    address: SocketAddr,
    said: u32,
}

impl Neighbour {
    /// Subscribes to a channel of its own.
    pub fn join(address: SocketAddr) -> Self {
        let (client, _) = Client::subscribe(address, CHANNEL);
        Self { client, address, said: 0 }
    }

    /// Panics unless it still gets what is published, all of it.
    pub fn check(&mut self) {
        self.said += 1;
        http::say(self.address, CHANNEL, &self.said.to_string());
        let publication = self.client.publication();
        assert_eq!(publication["data"], self.said.to_string(), "the neighbour missed something");
    }
}
