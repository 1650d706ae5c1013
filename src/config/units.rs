//! Durations and sizes in settings: a whole number and one unit.
//!
//! The grammar is narrow on purpose. Each value has one spelling: `90m` and not `1h30m`, `1500ms` and not `1.5s`.
//! `MB` is not allowed, because it has two meanings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// The units of a duration, each with its length in milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// The units of a size, each with its number of bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration, written `200ms`, `15s`, `5m`, `24h` or `90d`. `Display` drops fractions of a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// The string is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number and a unit (ms, s, m, h or d), such as \"15s\"")]
pub struct InvalidDuration;

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text, &DURATION_UNITS).map(Duration::from_millis).map(Self).ok_or(InvalidDuration)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX) {
            0 => f.write_str("0s"),
            millis => write(f, millis, &DURATION_UNITS),
        }
    }
}

/// A number of bytes, written `0`, `512B`, `64KiB`, `16MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanSize(pub u64);

/// The string is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number and a unit (B, KiB, MiB or GiB), such as \"16MiB\", or \"0\"")]
pub struct InvalidSize;

impl FromStr for HumanSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        // Zero needs no unit.
        if text == "0" {
            return Ok(Self(0));
        }
        parse(text, &SIZE_UNITS).map(Self).ok_or(InvalidSize)
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            bytes => write(f, bytes, &SIZE_UNITS),
        }
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes the amount with the largest unit that divides it. The amount must not be 0.
fn write(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| amount.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", amount / factor),
        None => write!(f, "{amount}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duration(text: &str) -> Result<u128, InvalidDuration> {
        text.parse::<HumanDuration>().map(|duration| duration.0.as_millis())
    }

    fn size(text: &str) -> Result<u64, InvalidSize> {
        text.parse::<HumanSize>().map(|size| size.0)
    }

    #[test]
    fn a_duration_is_a_whole_number_and_one_unit() {
        assert_eq!(duration("200ms"), Ok(200));
        assert_eq!(duration("15s"), Ok(15_000));
        assert_eq!(duration("5m"), Ok(300_000));
        assert_eq!(duration("24h"), Ok(86_400_000));
        assert_eq!(duration("90d"), Ok(7_776_000_000));
        assert_eq!(duration("0s"), Ok(0));
        let overflow = format!("{}d", u64::MAX);
        for bad in
            ["", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "1h30m", "5S", "5us", "٥s", &overflow]
        {
            assert_eq!(duration(bad), Err(InvalidDuration), "{bad:?}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_one_unit_or_zero() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("512B"), Ok(512));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for bad in ["", "1", "00", "16MB", "16mib", "16 MiB", "-1B", "1.5GiB", "17179869184GiB"] {
            assert_eq!(size(bad), Err(InvalidSize), "{bad:?}");
        }
    }

    #[test]
    fn display_uses_the_largest_unit_that_divides_the_value() {
        let written = |millis| HumanDuration(Duration::from_millis(millis)).to_string();
        assert_eq!([0, 1500, 90_000, 3_600_000].map(written), ["0s", "1500ms", "90s", "1h"]);
        assert_eq!([0, 1, 1536, 1 << 20].map(|n| HumanSize(n).to_string()), ["0", "1B", "1536B", "1MiB"]);
    }

    proptest! {
        #[test]
        fn displayed_values_parse_to_the_same_value(number: u64) {
            let duration = HumanDuration(Duration::from_millis(number));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            prop_assert_eq!(HumanSize(number).to_string().parse(), Ok(HumanSize(number)));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<HumanDuration>();
            let _ = text.parse::<HumanSize>();
        }
    }
}
