use std::collections::BTreeMap;
use std::fmt;

use super::definitions::{DEFINITIONS, Live, NAMESPACE};
use crate::Options;

/// An option that a reload changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub path: String,
    pub before: String,
    pub after: String,
    pub effect: Effect,
}

/// When a change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Now.
    AtOnce,
    /// When the server is started again.
    AfterRestart,
}

/// What differs between two configurations, by path.
pub fn changes(before: &Options, after: &Options) -> Vec<Change> {
    let (before, after) = (shown(before), shown(after));
    let paths = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    let nothing = (String::new(), Effect::AtOnce);
    let mut changes: Vec<Change> = paths
        .filter_map(|path| {
            let (old, effect) = before.get(path).unwrap_or(&nothing);
            let (new, _) = after.get(path).unwrap_or(&nothing);
            let change =
                || Change { path: path.clone(), before: old.clone(), after: new.clone(), effect: *effect };
            (old != new).then(change)
        })
        .collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// Each option as text.
fn shown(options: &Options) -> BTreeMap<String, (String, Effect)> {
    let own = DEFINITIONS.iter().map(|definition| {
        let effect = match definition.live {
            Live::AtOnce => Effect::AtOnce,
            Live::AfterRestart => Effect::AfterRestart,
        };
        (definition.path.to_owned(), (definition.show(options), effect))
    });
    let of_namespaces = options.namespaces.iter().flat_map(|(name, namespace)| {
        NAMESPACE.iter().map(move |definition| {
            let path = format!("namespace.{name}.{}", definition.path);
            (path, (definition.show(namespace), Effect::AtOnce))
        })
    });
    own.chain(of_namespaces).collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &str| if value.is_empty() { "none".to_owned() } else { value.to_owned() };
        write!(f, "{}: {} -> {}", self.path, word(&self.before), word(&self.after))?;
        match self.effect {
            Effect::AtOnce => Ok(()),
            Effect::AfterRestart => f.write_str(" (counts after a restart)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_told_with_when_it_counts() {
        let before = Options::default();
        let mut after = before.clone();
        after.settings.subscriptions = 5;
        after.shards = before.shards + 1;
        after.auth.api_keys.push("name:0123456789abcdef".to_owned());
        after.namespaces.entry("chat".to_owned()).or_default().policy.retention.publications = 7;
        let told: Vec<String> = changes(&before, &after).iter().map(Change::to_string).collect();
        let contains = |part: &str| told.iter().any(|line| line.starts_with(part));
        assert!(contains("client.subscriptions_max: 128 -> 5"), "{told:?}");
        assert!(contains("api.keys: none -> (hidden "), "{told:?}");
        assert!(contains("namespace.chat.history.size: none -> 7"), "{told:?}");
        let shards = format!("server.shards: {} -> {} (counts after a restart)", before.shards, after.shards);
        assert!(contains(&shards), "{told:?}");
        assert_eq!(changes(&before, &before), []);
    }
}
