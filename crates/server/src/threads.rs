//! The threads of a server: shards, and who brings them their clients.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use duplex_core::ShardId;
use duplex_engine::unix_ms;
use duplex_transport::{Acceptor, BUSY, TOO_MANY, turn_away};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval};

use crate::assemble::{Parts, Stage};
use crate::carrier::Carrier;
use crate::doors::{self, Caller, Entrance, Errand, Seat, Site};
use crate::drain;
use crate::places::{Full, Place, Places};
use crate::tls::Tls;

/// Accepted sockets that may wait for a shard; beyond it they wait in the kernel's backlog.
const WAITING_SOCKETS_MAX: usize = 1_024;
/// How often a shard looks at its deadlines.
const TICK: Duration = Duration::from_millis(100);
/// How often what is out of date is dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// A shard as the acceptor sees it.
pub(crate) struct Worker {
    sockets: mpsc::Sender<Guest>,
    /// Connections it has or will have.
    taken: Arc<AtomicUsize>,
}

/// A connection that was accepted.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    speech: Speech,
}

/// How clients of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Plain,
    Tls,
}

/// Starts the thread of a shard; returns when its event loop is there.
pub(crate) fn start_shard(
    id: ShardId,
    parts: Parts,
    errands: mpsc::Receiver<Errand>,
) -> io::Result<(JoinHandle<()>, Worker)> {
    let taken: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&taken);
    let (sockets, waiting) = mpsc::channel(WAITING_SOCKETS_MAX);
    let (report, started) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("shard-{}", id.index())).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let (runtime, outcome) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The starter waits for it, unless it has given up; then there is nobody to tell.
        let _ = report.send(outcome);
        if let Some(runtime) = runtime {
            runtime.block_on(run_shard(parts.site(id, counted), parts, waiting, errands));
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok((thread, Worker { sockets, taken }))
}

/// Accepts connections until the server stops; each goes to the shard with the fewest.
pub(crate) async fn accept(
    acceptor: Acceptor,
    speech: Speech,
    workers: &[Worker],
    places: &Arc<Places>,
    mut stage: watch::Receiver<Stage>,
) {
    let take = async |mut stream: TcpStream, peer: SocketAddr| {
        let mut turn_away = |status| {
            // Whoever speaks TLS would not understand it.
            if speech == Speech::Plain {
                turn_away(&mut stream, status);
            }
        };
        let place: Place = match places.take(peer.ip(), unix_ms()) {
            Ok(place) => place,
            Err(Full::Node) => return turn_away(BUSY),
            Err(Full::Address) => return turn_away(TOO_MANY),
        };
        let Some(worker) = workers.iter().min_by_key(|worker| worker.taken.load(Relaxed)) else { return };
        let seat = Seat::take(Arc::clone(&worker.taken), place);
        // It fails only if the shard has stopped; then the connection is dropped with it.
        let _ = worker.sockets.send(Guest { stream, peer, seat, speech }).await;
    };
    tokio::select! {
        () = acceptor.run(take, |count| places.exhausted(count)) => {}
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
    }
}

/// Has what is out of date forgotten, until the server stops.
pub(crate) async fn sweep(
    carrier: &Carrier,
    places: &Places,
    tls: Option<&Tls>,
    mut stage: watch::Receiver<Stage>,
) {
    let sweeping = async {
        let mut sweeps = interval(SWEEP);
        loop {
            sweeps.tick().await;
            carrier.sweep(unix_ms());
            places.sweep(unix_ms());
            tls.inspect(|tls| tls.watch(SystemTime::now()));
        }
    };
    tokio::select! {
        () = sweeping => {}
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
    }
}

/// The life of a shard.
async fn run_shard(
    site: Rc<Site>,
    mut parts: Parts,
    mut guests: mpsc::Receiver<Guest>,
    errands: mpsc::Receiver<Errand>,
) {
    tokio::task::spawn_local(doors::run_errands(Rc::clone(&site), errands));
    let turns = tokio::task::spawn_local(Rc::clone(&site.shard).turns());
    let ticks = tokio::task::spawn_local(ticks(Rc::clone(&site)));
    loop {
        tokio::select! {
            _ = parts.stage.wait_for(|stage| *stage != Stage::Serving) => break,
            changed = parts.live.changed() => match changed {
                Ok(()) => site.go_by(Arc::clone(&parts.live.borrow_and_update())),
                Err(_) => break,
            },
            guest = guests.recv() => match guest {
                Some(guest) => serve(&site, guest, parts.tls.as_ref()),
                None => break,
            }
        }
    }
    drop(guests);
    drain::send_away(&site.shard, site.live().drain, parts.node.shards().count(), parts.stage).await;
    turns.abort();
    ticks.abort();
}

fn serve(site: &Rc<Site>, guest: Guest, tls: Option<&Arc<Tls>>) {
    let Guest { stream, peer, seat, speech } = guest;
    let socket = match tokio::net::TcpStream::from_std(stream) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    let caller = Arc::new(Caller { peer: peer.ip(), entrance: Entrance::Public, seat: Arc::new(seat) });
    match (speech, tls.map(Arc::clone)) {
        (Speech::Plain, _) => doors::serve(site, socket.into(), Bytes::new(), caller),
        (Speech::Tls, Some(tls)) => {
            let site = Rc::clone(site);
            tokio::task::spawn_local(async move {
                let patience = site.live().head_timeout;
                if let Some(stream) = Box::pin(tls.accept(socket, patience)).await {
                    doors::serve(&site, stream, Bytes::new(), caller);
                }
            });
        }
        (Speech::Tls, None) => {}
    }
}

async fn ticks(site: Rc<Site>) {
    let mut ticks = interval(TICK);
    let mut clock = Clock { now: Duration::ZERO, before: Instant::now() };
    loop {
        ticks.tick().await;
        let now = Instant::now();
        site.shard.tick(clock.advance(now));
        site.recoveries.sweep(&site, now);
        site.engines.sweep(now);
    }
}

/// The clock of a shard goes on while the shard does: after a pause, in which it could not read what clients sent, nobody
/// has been silent for as long as the pause was.
struct Clock {
    now: Duration,
    before: Instant,
}

impl Clock {
    /// Milliseconds of the shard's time.
    fn advance(&mut self, at: Instant) -> u64 {
        self.now += (at - self.before).min(TICK * 2);
        self.before = at;
        u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_shard_is_not_a_silence_of_its_clients() {
        let start = Instant::now();
        let mut clock = Clock { now: Duration::ZERO, before: start };
        let at = |ms| start + Duration::from_millis(ms);
        let times = [100, 210, 60_000, 60_001, 60_100].map(|ms| clock.advance(at(ms)));
        assert_eq!(times, [100, 210, 410, 411, 510]);
    }
}
