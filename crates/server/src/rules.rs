//! How the names and payloads of a namespace must look.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use duplex_core::{ChannelName, Payload};
use duplex_engine::{Namespaces, Others, Overload, Policy, Rules};
use jsonschema::Validator;
use regex::Regex;

use crate::options::Mode;
use crate::{Namespace, Options};

/// Largest compiled pattern, bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The rules of one namespace.
struct NamespaceRules {
    pattern: Option<Regex>,
    schema: Option<Validator>,
}

impl fmt::Debug for NamespaceRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRules").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

impl Rules for NamespaceRules {
    fn name(&self, channel: &ChannelName) -> Result<(), String> {
        match &self.pattern {
            Some(pattern) if !pattern.is_match(channel) => {
                Err("the name does not match the pattern of its namespace".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn payload(&self, payload: &Payload) -> Result<(), String> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let value = serde_json::from_str(payload.json().as_str())
            .map_err(|_| "is not within what JSON can say; send numbers that fit".to_owned())?;
        schema.validate(&value).map_err(|error| {
            let at = error.instance_path().to_string();
            let place = if at.is_empty() { "the payload".to_owned() } else { at };
            format!("does not satisfy the schema of its namespace: {place}: {error}")
        })
    }
}

/// The policies of all namespaces.
///
/// # Errors
/// What is wrong, with the path of the option.
pub(crate) fn namespaces(options: &Options) -> Result<Namespaces, String> {
    let mut named = std::collections::HashMap::new();
    for (name, namespace) in &options.namespaces {
        let policy = policy(namespace, options.mode)
            .map_err(|(key, problem)| format!("namespace.{name}.{key}: {problem}"))?;
        named.insert(name.as_str().into(), Arc::new(policy));
    }
    let default = match named.get("default") {
        Some(policy) => Arc::clone(policy),
        None => Arc::new(Namespace::default().policy(options.mode)),
    };
    let others = match options.mode {
        Mode::Dev => Others::LikeDefault,
        Mode::Closed => Others::Refused,
    };
    Ok(Namespaces { default, named, others })
}

fn policy(namespace: &Namespace, mode: Mode) -> Result<Policy, (&'static str, String)> {
    let policy = namespace.policy(mode);
    if namespace.key.is_some() && !matches!(policy.overload, Overload::Latest { .. }) {
        return Err((
            "overload.key",
            "only counts with overload.policy = \"latest\"; set that too".to_owned(),
        ));
    }
    if policy.deliveries.is_some() && policy.overload == Overload::Disconnect {
        let problem = "needs overload.policy = \"drop_oldest\" or \"latest\", which say what is left out";
        return Err(("overload.deliveries_per_second", problem.to_owned()));
    }
    let pattern =
        namespace.pattern.as_deref().map(pattern).transpose().map_err(|problem| ("pattern", problem))?;
    let schema =
        namespace.schema.as_deref().map(schema).transpose().map_err(|problem| ("schema", problem))?;
    if pattern.is_none() && schema.is_none() {
        return Ok(policy);
    }
    Ok(Policy { rules: Some(Arc::new(NamespaceRules { pattern, schema })), ..policy })
}

/// The pattern must match the whole name.
fn pattern(text: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(PATTERN_BYTES_MAX).build();
    built.map_err(|error| format!("{text:?} is not a regular expression: {error}"))
}

fn schema(path: &Path) -> Result<Validator, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let schema: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
    jsonschema::validator_for(&schema).map_err(|error| format!("{shown} is not a JSON Schema: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(change: impl FnOnce(&mut Namespace)) -> Result<Policy, String> {
        let mut namespace = Namespace::default();
        change(&mut namespace);
        policy(&namespace, Mode::Closed).map_err(|(key, problem)| format!("{key}: {problem}"))
    }

    #[test]
    fn a_pattern_is_for_the_whole_name() {
        let policy = namespace(|namespace| namespace.pattern = Some("room:[0-9]+|lobby".to_owned())).unwrap();
        let rules = policy.rules.unwrap();
        for (name, right) in [("room:7", true), ("lobby", true), ("room:7x", false), ("xlobby", false)] {
            assert_eq!(rules.name(&ChannelName::parse(name).unwrap()).is_ok(), right, "{name}");
        }
        let problem = namespace(|namespace| namespace.pattern = Some("(".to_owned())).unwrap_err();
        assert!(problem.starts_with("pattern: \"(\" is not a regular expression"), "{problem}");
    }

    #[test]
    fn options_that_only_make_sense_together_are_checked() {
        let problem = namespace(|namespace| namespace.key = Some("symbol".to_owned())).unwrap_err();
        assert!(problem.starts_with("overload.key: only counts with"), "{problem}");
        let rate = duplex_core::Rate { per_second: 1, burst: 1 };
        let problem = namespace(|namespace| namespace.policy.deliveries = Some(rate)).unwrap_err();
        assert!(problem.starts_with("overload.deliveries_per_second: needs"), "{problem}");
    }
}
