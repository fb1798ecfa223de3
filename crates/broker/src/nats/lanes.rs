//! Where calls wait for one another: those in one lane are carried out in order, lanes do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lanes of calls, which exist as long as something is in them.
pub(super) struct Lanes<K, J>(Mutex<HashMap<K, VecDeque<J>>>);

/// Whether someone carries out what is in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    There,
    /// Whoever hears this starts one, which takes what is in the lane until it is empty.
    Wanted,
}

impl<K, J> Default for Lanes<K, J> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, J> Lanes<K, J> {
    /// Puts a call at the end of a lane.
    pub fn push(&self, key: &K, job: J) -> Driver {
        let mut lanes = self.lock();
        match lanes.get_mut(key) {
            Some(lane) => {
                lane.push_back(job);
                Driver::There
            }
            None => {
                lanes.insert(key.clone(), VecDeque::from([job]));
                Driver::Wanted
            }
        }
    }

    /// All that is in a lane. If that is nothing, the lane and its driver end.
    pub fn take(&self, key: &K) -> Option<VecDeque<J>> {
        let mut lanes = self.lock();
        let jobs = lanes.get_mut(key).map(std::mem::take).filter(|jobs| !jobs.is_empty());
        if jobs.is_none() {
            lanes.remove(key);
        }
        jobs
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, VecDeque<J>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_one_driver_and_loses_nothing() {
        let lanes = Lanes::default();
        assert_eq!([lanes.push(&"a", 1), lanes.push(&"a", 2)], [Driver::Wanted, Driver::There]);
        assert_eq!(lanes.push(&"b", 9), Driver::Wanted);
        assert_eq!(lanes.take(&"a"), Some([1, 2].into()));
        assert_eq!(lanes.push(&"a", 3), Driver::There);
        assert_eq!(lanes.take(&"a"), Some([3].into()));
        assert_eq!(lanes.take(&"a"), None);
        assert_eq!(lanes.push(&"a", 4), Driver::Wanted);
    }
}
