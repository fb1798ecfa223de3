//! Rules for every text file: whitespace, marks of unfinished work, addresses of one machine or one network.

use super::{Finding, finding};
use crate::lex::{self, Language};
use crate::workspace::Source;

/// Marks of unfinished work; spelled in halves, so that this file does not break its own rule.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Folders at the root of somebody's machine.
const MACHINE_FOLDERS: [&str; 3] = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];

/// Where packages are downloaded from: the setting of a machine, not of a repository.
const REGISTRY_HOSTS: [&str; 7] = [
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("npm", "mirror.com"),
    concat!("pypi.", "org/simple"),
    concat!("files.", "pythonhosted.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
];

pub fn judge(source: &Source) -> Vec<Finding> {
    let mut findings = lines(&source.text);
    findings.extend(marks(source));
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        let last = source.text.lines().count();
        findings.push(finding(last, "no newline at the end", "end the file with one"));
    }
    findings
}

fn lines(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        if line.ends_with(char::is_whitespace) {
            findings.push(finding(at + 1, "trailing whitespace", "remove it"));
        }
        if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| starts_path(line, folder)) {
            findings.push(finding(
                at + 1,
                format!("path of one machine ({folder})"),
                "write it relative to the repository",
            ));
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(*host)) {
            findings.push(finding(
                at + 1,
                format!("address of a registry ({host})"),
                "leave it to the machine's settings",
            ));
        }
    }
    findings
}

/// `folder` stands in `line` as the start of a path, not inside a longer one.
fn starts_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = &line[..at];
        before.ends_with("://") || !before.ends_with(|c: char| c.is_alphanumeric() || "_-./}~".contains(c))
    })
}

/// In sources strings may contain anything; elsewhere everything is prose.
fn marks(source: &Source) -> Vec<Finding> {
    let language = Language::of(source.extension());
    let prose =
        language.map_or_else(|| source.text.clone(), |language| lex::views(&source.text, language).prose);
    let mut findings = Vec::new();
    for (at, line) in prose.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            findings.push(finding(
                at + 1,
                format!("mark of unfinished work ({mark})"),
                "do it, or open an issue",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::{rules, sample};
    use super::*;

    fn breaks(path: &str, text: &str) -> Vec<String> {
        rules(judge(&sample(path, text)))
    }

    #[test]
    fn lines_and_files_end_cleanly() {
        assert_eq!(breaks("a.md", "x \ny\t\nz\r\n"), [1, 2, 3].map(|l| format!("{l} trailing whitespace")));
        assert_eq!(breaks("a.toml", "x\ny"), ["2 no newline at the end"]);
        assert_eq!(breaks("a.toml", ""), [""; 0]);
    }

    #[test]
    fn unfinished_work_is_found_in_comments_and_prose_not_in_strings() {
        let [todo, fixme, xxx] = MARKS;
        assert_eq!(breaks("a.rs", &format!("// {todo}: later\n/* ({fixme}) */\n")).len(), 2);
        assert_eq!(breaks("a.md", &format!("see {xxx}.\n")).len(), 1);
        assert_eq!(breaks("a.mjs", &format!("const a = '{todo}'; // {xxx}\n")).len(), 1);
        assert_eq!(breaks("a.rs", &format!("let a = \"{fixme}\"; let b{xxx} = 1; // {xxx}L\n")), [""; 0]);
    }

    #[test]
    fn paths_of_one_machine_do_not_get_in() {
        for folder in MACHINE_FOLDERS {
            for text in
                [format!("see {folder}x\n"), format!("file://{folder}x\n"), format!("path = \"{folder}x\"\n")]
            {
                assert_eq!(breaks("a.toml", &text).len(), 1, "{text}");
            }
            let fine = format!("https://example.com{folder}x a{folder}b .{folder} $HOME}}{folder}\n");
            assert_eq!(breaks("a.md", &fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn registries_are_the_business_of_the_machine() {
        for host in REGISTRY_HOSTS {
            assert_eq!(breaks("a.json", &format!("\"https://{host}/x\"\n")).len(), 1, "{host}");
        }
        assert_eq!(breaks("a.md", "see https://crates.io/crates/x\n"), [""; 0]);
    }
}
