//! Where other nodes come in.

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use duplex_transport::{Acceptor, BUSY, turn_away};
use tokio::sync::{mpsc, watch};

use crate::assemble::Stage;
use crate::doors::{self, Caller, Entrance, Errand, Seat, Site};
use crate::places::{Place, Places};

/// Accepts connections of other nodes, for each shard in turn. It goes on while the server stops: clients whose requests
/// come from there are told so, too.
pub(crate) async fn accept(
    acceptor: Acceptor,
    errands: Arc<[mpsc::Sender<Errand>]>,
    places: Arc<Places>,
    mut stage: watch::Receiver<Stage>,
) {
    let turn = AtomicUsize::new(0);
    let take = async |mut stream: TcpStream, peer: SocketAddr| {
        let Ok(place) = places.take_peers() else { return turn_away(&mut stream, BUSY) };
        let shard = turn.fetch_add(1, Relaxed) % errands.len();
        let errand = Box::new(move |site: &Rc<Site>| serve(site, stream, peer, place));
        // It fails only if the shard has stopped; then the connection is dropped with it.
        let _ = errands[shard].send(errand).await;
    };
    tokio::select! {
        () = acceptor.run(take, |count| places.exhausted(count)) => {}
        _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
    }
}

fn serve(site: &Rc<Site>, stream: TcpStream, peer: SocketAddr, place: Place) {
    match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => {
            let seat = Arc::new(Seat::take(Arc::clone(&site.taken), place));
            let caller = Arc::new(Caller { peer: peer.ip(), entrance: Entrance::Peers, seat });
            doors::serve(site, stream.into(), Bytes::new(), caller);
        }
        Err(error) => tracing::warn!(%error, "cannot serve a connection of another node"),
    }
}
