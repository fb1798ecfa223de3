//! Where options come from: the file, then the environment, then the command line; what comes later wins.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{DEFINITIONS, Definition};
use crate::Options;

/// Where an option was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// By this environment variable.
    Environment(String),
    /// By this flag.
    Flag(String),
}

/// What is wrong with the configuration: where, which key, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        problem: String,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {problem}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// There is no such option.
    #[error("{from}: {path}: no such option; did you mean {nearest}?")]
    Unknown {
        /// Where it was set.
        from: Source,
        /// What was set.
        path: String,
        /// The option whose name is most like it.
        nearest: String,
    },
    /// An option cannot have this value.
    #[error("{from}: {path}: {problem}")]
    Value {
        /// Where it was set.
        from: Source,
        /// What was set.
        path: String,
        /// What is wrong with it, and what it may be.
        problem: String,
    },
}

/// Reads the configuration. `variables` is the environment, `flags` are paths and values from the command line.
///
/// # Errors
/// All that is wrong, so that it can be mended at once.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: impl Iterator<Item = (&'static str, String)>,
) -> Result<Options, Vec<ConfigError>> {
    let mut loading = Loading { options: Options::default(), errors: Vec::new() };
    if let Some(path) = file {
        loading.file(path);
    }
    for (name, value) in variables {
        loading.variable(&name, &value);
    }
    for (path, value) in flags {
        let flag = definition(path).map_or_else(|| path.to_owned(), Definition::flag);
        loading.set(Source::Flag(flag), path, &value);
    }
    if loading.errors.is_empty() { Ok(loading.options) } else { Err(loading.errors) }
}

struct Loading {
    options: Options,
    errors: Vec<ConfigError>,
}

impl Loading {
    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let problem = error.to_string();
                return self.errors.push(ConfigError::Unreadable { path: path.to_owned(), problem });
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.table(&Source::File(path.to_owned()), "", table),
            Err(error) => {
                let problem = error.to_string().trim_end().to_owned();
                self.errors.push(ConfigError::NotToml { path: path.to_owned(), problem });
            }
        }
    }

    fn table(&mut self, from: &Source, prefix: &str, table: toml::Table) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) if definition(&path).is_none() => {
                    self.table(from, &format!("{path}."), inner)
                }
                value => match plain(&value) {
                    Some(text) => self.set(from.clone(), &path, &text),
                    None => {
                        let problem = "is not a number, a text or a list of texts".to_owned();
                        self.errors.push(ConfigError::Value { from: from.clone(), path, problem });
                    }
                },
            }
        }
    }

    /// A variable with our prefix and a section is meant for us, so a misspelt one is not passed over.
    fn variable(&mut self, name: &str, value: &str) {
        let Some(path) = name.strip_prefix("DUPLEX_").filter(|rest| rest.contains("__")) else { return };
        let path = path.replace("__", ".").to_ascii_lowercase();
        self.set(Source::Environment(name.to_owned()), &path, value);
    }

    fn set(&mut self, from: Source, path: &str, text: &str) {
        let path = path.to_owned();
        match definition(&path) {
            None => self.errors.push(ConfigError::Unknown { from, nearest: nearest(&path).to_owned(), path }),
            Some(definition) => {
                if let Err(problem) = definition.set(&mut self.options, text) {
                    self.errors.push(ConfigError::Value { from, path, problem });
                }
            }
        }
    }
}

fn definition(path: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.path == path)
}

/// A TOML value as the text that an option is set from.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn nearest(path: &str) -> &'static str {
    let likeness = |definition: &Definition| strsim::jaro_winkler(definition.path, path);
    let most_like = DEFINITIONS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    most_like.map_or("", |definition| definition.path)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads a file with this text; returns the options, or all errors without the name of the file.
    fn from_file(text: &str, variables: &[(&str, &str)]) -> Result<Options, Vec<String>> {
        let mut loading = Loading { options: Options::default(), errors: Vec::new() };
        loading.table(&Source::File("f".into()), "", text.parse().unwrap());
        for (name, value) in variables {
            loading.variable(name, value);
        }
        match loading.errors[..] {
            [] => Ok(loading.options),
            _ => Err(loading.errors.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = "[history]\nttl = \"90s\"\npublications_max = 7\n[server]\nallow_origin = [\"https://a.example\"]";
        let variables = [("DUPLEX_HISTORY__TTL", "2m"), ("DUPLEX_CONFIG", "x"), ("PATH", "y")];
        let options = from_file(file, &variables).unwrap();
        assert_eq!((options.retention.ttl_ms, options.retention.publications), (120_000, 7));
        assert_eq!(options.allowed_origins, ["https://a.example".parse().unwrap()]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_place() {
        let file = "top = 1\n[history]\nttl = \"0s\"\ntttl = 5\n[server]\nlisten = \"here\"\nshards = 1.5\n[nothing.at.all]\nx = 1";
        let errors =
            from_file(file, &[("DUPLEX_CLIENT__OUTBOX", "1"), ("DUPLEX_SERVER__SHARDS", "65")]).unwrap_err();
        for expected in [
            "f: top: no such option; did you mean ",
            "f: history.ttl: 0s is below the minimum 1s",
            "f: history.tttl: no such option; did you mean history.ttl?",
            "f: server.listen: \"here\" is not an address; write it like 127.0.0.1:8000",
            "f: server.shards: is not a number, a text or a list of texts",
            "f: nothing.at.all.x: no such option; did you mean ",
            "environment variable DUPLEX_CLIENT__OUTBOX: client.outbox: no such option; did you mean client.outbox_bytes_max?",
            "environment variable DUPLEX_SERVER__SHARDS: server.shards: 65 is above the maximum 64",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}\n{errors:#?}");
        }
        assert_eq!(errors.len(), 8);
    }
}
