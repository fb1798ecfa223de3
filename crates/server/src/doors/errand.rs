//! What a request wants done on the shard of its session, when it came in on another.

use std::rc::Rc;

use duplex_core::ShardId;
use duplex_transport::Stream;
use tokio::sync::{mpsc, oneshot};

use super::Site;

/// Something to be done on another shard.
pub(crate) type Errand = Box<dyn FnOnce(&Rc<Site>) + Send>;

/// Does what is wanted on this shard. Also while the server stops: sessions end in an orderly way.
pub(crate) async fn run(site: Rc<Site>, mut errands: mpsc::Receiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        errand(&site);
    }
}

impl Site {
    /// Whether what is on `shard` is to be looked for here: also what is on no shard at all, and so is not found.
    pub fn is_place_of(&self, shard: ShardId) -> bool {
        shard == self.id || shard.index() >= self.errands.len()
    }

    /// Has something done on another shard, which sends what comes of it. `None` if that shard has too much to do, or there
    /// is no such shard.
    pub fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        act: impl FnOnce(&Rc<Site>) -> T + Send + 'static,
    ) -> Option<oneshot::Receiver<T>> {
        let (answer, answered) = oneshot::channel();
        // Whoever does not wait for the answer any more has gone.
        let errand = Box::new(move |site: &Rc<Site>| drop(answer.send(act(site))));
        self.errands.get(shard.index())?.try_send(errand).ok()?;
        Some(answered)
    }

    /// Moves a socket, and what belongs to it, to another shard, where `arrive` has it.
    ///
    /// # Errors
    /// That shard has too much to do, or there is no such shard: the socket stays here.
    pub fn move_socket<T: Send + 'static>(
        &self,
        shard: ShardId,
        stream: Stream,
        baggage: T,
        arrive: impl FnOnce(&Rc<Site>, Stream, T) + Send + 'static,
    ) -> Result<(), (Stream, T)> {
        let permit = self.errands.get(shard.index()).and_then(|errands| errands.try_reserve().ok());
        let Some(permit) = permit else { return Err((stream, baggage)) };
        match stream.detach() {
            Ok(moving) => permit.send(Box::new(move |site| match moving.attach() {
                Ok(stream) => arrive(site, stream, baggage),
                Err(error) => tracing::warn!(%error, "cannot take a connection over from another shard"),
            })),
            Err(error) => tracing::warn!(%error, "cannot bring a connection to its shard"),
        }
        Ok(())
    }
}
