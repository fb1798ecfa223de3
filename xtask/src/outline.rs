//! The shape of a source: its functions, its tests, the paths it names.

use std::ops::RangeInclusive;

use crate::lex::Token;

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of its name to the line of its closing brace.
    pub lines: usize,
}

/// A path such as `std::net::TcpStream`, written out even if it stood in a `use` group.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath<'a> {
    pub segments: Vec<&'a str>,
    pub line: usize,
    /// It stands in a `use` or `extern crate` item.
    pub imported: bool,
}

/// Words that may stand before a path with a leading `::` and are not part of it.
const KEYWORDS: [&str; 20] = [
    "use", "as", "in", "return", "break", "if", "while", "match", "else", "let", "mut", "ref", "dyn", "impl",
    "for", "where", "move", "unsafe", "const", "pub",
];

const JAVASCRIPT_BLOCKS: [&str; 6] = ["if", "for", "while", "switch", "catch", "with"];

/// The functions of a Rust source.
pub fn rust_functions(tokens: &[Token<'_>]) -> Vec<Function> {
    let named = tokens.windows(2).enumerate().filter(|(_, pair)| pair[0].text == "fn" && pair[1].is_word());
    let spans = named.filter_map(|(at, pair)| {
        let open = body(tokens, at)?;
        Some(Function {
            name: pair[1].text.into(),
            line: pair[0].line,
            lines: span(tokens, pair[0].line, open),
        })
    });
    spans.collect()
}

/// The functions, methods and arrow functions with a block of a JavaScript source.
pub fn javascript_functions(tokens: &[Token<'_>]) -> Vec<Function> {
    let blocks = (0..tokens.len()).filter(|&at| tokens[at].text == "{");
    let functions = blocks.filter_map(|open| {
        let head = javascript_head(tokens, open)?;
        let name = if head.is_word() { head.text } else { "=>" };
        Some(Function { name: name.into(), line: head.line, lines: span(tokens, head.line, open) })
    });
    functions.collect()
}

/// The lines that are compiled for tests only.
pub fn test_lines(tokens: &[Token<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut regions = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].text != "#" || !is_test_attribute(&tokens[at + 1..]) {
            continue;
        }
        if tokens[at + 1].text == "!" {
            return vec![1..=usize::MAX];
        }
        let last = match body(tokens, skip_attributes(tokens, at)) {
            Some(open) => tokens[closing(tokens, open)].line,
            None => tokens[at].line,
        };
        regions.push(tokens[at].line..=last);
    }
    regions
}

/// Every path of a Rust source, `use` groups expanded.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<NamedPath<'a>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = |back: usize| at.checked_sub(back).map_or("", |i| tokens[i].text);
        let imported = matches!((before(2), before(1)), (_, "use") | ("use", "::") | ("extern", "crate"));
        let word = tokens[at].is_word() && before(1) != "." && !KEYWORDS.contains(&tokens[at].text);
        let starts = word || imported && tokens[at].text == "{";
        at = if starts { path_tree(tokens, at, &[], imported, &mut paths) } else { at + 1 };
    }
    paths
}

/// Reads one path or one group from `at`; returns where it ends.
fn path_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    imported: bool,
    paths: &mut Vec<NamedPath<'a>>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        let Some(token) = tokens.get(at) else { return at };
        if token.text == "{" {
            return path_group(tokens, at + 1, &segments, imported, paths);
        }
        segments.push(token.text);
        at += 1;
        let goes_on = |next: &Token<'_>| next.is_word() || matches!(next.text, "{" | "*");
        if tokens.get(at).is_none_or(|t| t.text != "::") || !tokens.get(at + 1).is_some_and(goes_on) {
            paths.push(NamedPath { segments, line, imported });
            return at;
        }
        at += 1;
    }
}

fn path_group<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    imported: bool,
    paths: &mut Vec<NamedPath<'a>>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        at = match token.text {
            "}" => return at + 1,
            "," | "::" => at + 1,
            "as" => at + 2,
            _ => path_tree(tokens, at, prefix, imported, paths),
        };
    }
    at
}

/// The opening brace of the item that starts at `at`, unless it ends in a semicolon.
fn body(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "{" if depth == 0 => return Some(i),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the brace at `open` is closed; the last token when it never is.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len() - 1
}

