//! Where options come from: the file, then the environment, then the command line; what comes later wins.

use std::fmt;
use std::path::{Path, PathBuf};

use super::definitions::{DEFINITIONS, Definition, NAMESPACE};
use crate::options::Mode;
use crate::{Namespace, Options};

/// Longest name of a namespace, bytes.
const NAMESPACE_BYTES_MAX: usize = 64;

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
    let mut loading = Loading::new(Options::default());
    if let Some(path) = file {
        loading.file(path);
    }
    for (name, value) in variables {
        loading.variable(&name, &value);
    }
    for (path, value) in flags {
        let flag = definition(path).and_then(Definition::flag).unwrap_or_else(|| path.to_owned());
        loading.set(Source::Flag(flag), path, &value);
    }
    loading.end(file)
}

struct Loading {
    options: Options,
    errors: Vec<ConfigError>,
    /// Whether anything was set that only makes sense where not everything is open.
    closed: bool,
    /// Whether it was said which mode is wanted.
    mode: Option<Mode>,
}

impl Loading {
    fn new(options: Options) -> Self {
        Self { options, errors: Vec::new(), closed: false, mode: None }
    }

    fn end(mut self, file: Option<&Path>) -> Result<Options, Vec<ConfigError>> {
        let closed = self.closed || file.is_some();
        self.options.mode = self.mode.unwrap_or(if closed { Mode::Closed } else { Mode::Dev });
        if self.errors.is_empty() { Ok(self.options) } else { Err(self.errors) }
    }

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
                toml::Value::Table(inner) => {
                    if let Some(name) = path.strip_prefix("namespace.").filter(|name| !name.contains('.')) {
                        self.namespace(from, &path, name);
                    }
                    self.table(from, &format!("{path}."), inner)
                }
                value => match plain(&value) {
                    Some(text) => self.set(from.clone(), &path, &text),
                    None => {
                        let problem = "is not a number, a text, true, false or a list of texts".to_owned();
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
        let inner = path.strip_prefix("namespace.").and_then(|path| path.split_once('.'));
        let set = match inner {
            Some((name, path)) => self.set_in_namespace(&from, name, path, text),
            None => definition(path).map(|definition| definition.set(&mut self.options, text)),
        };
        match set {
            None => {
                let (path, nearest) = (path.to_owned(), nearest(path));
                self.errors.push(ConfigError::Unknown { from, path, nearest });
            }
            Some(Err(problem)) => {
                self.errors.push(ConfigError::Value { from, path: path.to_owned(), problem })
            }
            Some(Ok(())) if path == "server.dev" => self.mode = Some(self.options.mode),
            Some(Ok(())) => self.closed |= path.starts_with("auth.") || path.starts_with("api."),
        }
    }

    fn set_in_namespace(
        &mut self,
        from: &Source,
        name: &str,
        path: &str,
        text: &str,
    ) -> Option<Result<(), String>> {
        let definition = NAMESPACE.iter().find(|definition| definition.path == path)?;
        let whole = format!("namespace.{name}.{path}");
        Some(match self.namespace(from, &whole, name) {
            Some(namespace) => definition.set(namespace, text),
            None => Ok(()),
        })
    }

    /// The namespace with this name, a new one if there is none; `None` if it cannot be named so.
    fn namespace(&mut self, from: &Source, path: &str, name: &str) -> Option<&mut Namespace> {
        let fits = (1..=NAMESPACE_BYTES_MAX).contains(&name.len())
            && !name.contains([':', '.'])
            && !name.chars().any(char::is_control);
        if !fits {
            let problem = format!(
                "{name:?} is not a namespace's name; give it 1 to {NAMESPACE_BYTES_MAX} bytes without ':' and '.'"
            );
            self.errors.push(ConfigError::Value { from: from.clone(), path: path.to_owned(), problem });
            return None;
        }
        Some(self.options.namespaces.entry(name.to_owned()).or_default())
    }
}

fn definition(path: &str) -> Option<&'static Definition<Options>> {
    DEFINITIONS.iter().find(|definition| definition.path == path)
}

