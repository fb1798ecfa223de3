//! Rules for sources: sizes, unfinished code, unbounded queues, bare unwraps, documentation.

use std::path::Path;

use super::{Finding, finding};
use crate::lex::{self, Language, Token, Views};
use crate::outline::{self, Function};
use crate::workspace::Source;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Macros that mark unfinished or forgotten code.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

pub fn judge(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(source.extension(), "html" | "css") || Language::of(source.extension()).is_some() {
        findings.extend(file_size(&source.text));
    }
    let Some(language) = Language::of(source.extension()) else { return findings };
    let Views { code, .. } = lex::views(&source.text, language);
    let tokens = lex::tokens(&code);
    findings.extend(functions(&tokens, language).iter().filter_map(function_size));
    if language == Language::Rust {
        findings.extend(documented(&source.path, &tokens));
        findings.extend(habits(&tokens, unwraps_allowed(&source.path)));
    }
    findings
}

/// How long the functions of the product are.
pub fn sizes(sources: &[Source]) -> String {
    let product = sources.iter().filter(|s| s.extension() == "rs" && is_product(&s.path));
    let mut sizes: Vec<(usize, String)> = product.flat_map(function_sizes).collect();
    sizes.sort();
    let (Some(median), Some(longest)) = (sizes.get(sizes.len() / 2), sizes.last()) else {
        return "no functions yet".into();
    };
    format!("{} functions, median {} lines, longest {} ({})", sizes.len(), median.0, longest.0, longest.1)
}

fn function_sizes(source: &Source) -> Vec<(usize, String)> {
    let code = lex::views(&source.text, Language::Rust).code;
    let tokens = lex::tokens(&code);
    let tests = outline::test_lines(&tokens);
    let functions = outline::rust_functions(&tokens).into_iter();
    let functions = functions.filter(|f| !tests.iter().any(|region| region.contains(&f.line)));
    functions.map(|f| (f.lines, format!("{}:{}", source.path.display(), f.line))).collect()
}