fn span(tokens: &[Token<'_>], first_line: usize, open: usize) -> usize {
    tokens[closing(tokens, open)].line - first_line + 1
}

/// What opens the block at `open`, if that is the body of a function: its name, `function`, or the arrow.
fn javascript_head<'a>(tokens: &[Token<'a>], open: usize) -> Option<Token<'a>> {
    let before = |back: usize| open.checked_sub(back).map(|i| tokens[i]);
    match (before(2).map_or("", |t| t.text), before(1)?.text) {
        ("=", ">") => before(2),
        (_, ")") => {
            let mut depth = 0_usize;
            let parenthesis = (0..open).rev().find(|&i| {
                match tokens[i].text {
                    ")" => depth += 1,
                    "(" => depth -= 1,
                    _ => {}
                }
                depth == 0
            })?;
            let name = tokens[parenthesis.checked_sub(1)?];
            (name.is_word() && !JAVASCRIPT_BLOCKS.contains(&name.text)).then_some(name)
        }
        _ => None,
    }
}

/// Looks at what follows a `#`: `[cfg(test)]`, `![cfg(all(test, …))]`, `[test]`, `[tokio::test]`.
fn is_test_attribute(after: &[Token<'_>]) -> bool {
    let inner = after.first().is_some_and(|t| t.text == "!");
    let after = &after[usize::from(inner)..];
    if after.first().is_none_or(|t| t.text != "[") {
        return false;
    }
    let attribute: Vec<&str> = after[1..].iter().map(|t| t.text).take_while(|&t| t != "]").collect();
    match attribute.first() {
        Some(&"cfg") => (0..attribute.len())
            .any(|i| attribute[i] == "test" && (i < 2 || attribute[i - 2..i] != ["not", "("])),
        _ => !inner && attribute.iter().take_while(|&&t| t != "(").last() == Some(&"test"),
    }
}

/// The index after the attributes that start at `at`.
fn skip_attributes(tokens: &[Token<'_>], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| t.text == "#") {
        let mut depth = 0_usize;
        at += 1;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.text {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::{Language, tokens, views};

    fn with_tokens<T>(source: &str, language: Language, ask: impl Fn(&[Token<'_>]) -> T) -> T {
        let code = views(source, language).code;
        ask(&tokens(&code))
    }

    #[test]
    fn a_function_is_as_long_as_from_its_name_to_its_brace() {
        let source = "struct S { f: fn(u8) }\nimpl S {\n  /// {\n  fn a(&self, x: [u8; 3])\n  -> u8\n  { '}'; \"}\"; x[0]\n  }\n  fn b();\n}";
        let found = with_tokens(source, Language::Rust, rust_functions);
        assert_eq!(found, [Function { name: "a".into(), line: 4, lines: 4 }]);
    }

    #[test]
    fn javascript_functions_are_found_in_their_three_forms() {
        let source = "function a(x) {\n if (x) {\n }\n}\nclass C { m(y = f()) { return {\n z: 1 } } }\nt('n', async () => {\n\n})";
        let found = with_tokens(source, Language::JavaScript, javascript_functions);
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, [("a", 1, 4), ("m", 5, 2), ("=>", 7, 3)]);
    }

    #[test]
    fn test_code_is_recognised_by_its_attributes() {
        let cases = [
            ("fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}", vec![2..=5]),
            ("#[cfg(all(test, unix))]\n#[allow(x)]\nfn a() {\n}", vec![1..=4]),
            ("#[cfg(not(test))]\nfn a() {\n}", vec![]),
            ("#[cfg(feature = \"test\")]\nfn a() {\n}", vec![]),
            ("#[cfg(test)]\nmod tests;\nfn a() {}", vec![1..=1]),
            ("#[tokio::test]\nasync fn a() {\n}", vec![1..=3]),
            ("#![cfg(test)]\nfn a() {}", vec![1..=usize::MAX]),
        ];
        for (source, wanted) in cases {
            assert_eq!(with_tokens(source, Language::Rust, test_lines), wanted, "{source}");
        }
    }

    #[test]
    fn use_groups_are_expanded() {
        let source =
            "use std::{net::{TcpStream as T, *}, time::Instant};\n::tokio::spawn(a.rand, b::<c::D>::e)";
        let code = views(source, Language::Rust).code;
        let tokens = tokens(&code);
        let paths = paths(&tokens);
        let text = |imported| -> Vec<String> {
            let wanted = paths.iter().filter(|p| p.imported == imported);
            wanted.map(|p| p.segments.join("::")).collect()
        };
        assert_eq!(text(true), ["std::net::TcpStream", "std::net::*", "std::time::Instant"]);
        assert_eq!(text(false), ["tokio::spawn", "a", "b", "c::D", "e"]);
        assert_eq!(paths.last().map(|p| p.line), Some(2));
    }
}
