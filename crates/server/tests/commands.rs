//! `duplex pub` and `duplex sub`, as processes of their own.

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use support::program::{Program, duplex, fails};

fn at(program: &Program, arguments: &[&str]) -> Command {
    let mut command = duplex(arguments);
    command.env("DUPLEX_URL", format!("http://{}", program.address));
    command
}

fn publish(program: &Program, arguments: &[&str]) {
    let ended = at(program, &[&["pub"], arguments].concat()).output().expect("the program starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// A running `duplex sub`, which is subscribed.
struct Follower {
    child: Child,
    /// What it prints, until the test does not read it any more.
    lines: Option<BufReader<std::process::ChildStdout>>,
    said: BufReader<std::process::ChildStderr>,
}

impl Follower {
    fn start(program: &Program, arguments: &[&str]) -> Self {
        let mut child = at(program, &[&["sub"], arguments].concat()).spawn().expect("the program starts");
        let lines = child.stdout.take().map(BufReader::new);
        let said = BufReader::new(child.stderr.take().expect("its log is piped"));
        let mut follower = Self { child, lines, said };
        follower.says("news: from ");
        follower
    }

    /// Waits until it says so on its standard error.
    fn says(&mut self, sentence: &str) {
        let mut line = String::new();
        while !line.contains(sentence) {
            line.clear();
            assert_ne!(
                self.said.read_line(&mut line).expect("it speaks UTF-8"),
                0,
                "it never says {sentence}"
            );
        }
    }

    fn prints(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().expect("its output is piped").read_line(&mut line).expect("it prints text");
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(kill.expect("there is a kill command").success());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_is_published_is_printed_until_ctrl_c() {
    let program = Program::start(&[]);
    let mut json = Follower::start(&program, &["news", "--json"]);
    let mut human = Follower::start(&program, &["news"]);
    publish(&program, &["news", r#"{"a" : 1.50}"#, "--event", "headline", "--tag", "lang=en"]);
    let line = json.prints();
    assert!(line.contains(r#""event":"headline","data":{"a" : 1.50},"tags":{"lang":"en"}"#), "{line}");
    let line = human.prints();
    assert!(line.ends_with(r#"Z  news  headline  {"a" : 1.50}"#), "{line}");
    for (mut follower, signal) in [(json, "-INT"), (human, "-TERM")] {
        follower.signal(signal);
        assert_eq!(follower.child.wait().expect("it is ours").code(), Some(0), "{signal}");
    }
}

#[test]
fn lines_of_the_standard_input_are_published_in_order() {
    let program = Program::start(&[]);
    let mut follower = Follower::start(&program, &["news"]);
    let mut publisher =
        at(&program, &["pub", "news"]).stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut input = publisher.stdin.take().expect("its input is piped");
    input.write_all(b"one two\n3\n{oops\n").expect("it reads");
    drop(input);
    assert_eq!(publisher.wait().expect("it is ours").code(), Some(0));
    for expected in [r#""one two""#, "3", r#""{oops""#] {
        let line = follower.prints();
        assert!(line.ends_with(&format!("message  {expected}")), "{line}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let program = Program::start(&[]);
    let mut follower = Follower::start(&program, &["news"]);
    drop(follower.lines.take());
    publish(&program, &["news", "enough"]);
    assert_eq!(follower.child.wait().expect("it is ours").code(), Some(0));
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    for (arguments, sentence) in [
        (
            &["pub", "", "x", "--url", "http://127.0.0.1:1"][..],
            "Is a server running there? `duplex serve` starts one",
        ),
        (&["pub", "a", "x", "--url", "ftp://host"], "use http, https, ws or wss"),
        (&["pub", "a", "x", "--tag", "oops"], "write it as NAME=TEXT"),
        (&["sub", "a", "b", "--since", "e:1"], "give one channel"),
        (&["sub", "a", "--since", "e"], "write it as `epoch:offset`"),
        (&["sub", ""], "is empty"),
        (&["sub", "a", "--transport", "pigeon"], "possible values: websocket, sse, stream, poll"),
    ] {
        let said = fails(duplex(arguments));
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
}
