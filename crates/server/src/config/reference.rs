use std::fmt::Write;

use super::definitions::{DEFINITIONS, Definition, Field};
use crate::Options;

/// The reference page: every option with its meaning, default and bounds, in Markdown.
pub fn reference() -> String {
    let defaults = Options::default();
    let mut page = String::from(
        "# Configuration\n\n\
         Made from the definitions by `duplex reference`; do not edit.\n\n\
         An option is set in a file (`duplex serve --config duplex.toml`), by an environment variable, or by a flag; what \
         comes later wins. Sizes are written like `64KiB`, times like `30s`, `250ms` or `5m`. Zero never means unlimited. \
         An unknown key or a value out of bounds is an error; `duplex check --config duplex.toml` tells without starting.\n",
    );
    let mut section = "";
    for definition in DEFINITIONS {
        let (own, _) = definition.path.split_once('.').unwrap_or(("", ""));
        if own != section {
            section = own;
            let _ = write!(page, "\n## {section}\n");
        }
        describe(definition, &defaults, &mut page);
    }
    page
}

fn describe(definition: &Definition, defaults: &Options, page: &mut String) {
    let Definition { path, doc, field } = definition;
    let default = match (*path, definition.show(defaults)) {
        ("server.shards", _) => "one per core".to_owned(),
        (_, shown) if shown.is_empty() => "none".to_owned(),
        (_, shown) => format!("`{shown}`"),
    };
    let bounds = match field {
        Field::Number { unit, min, max, .. } => format!(", `{}` to `{}`", unit.show(*min), unit.show(*max)),
        Field::Address(_) | Field::Origins(_) => String::new(),
    };
    let (variable, flag) = (definition.variable(), definition.flag());
    let _ = write!(page, "\n### {path}\n\n{doc}\n\nDefault {default}{bounds}. `{variable}`, `--{flag}`.\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_one_that_is_made() {
        let page = include_str!("../../../../docs/configuration.md");
        assert_eq!(page, reference(), "run `cargo run -- reference > docs/configuration.md`");
    }
}
