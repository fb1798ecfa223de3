//! Which Redis: one server, the master that Sentinel names, or a cluster.

use std::time::Duration;

use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisFuture, RedisResult, Value,
};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Where Redis is, from a URL.
#[derive(Debug, Clone)]
pub struct RedisTarget(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Single(Box<ConnectionInfo>),
    Sentinel { addresses: Vec<(String, u16)>, master: String, credentials: Credentials },
    Cluster { nodes: Vec<String> },
}

#[derive(Debug, Clone, Default)]
struct Credentials {
    user: Option<String>,
    password: Option<String>,
}

/// Why a URL names no Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RedisTargetError {
    #[error(
        "{0:?} is no address of Redis; write redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or \
         redis+cluster://HOST:PORT,HOST:PORT, with USER:PASSWORD@ before the first host if it needs them"
    )]
    Malformed(String),
}

impl RedisTarget {
    /// Reads a URL.
    ///
    /// # Errors
    /// It names no Redis.
    pub fn parse(url: &str) -> Result<Self, RedisTargetError> {
        let malformed = || RedisTargetError::Malformed(without_password(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            hosts.rsplit_once('@').map_or((None, hosts), |(login, hosts)| (Some(login), hosts));
        let addresses = || hosts.split(',').map(address).collect::<Option<Vec<_>>>().ok_or_else(malformed);
        let kind = match scheme {
            "redis" => {
                let info = url.into_connection_info().map_err(|_| malformed())?;
                let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                Kind::Single(Box::new(info.set_redis_settings(settings)))
            }
            "redis+sentinel" if !path.is_empty() => {
                let credentials = login.map(Credentials::parse).unwrap_or_default();
                Kind::Sentinel { addresses: addresses()?, master: path.to_owned(), credentials }
            }
            "redis+cluster" if path.is_empty() => {
                let login = login.map(|login| format!("{login}@")).unwrap_or_default();
                let node = |(host, port)| format!("redis://{login}{host}:{port}/?protocol=resp3");
                Kind::Cluster { nodes: addresses()?.into_iter().map(node).collect() }
            }
            _ => return Err(malformed()),
        };
        Ok(Self(kind))
    }

    /// Whether channels are spread over several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0, Kind::Cluster { .. })
    }

    /// Connects. What the server says by itself goes to `pushed`.
    pub(super) async fn connect(&self, pushed: Option<impl AsyncPushSender>) -> RedisResult<Connection> {
        match &self.0 {
            Kind::Single(info) => single(&Client::open(info.as_ref().clone())?, pushed).await,
            Kind::Sentinel { addresses, master, credentials } => {
                let addresses = addresses.iter().map(|(host, port)| ConnectionAddr::Tcp(host.clone(), *port));
                let mut sentinel =
                    SentinelClientBuilder::new(addresses, master.clone(), SentinelServerType::Master)?
                        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
                if let Some(user) = &credentials.user {
                    sentinel = sentinel.set_client_to_redis_username(user);
                }
                if let Some(password) = &credentials.password {
                    sentinel = sentinel.set_client_to_redis_password(password);
                }
                single(&sentinel.build()?.async_get_client().await?, pushed).await
            }
            Kind::Cluster { nodes } => {
                let mut cluster = ClusterClient::builder(nodes.iter().map(String::as_str))
                    .use_protocol(ProtocolVersion::RESP3)
                    .connection_timeout(CONNECT)
                    .response_timeout(ANSWER)
                    .overall_response_timeout(Some(ANSWER))
                    .retries(8);
                if let Some(pushed) = pushed {
                    cluster = cluster.push_sender(pushed);
                }
                Ok(Connection::Cluster(cluster.build()?.get_async_connection().await?))
            }
        }
    }
}

async fn single(client: &Client, pushed: Option<impl AsyncPushSender>) -> RedisResult<Connection> {
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(ANSWER))
        .set_pipeline_buffer_size(4_096);
    if let Some(pushed) = pushed {
        config = config.set_push_sender(pushed);
    }
    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
}

impl Credentials {
    fn parse(login: &str) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match login.split_once(':') {
            Some((user, password)) => Self { user: some(user), password: some(password) },
            None => Self { user: some(login), password: None },
        }
    }
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

/// A connection to one server or to a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_sentinels_or_a_cluster_and_nothing_else() {
        for right in [
            "redis://127.0.0.1:6379",
            "redis://user:secret@redis.internal:6379/2",
            "redis+sentinel://a:26379,b:26379/main",
            "redis+sentinel://:secret@a:26379/main",
            "redis+cluster://a:7000,b:7001",
        ] {
            assert!(RedisTarget::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "localhost:6379",
            "http://a:1",
            "redis+sentinel://a:1",
            "redis+cluster://a",
            "redis+cluster://a:1/0",
        ] {
            assert!(RedisTarget::parse(wrong).is_err(), "{wrong}");
        }
        let error = RedisTarget::parse("rediss+x://user:secret@a:1").unwrap_err().to_string();
        assert!(error.contains("rediss+x://…@a:1") && !error.contains("secret"), "{error}");
    }
}
