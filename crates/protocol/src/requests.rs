//! What the application asked a client, until it answers.

use std::collections::VecDeque;

use duplex_core::RequestId;

/// Questions that a client has not answered, at most.
const REQUESTS_MAX: usize = 1_000;

/// What a client was asked and has not answered. Takes no memory until there was something.
#[derive(Debug, Default)]
pub(crate) struct Requests(Option<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// With the numbers by which the client answers.
    open: VecDeque<(u64, RequestId)>,
    /// Numbers given.
    numbers: u64,
}

impl Requests {
    /// Another one. The client is to answer by this number.
    pub fn ask(&mut self, request: RequestId) -> u64 {
        let Inner { open, numbers } = &mut **self.0.get_or_insert_default();
        // An answer to the oldest would not be waited for any more.
        if open.len() == REQUESTS_MAX {
            open.pop_front();
        }
        let number = *numbers;
        *numbers += 1;
        open.push_back((number, request));
        number
    }

    /// What the client answers by a number. What it was not asked, or has answered, is `None`.
    pub fn answered(&mut self, number: u64) -> Option<RequestId> {
        let open = &mut self.0.as_mut()?.open;
        let place = open.iter().position(|(known, _)| *known == number)?;
        open.remove(place).map(|(_, request)| request)
    }

    /// Takes all that is not answered.
    pub fn take(&mut self) -> Vec<RequestId> {
        let open = self.0.as_mut().map(|inner| std::mem::take(&mut inner.open)).unwrap_or_default();
        open.into_iter().map(|(_, request)| request).collect()
    }
}
