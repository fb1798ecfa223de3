//! Reads just enough Rust and JavaScript to tell code from comments and strings.

/// What the characters of a source are for. Byte offsets and lines are those of the source: what does not belong
/// to a view is blank there.
pub struct Views {
    /// Code only: comments and the insides of strings are blank.
    pub code: String,
    /// Code and comments: the insides of strings are blank.
    pub prose: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    JavaScript,
}

impl Language {
    pub fn of(extension: &str) -> Option<Self> {
        match extension {
            "rs" => Some(Self::Rust),
            "js" | "mjs" | "cjs" | "ts" | "mts" => Some(Self::JavaScript),
            _ => None,
        }
    }
}

/// A word, a number, `::`, or one other character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

impl Token<'_> {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$')
    }
}

/// Where a stretch of code ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    EndOfFile,
    ClosingBrace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Code,
    Comment,
    Text,
}

/// Splits a source into its views.
pub fn views(source: &str, language: Language) -> Views {
    let bytes = source.as_bytes();
    let mut scanner = Scanner { bytes, classes: vec![Class::Code; bytes.len()], at: 0, language };
    scanner.code(Until::EndOfFile);
    Views {
        code: scanner.keep(|class| class == Class::Code),
        prose: scanner.keep(|class| class != Class::Text),
    }
}

/// The tokens of a code view.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (text, after) = rest.split_at(length);
        if first == '\n' {
            line += 1;
        } else if !first.is_whitespace() {
            tokens.push(Token { text, line });
        }
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

struct Scanner<'a> {
    bytes: &'a [u8],
    classes: Vec<Class>,
    at: usize,
    language: Language,
}