/// A TOML value as the text that an option is set from.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(choice) => Some(choice.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// The option whose name is most like a misspelt one.
fn nearest(path: &str) -> String {
    let most_like = |names: &mut dyn Iterator<Item = &'static str>, path: &str| {
        let likeness = |name: &&str| strsim::jaro_winkler(name, path);
        names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
    };
    match path.strip_prefix("namespace.").and_then(|path| path.split_once('.')) {
        Some((name, path)) => {
            format!(
                "namespace.{name}.{}",
                most_like(&mut NAMESPACE.iter().map(|definition| definition.path), path)
            )
        }
        None => most_like(&mut DEFINITIONS.iter().map(|definition| definition.path), path).to_owned(),
    }
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
        let mut loading = Loading::new(Options::default());
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
        let file = "[namespace.default.history]\nttl = \"90s\"\nsize = 7\n[server]\nallow_origin = [\"https://a.example\"]";
        let variables =
            [("DUPLEX_NAMESPACE__DEFAULT__HISTORY__TTL", "2m"), ("DUPLEX_CONFIG", "x"), ("PATH", "y")];
        let options = from_file(file, &variables).unwrap();
        let kept = options.namespaces["default"].policy.retention;
        assert_eq!((kept.ttl_ms, kept.publications), (120_000, 7));
        assert_eq!(options.allowed_origins, ["https://a.example".parse().unwrap()]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_place() {
        let file = "top = 1\n[namespace.default.history]\nttl = \"0s\"\ntttl = 5\n[server]\nlisten = \"here\"\nshards = 1.5\n[nothing.at.all]\nx = 1";
        let errors =
            from_file(file, &[("DUPLEX_CLIENT__OUTBOX", "1"), ("DUPLEX_SERVER__SHARDS", "65")]).unwrap_err();
        for expected in [
            "f: top: no such option; did you mean ",
            "f: namespace.default.history.ttl: 0s is below the minimum 1s",
            "f: namespace.default.history.tttl: no such option; did you mean namespace.default.history.ttl?",
            "f: server.listen: \"here\" is not an address; write it like 127.0.0.1:8000",
            "f: server.shards: is not a number, a text, true, false or a list of texts",
            "f: nothing.at.all.x: no such option; did you mean ",
            "environment variable DUPLEX_CLIENT__OUTBOX: client.outbox: no such option; did you mean client.outbox_bytes_max?",
            "environment variable DUPLEX_SERVER__SHARDS: server.shards: 65 is above the maximum 64",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}\n{errors:#?}");
        }
        assert_eq!(errors.len(), 8);
    }

    #[test]
    fn with_a_file_or_a_key_nothing_is_open_unless_it_is_said() {
        for (closed, mode, file, expected) in [
            (false, None, None, Mode::Dev),
            (false, None, Some(Path::new("f")), Mode::Closed),
            (true, None, None, Mode::Closed),
            (false, Some(Mode::Dev), Some(Path::new("f")), Mode::Dev),
            (true, Some(Mode::Dev), None, Mode::Dev),
            (false, Some(Mode::Closed), None, Mode::Closed),
        ] {
            let loading = Loading { closed, mode, ..Loading::new(Options::default()) };
            assert_eq!(loading.end(file).unwrap().mode, expected);
        }
        let secret = "x".repeat(32);
        let mut loading = Loading::new(Options::default());
        loading.variable("DUPLEX_AUTH__HMAC_SECRET", &secret);
        assert!(loading.closed);
    }

    #[test]
    fn a_namespace_is_there_when_it_is_named_and_its_name_is_checked() {
        let options =
            from_file("[namespace.chat]\n[namespace.game.overload]\npolicy = \"latest\"\nkey = \"id\"", &[]);
        let names: Vec<String> = options.unwrap().namespaces.into_keys().collect();
        assert_eq!(names, ["chat", "default", "game"]);
        let errors = from_file("[namespace.\"a:b\"]\nrecovery = \"off\"", &[]).unwrap_err();
        assert!(errors.iter().all(|error| error.contains("is not a namespace's name")), "{errors:?}");
        let errors = from_file("[namespace.chat]\nrecovery = \"of\"", &[]).unwrap_err();
        assert_eq!(errors, ["f: namespace.chat.recovery: \"of\" is none of off, stream, cache"]);
    }
}
