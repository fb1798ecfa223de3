//! The language of scenarios, as described in `conformance/scenarios/scenarios.txt`.

use serde_json::Value;

const TEXT: &str = include_str!("../../../../conformance/scenarios/scenarios.txt");

pub struct Scenario {
    pub title: &'static str,
    pub lines: Vec<&'static str>,
}

/// All there are.
pub fn scenarios() -> Vec<Scenario> {
    let scenarios = TEXT.split("\n== ").skip(1).map(|text| {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        Scenario { title: lines.next().expect("a scenario has a title"), lines: lines.collect() }
    });
    scenarios.collect()
}

/// `"text"`, `3`, `2 to 9`, `1 to 9 of 100 bytes`, `100 bytes`.
pub fn values(text: &str) -> Vec<Value> {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |word: &str| word.parse::<usize>().expect("a number");
    match words[..] {
        [first, "to", last] => (number(first)..=number(last)).map(Value::from).collect(),
        [first, "to", last, "of", bytes, "bytes"] => {
            (number(first)..=number(last)).map(|n| sized(n, number(bytes)).into()).collect()
        }
        [bytes, "bytes"] => vec!["x".repeat(number(bytes)).into()],
        _ => vec![serde_json::from_str(text).expect("a value is JSON")],
    }
}

/// A text that begins with its number and that compression saves half of at most.
fn sized(number: usize, bytes: usize) -> String {
    let mut text = format!("{number} ");
    let mut state = number as u64 + 1;
    while text.len() < bytes {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        text.push(char::from_digit((state >> 60) as u32, 16).expect("four bits are a digit"));
    }
    text
}

/// A text that begins with its number stands for it.
pub fn numbered(value: Value) -> Value {
    let number = value.as_str().and_then(|text| {
        let (number, rest) = text.split_once(' ')?;
        let is_filling = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        number.parse::<usize>().ok().filter(|_| is_filling)
    });
    number.map_or(value, Value::from)
}
