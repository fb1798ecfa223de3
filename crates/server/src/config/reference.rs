use std::fmt::Write;

use duplex_core::{CloseReason, ErrorCode, Return};

use super::definitions::{DEFINITIONS, Definition, Field, Live, NAMESPACE, variable};
use crate::{Namespace, Options};

/// The reference page: every option with its meaning, default and bounds, in Markdown.
pub fn reference() -> String {
    let defaults = Options::default();
    let mut page = String::from(
        "# Configuration\n\n\
         Made from the definitions by `duplex reference`; do not edit.\n\n\
         An option is set in a file (`duplex serve --config duplex.toml`), by an environment variable, or by a flag; what \
         comes later wins. Sizes are written like `64KiB`, times like `30s`, `250ms` or `5m`. Zero never means unlimited. \
         An unknown key or a value out of bounds is an error; `duplex check --config duplex.toml` tells without starting.\n\n\
         On SIGHUP the server reads its configuration again and logs what has changed. What is marked *restart* counts when \
         it is started again; everything else counts at once, for connected clients too. If anything is wrong, the server \
         says so and keeps what it has.\n",
    );
    let mut section = "";
    for definition in DEFINITIONS {
        let (own, _) = definition.path.split_once('.').unwrap_or(("", ""));
        if own != section {
            section = own;
            let _ = write!(page, "\n## {section}\n");
        }
        describe("", definition, &defaults, &mut page);
    }
    page.push_str(
        "\n## namespace.NAME\n\n\
         A channel's namespace is the part of its name before the first `:`; `namespace.default` is for channels without \
         one. In dev mode a channel whose namespace is not configured is treated like one without; else it is refused with \
         error 102. The variable of `namespace.chat.history.size` is `DUPLEX_NAMESPACE__CHAT__HISTORY__SIZE`.\n",
    );
    for definition in NAMESPACE {
        describe("namespace.NAME.", definition, &Namespace::default(), &mut page);
    }
    page
}

fn describe<T: Clone>(prefix: &str, definition: &Definition<T>, defaults: &T, page: &mut String) {
    let Definition { path, doc, field, live } = definition;
    let default = match (*path, definition.show(defaults)) {
        ("server.shards", _) => "one per core".to_owned(),
        (_, shown) if shown.is_empty() => "none".to_owned(),
        (_, shown) => format!("`{shown}`"),
    };
    let form = match field {
        Field::Number { unit, min, max, .. } => format!("`{}` to `{}`", unit.show(*min), unit.show(*max)),
        Field::Text { form, .. } | Field::Secret { form, .. } => (*form).to_owned(),
    };
    let _ = write!(page, "\n### {prefix}{path}\n\n{doc}\n\nDefault {default}; {form}.");
    if prefix.is_empty() {
        let _ = write!(page, " `{}`", variable(path));
        let _ = definition.flag().map(|flag| write!(page, ", `--{flag}`"));
        page.push('.');
    }
    if *live == Live::AfterRestart {
        page.push_str(" *Restart.*");
    }
    page.push('\n');
}

/// The page of all error codes and close reasons, in Markdown.
pub fn errors() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Made from the definitions by `duplex reference errors`; do not edit.\n\n\
         ## Error codes\n\n\
         The answer to a command that was not carried out. The connection stays. Every error has a message that says what \
         was wrong and what to do.\n\n\
         | code | name | when, and what to do |\n|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let _ = writeln!(page, "| {} | {} | {} |", *code as u16, code.name(), code.meaning());
    }
    page.push_str(
        "\n## Close reasons\n\n\
         Why the server closed a connection: the code of the WebSocket close frame, and wherever else a protocol has room \
         for a number. The text of the frame is the sentence, often with a colon and the details behind it.\n\n\
         | code | sentence | come back? | when, and what to do |\n|---|---|---|---|\n",
    );
    for reason in CloseReason::ALL {
        let then = match reason.then {
            Return::Reconnect => "yes",
            Return::Stay => "no",
        };
        let _ = writeln!(page, "| {} | {} | {then} | {} |", reason.code, reason.sentence, reason.meaning);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_one_that_is_made() {
        let page = include_str!("../../../../docs/configuration.md");
        assert_eq!(page, reference(), "run `cargo run -- reference > docs/configuration.md`");
        let page = include_str!("../../../../docs/errors.md");
        assert_eq!(page, errors(), "run `cargo run -- reference errors > docs/errors.md`");
    }

    #[test]
    fn no_code_stands_for_two_things() {
        let codes: Vec<u16> = CloseReason::ALL.iter().map(|reason| reason.code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(ErrorCode::ALL.is_sorted_by(|a, b| (*a as u16) < (*b as u16)));
        for reason in CloseReason::ALL.iter().filter(|reason| reason.code >= 3000) {
            assert_eq!(reason.then == Return::Reconnect, reason.code < 3500, "{}", reason.code);
        }
    }
}