fn functions(tokens: &[Token<'_>], language: Language) -> Vec<Function> {
    match language {
        Language::Rust => outline::rust_functions(tokens),
        Language::JavaScript => outline::javascript_functions(tokens),
    }
}

fn file_size(text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let rule = format!("{lines} lines in a file, {FILE_LINES_MAX} at most");
    (lines > FILE_LINES_MAX).then(|| finding(1, rule, "move one of its nouns to a file of its own"))
}

fn function_size(function: &Function) -> Option<Finding> {
    let Function { name, line, lines } = function;
    let rule = format!("`{name}` has {lines} lines, {FUNCTION_LINES_MAX} at most");
    (*lines > FUNCTION_LINES_MAX).then(|| finding(*line, rule, "name its steps and give each a function"))
}

/// The compiler finds undocumented items once the library asks for it.
fn documented(path: &Path, tokens: &[Token<'_>]) -> Option<Finding> {
    let library = path.starts_with("crates") && path.ends_with("src/lib.rs");
    let asks = |w: &[Token<'_>]| {
        w[0].text == "!" && w[1].text == "[" && matches!(w[2].text, "warn" | "deny" | "forbid")
    };
    let asked = tokens.windows(3).enumerate().filter(|(_, w)| asks(w));
    let documented = asked.map(|(at, _)| tokens[at..].iter().take_while(|t| t.text != "]"));
    let documented = documented.flatten().any(|t| t.text == "missing_docs");
    (library && !documented)
        .then(|| finding(1, "public items may go undocumented", "add `#![warn(missing_docs)]`"))
}

fn habits(tokens: &[Token<'_>], unwraps: Unwraps) -> Vec<Finding> {
    let tests = outline::test_lines(tokens);
    let in_tests = |line| tests.iter().any(|region| region.contains(&line));
    let texts: Vec<&str> = tokens.iter().map(|t| t.text).collect();
    let mut findings = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let line = token.line;
        match &texts[at..] {
            [name, "!", "(" | "[" | "{", ..] if UNFINISHED.contains(name) => {
                findings.push(finding(line, format!("`{name}!`"), "finish it or remove it"));
            }
            ["#", "[", "ignore", "]", ..] => {
                findings.push(finding(line, "ignored test without a reason", "write `#[ignore = \"why\"]`"));
            }
            ["unbounded_channel", ..] => {
                findings.push(finding(
                    line,
                    "queue without a limit",
                    "give it a limit and a policy for when it is full",
                ));
            }
            [".", "unwrap", "(", ")", ..] if unwraps == Unwraps::Forbidden && !in_tests(line) => {
                findings.push(finding(
                    line,
                    "bare `unwrap`",
                    "return an error, or `expect` the invariant that holds",
                ));
            }
            _ => {}
        }
    }
    findings
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unwraps {
    Allowed,
    Forbidden,
}

fn unwraps_allowed(path: &Path) -> Unwraps {
    if is_product(path) || path.starts_with("examples") { Unwraps::Forbidden } else { Unwraps::Allowed }
}

/// Code of the crates themselves, not of their tests.
fn is_product(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    let tests = stem == "tests" || stem.ends_with("_tests");
    path.starts_with("crates") && !tests && !path.iter().any(|part| part == "tests" || part == "benches")
}

#[cfg(test)]
mod tests {
    use super::super::{rules, sample};
    use super::*;

    fn breaks(path: &str, text: &str) -> Vec<String> {
        rules(judge(&sample(path, text)))
    }

    #[test]
    fn files_and_functions_have_a_size() {
        let file = |lines: usize| "\n".repeat(lines);
        assert_eq!(breaks("crates/x/src/a.rs", &file(600)), [""; 0]);
        for path in ["crates/x/src/a.rs", "conformance/a.mjs", "crates/x/assets/index.html"] {
            assert_eq!(breaks(path, &file(601)), ["1 601 lines in a file, 600 at most"], "{path}");
        }
        assert_eq!(breaks("docs/a.md", &file(601)), [""; 0]);
        let function = |lines: usize| format!("\nfn f() {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(breaks("crates/x/src/a.rs", &function(70)), [""; 0]);
        assert_eq!(breaks("bench/src/a.rs", &function(71)), ["2 `f` has 71 lines, 70 at most"]);
        assert_eq!(breaks("conformance/a.mjs", &function(71).replace("fn", "function")).len(), 1);
    }

    #[test]
    fn unfinished_code_is_found_in_code_only() {
        let text =
            "fn f() { todo!() }\nfn g() { unimplemented![] }\nfn h() { dbg!(1); }\n#[ignore]\nfn i() {}\n";
        let wanted = ["1 `todo!`", "2 `unimplemented!`", "3 `dbg!`", "4 ignored test without a reason"];
        assert_eq!(breaks("xtask/src/a.rs", text), wanted);
        let fine =
            "// todo!()\nfn f() { \"dbg!(1) unbounded_channel\"; todo() }\n#[ignore = \"slow\"]\nfn g() {}\n";
        assert_eq!(breaks("crates/x/src/a.rs", fine), [""; 0]);
    }

    #[test]
    fn queues_have_a_limit() {
        let text = "fn f() { let (tx, rx) = mpsc::unbounded_channel(); }";
        assert_eq!(breaks("bench/src/a.rs", text), ["1 queue without a limit"]);
    }

    #[test]
    fn a_bare_unwrap_is_for_tests() {
        let text =
            "fn f() { a.unwrap_or(1); a.unwrap(); }\n#[cfg(test)]\nmod tests {\n fn g() { a.unwrap(); }\n}\n";
        assert_eq!(breaks("crates/x/src/a.rs", text), ["1 bare `unwrap`"]);
        assert_eq!(breaks("examples/chat/main.rs", text), ["1 bare `unwrap`"]);
        for path in [
            "crates/x/tests/a.rs",
            "crates/x/src/a/tests.rs",
            "bench/src/a.rs",
            "fuzz/a.rs",
            "xtask/src/a.rs",
        ] {
            assert_eq!(breaks(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn libraries_ask_for_documentation() {
        let path = "crates/x/src/lib.rs";
        assert_eq!(breaks(path, "//! #![warn(missing_docs)]\n"), ["1 public items may go undocumented"]);
        assert_eq!(breaks(path, "#![allow(missing_docs)]\n").len(), 1);
        assert_eq!(breaks(path, "#![forbid(unsafe_code)]\n#![deny(unused, missing_docs)]\n"), [""; 0]);
        assert_eq!(breaks("crates/x/src/main.rs", ""), [""; 0]);
    }

    #[test]
    fn sizes_are_those_of_the_product() {
        let product = sample(
            "crates/x/src/a.rs",
            "fn a() {}\nfn b() {\n}\nfn c() {\n\n\n}\n#[cfg(test)]\nfn t() {\n\n\n\n\n}\n",
        );
        let other = sample("xtask/src/a.rs", "fn d() {\n\n\n\n\n\n}\n");
        assert_eq!(sizes(&[product, other]), "3 functions, median 2 lines, longest 4 (crates/x/src/a.rs:4)");
    }
}
