//! How numbers are written: `1000`, `64KiB`, `30s`.

use std::time::Duration;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Bytes,
    /// In milliseconds.
    Time,
}

const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// In milliseconds. The longest suffix that fits counts, so `ms` stands before `s`.
const TIME: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

impl Unit {
    /// Reads a number with its unit, or says how one is written.
    pub fn parse(self, text: &str) -> Result<u64, &'static str> {
        let text = text.trim();
        match self {
            Self::Count => digits(text).ok_or("is not a whole number"),
            Self::Bytes => {
                digits(text).or_else(|| scaled(text, &BYTES)).ok_or("is not a size; write it like 64KiB")
            }
            Self::Time => scaled(text, &TIME).ok_or("is not a time; write it like 30s, 250ms or 5m"),
        }
    }

    /// Writes a number so that [`parse`](Self::parse) reads it again.
    pub fn show(self, value: u64) -> String {
        let scale: &[(&str, u64)] = match self {
            Self::Count => &[],
            Self::Bytes => &BYTES,
            Self::Time => &[TIME[1], TIME[2], TIME[3], TIME[0]],
        };
        match scale.iter().find(|(_, size)| value >= *size && value.is_multiple_of(*size)) {
            Some((name, size)) => format!("{}{name}", value / size),
            None if self == Self::Time => format!("{value}s"),
            None => value.to_string(),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = text.replace('_', "");
    plain.bytes().all(|byte| byte.is_ascii_digit()).then(|| plain.parse().ok()).flatten()
}

fn scaled(text: &str, scale: &[(&str, u64)]) -> Option<u64> {
    let (number, size) = scale.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, size)))?;
    digits(number.trim_end())?.checked_mul(*size)
}

/// A number an option can be kept in.
pub(crate) trait Number {
    fn load(&self) -> u64;
    /// The definition's bounds see to it that the value fits.
    fn store(&mut self, value: u64);
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            fn load(&self) -> u64 {
                *self as u64
            }
            fn store(&mut self, value: u64) {
                *self = <$kind>::try_from(value).expect("the bounds of an option fit what it is kept in");
            }
        }
    )*};
}

number!(u16, u32, i32, u64, usize);

impl Number for Duration {
    fn load(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }

    fn store(&mut self, value: u64) {
        *self = Self::from_millis(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for (unit, value, text) in [
            (Unit::Count, 1_000, "1000"),
            (Unit::Bytes, 65_536, "64KiB"),
            (Unit::Bytes, 65_537, "65537B"),
            (Unit::Bytes, 1 << 30, "1GiB"),
            (Unit::Time, 25_000, "25s"),
            (Unit::Time, 250, "250ms"),
            (Unit::Time, 300_000, "5m"),
            (Unit::Time, 0, "0s"),
        ] {
            assert_eq!(unit.show(value), text);
            assert_eq!(unit.parse(text), Ok(value), "{text}");
        }
        assert_eq!(Unit::Bytes.parse(" 64 KiB"), Ok(65_536));
        assert_eq!(Unit::Count.parse("10_000"), Ok(10_000));
    }

    #[test]
    fn what_is_not_a_number_with_its_unit_is_refused() {
        for (unit, text) in [
            (Unit::Count, ""),
            (Unit::Count, "-1"),
            (Unit::Count, "1.5"),
            (Unit::Count, "99999999999999999999"),
            (Unit::Bytes, "64kb"),
            (Unit::Bytes, "99999999999GiB"),
            (Unit::Time, "30"),
            (Unit::Time, "s"),
            (Unit::Time, "30 seconds"),
        ] {
            assert!(unit.parse(text).is_err(), "{text:?}");
        }
    }
}