impl Scanner<'_> {
    fn keep(&self, wanted: impl Fn(Class) -> bool) -> String {
        let kept = self.bytes.iter().zip(&self.classes);
        let kept = kept.map(|(&byte, &class)| if byte == b'\n' || wanted(class) { byte } else { b' ' });
        String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Marks up to `end` and goes there.
    fn mark(&mut self, class: Class, end: usize) {
        let end = end.min(self.bytes.len());
        self.classes[self.at..end].fill(class);
        self.at = end;
    }

    fn code(&mut self, until: Until) {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'/') => self.line_comment(),
                (b'/', b'*') => self.block_comment(),
                (b'/', _) if self.language == Language::JavaScript && self.regex_may_start() => {
                    self.quoted(b'/')
                }
                (b'"', _) => self.quoted(b'"'),
                (b'\'', _) if self.language == Language::Rust => self.character(),
                (b'\'', _) => self.quoted(b'\''),
                (b'`', _) if self.language == Language::JavaScript => self.template(),
                (b'r', b'"' | b'#') if self.language == Language::Rust => self.raw_string(),
                (b'}', _) if until == Until::ClosingBrace && depth == 0 => return,
                (brace, _) => {
                    depth = match brace {
                        b'{' => depth + 1,
                        b'}' => depth.saturating_sub(1),
                        _ => depth,
                    };
                    self.at += 1;
                }
            }
        }
    }

    fn line_comment(&mut self) {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        self.mark(Class::Comment, self.at + length);
    }

    /// Rust's nest, JavaScript's do not.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        let mut end = self.at;
        while end < self.bytes.len() {
            match &self.bytes[end..self.bytes.len().min(end + 2)] {
                b"/*" if depth == 0 || self.language == Language::Rust => (depth, end) = (depth + 1, end + 2),
                b"*/" => (depth, end) = (depth - 1, end + 2),
                _ => end += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.mark(Class::Comment, end);
    }

    /// A string or regular expression; the quotes stay in the code view.
    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        let mut end = self.at;
        let mut in_set = false;
        while end < self.bytes.len() {
            match self.bytes[end] {
                b'\\' => end += 1,
                b'[' if quote == b'/' => in_set = true,
                b']' => in_set = false,
                b'\n' if self.language == Language::JavaScript => break,
                byte if byte == quote && !in_set => break,
                _ => {}
            }
            end += 1;
        }
        self.mark(Class::Text, end);
        self.at = (end + 1).min(self.bytes.len());
    }

    /// A character, or a lifetime.
    fn character(&mut self) {
        let rest = &self.bytes[self.at + 1..];
        let width = match rest.first() {
            Some(b'\\') => 2 + rest.iter().skip(2).position(|&b| b == b'\'').unwrap_or(0),
            Some(&lead) => {
                1 + usize::from(lead >= 0xC0) + usize::from(lead >= 0xE0) + usize::from(lead >= 0xF0)
            }
            None => 0,
        };
        self.at += 1;
        if rest.get(width) == Some(&b'\'') && rest.first() != Some(&b'\'') {
            self.mark(Class::Text, self.at + width);
            self.at += 1;
        }
    }

    /// `r"…"`, `br#"…"#` and the like; also steps over an `r` that starts nothing.
    fn raw_string(&mut self) {
        let before = self.at.checked_sub(1).map_or(b' ', |i| self.bytes[i]);
        let before = if matches!(before, b'b' | b'c') {
            self.at.checked_sub(2).map_or(b' ', |i| self.bytes[i])
        } else {
            before
        };
        let hashes = self.bytes[self.at + 1..].iter().take_while(|&&b| b == b'#').count();
        let starts = before != b'_' && !before.is_ascii_alphanumeric() && self.peek(1 + hashes) == b'"';
        self.at += 1;
        if starts {
            self.at += hashes + 1;
            let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let rest = &self.bytes[self.at..];
            let length = rest.windows(close.len()).position(|w| w == close).unwrap_or(rest.len());
            self.mark(Class::Text, self.at + length);
            self.at = (self.at + close.len()).min(self.bytes.len());
        }
    }

    /// Text between backquotes; what stands in `${…}` is code.
    fn template(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'`', _) => {
                    self.at += 1;
                    return;
                }
                (b'\\', _) => self.mark(Class::Text, self.at + 2),
                (b'$', b'{') => {
                    self.at += 2;
                    self.code(Until::ClosingBrace);
                    self.at = (self.at + 1).min(self.bytes.len());
                }
                _ => self.mark(Class::Text, self.at + 1),
            }
        }
    }

    /// A slash divides after a value and opens a regular expression elsewhere.
    fn regex_may_start(&self) -> bool {
        let before = (0..self.at).rev().filter(|&i| self.classes[i] == Class::Code);
        let mut before = before.map(|i| self.bytes[i]).skip_while(u8::is_ascii_whitespace);
        let Some(last) = before.next() else { return true };
        if !(last == b'_' || last == b'$' || last.is_ascii_alphanumeric()) {
            return !matches!(last, b')' | b']' | b'}' | b'"' | b'\'' | b'`');
        }
        let word =
            std::iter::once(last).chain(before.take_while(u8::is_ascii_alphanumeric)).collect::<Vec<u8>>();
        let word: Vec<u8> = word.into_iter().rev().collect();
        matches!(&word[..], b"return" | b"typeof" | b"case" | b"in" | b"of" | b"await" | b"yield")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str, language: Language) -> String {
        let words: Vec<&str> = views(source, language).code.leak().split_whitespace().collect();
        words.join(" ")
    }

    #[test]
    fn rust_comments_and_strings_are_not_code() {
        let cases = [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"f("x // y", b"z")"#, r#"f(" ", b" ")"#),
            (r##"f(r#"a " b"#, br"c\")"##, r##"f(r#" "#, br" ")"##),
            (r#"f("a \" b", '"', c)"#, r#"f(" ", ' ', c)"#),
            (r"let q = '\''; x", "let q = ' '; x"),
            ("fn f<'a>(x: &'a str) { 'ö'; '\\u{1F600}' }", "fn f<'a>(x: &'a str) { ' '; ' ' }"),
            ("var\"x\"; r#type r# bar", "var\" \"; r#type r# bar"),
        ];
        for (source, wanted) in cases {
            assert_eq!(code(source, Language::Rust), wanted, "{source}");
        }
    }

    #[test]
    fn javascript_comments_strings_templates_and_patterns_are_not_code() {
        let cases = [
            ("a // b\nc /* d /* e */ f", "a c f"),
            ("f('x\\'y', \"z\")", "f(' ', \" \")"),
            ("a = `t ${ f({ b: `u` }) } v` ; c", "a = ` ${ f({ b: ` ` }) } ` ; c"),
            ("x = /[/\"]{2}/.test(y) ; a / b / c", "x = / /.test(y) ; a / b / c"),
            ("return /a{/ ; (1) / 2", "return / / ; (1) / 2"),
        ];
        for (source, wanted) in cases {
            assert_eq!(code(source, Language::JavaScript), wanted, "{source}");
        }
    }

    #[test]
    fn prose_keeps_comments_and_drops_strings() {
        let prose = views("a // note\n\"text\" /* more */", Language::Rust).prose;
        assert_eq!(prose, "a // note\n\"    \" /* more */");
    }

    #[test]
    fn tokens_know_their_line() {
        let found: Vec<_> = tokens("use a::b;\n\nc.d(0x1f)").into_iter().map(|t| (t.text, t.line)).collect();
        let first = [("use", 1), ("a", 1), ("::", 1), ("b", 1), (";", 1)];
        let third = [("c", 3), (".", 3), ("d", 3), ("(", 3), ("0x1f", 3), (")", 3)];
        assert_eq!(found, [&first[..], &third[..]].concat());
    }

    #[test]
    fn unfinished_sources_end_without_a_panic() {
        for source in ["\"", "'", "'\\", "r#\"", "/*", "`${", "\\", "b'", "/* /", "`\\"] {
            for language in [Language::Rust, Language::JavaScript] {
                assert_eq!(views(source, language).code.len(), source.len(), "{source}");
            }
        }
    }
}
