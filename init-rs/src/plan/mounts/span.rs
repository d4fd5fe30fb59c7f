//! Time spans as `systemd.time(7)` writes them: `90`, `1min 30s`, `500ms`, `1.5h`, `infinity`.

use std::time::Duration;

/// Names of a unit, and its nanoseconds.
type Unit = (&'static [&'static str], u128);

const SECOND: u128 = 1_000_000_000;

const UNITS: [Unit; 9] = [
    (&["", "s", "sec", "second", "seconds"], SECOND),
    (&["us", "usec", "µs", "μs"], SECOND / 1_000_000),
    (&["ms", "msec"], SECOND / 1000),
    (&["m", "min", "minute", "minutes"], 60 * SECOND),
    (&["h", "hr", "hour", "hours"], 3600 * SECOND),
    (&["d", "day", "days"], 24 * 3600 * SECOND),
    (&["w", "week", "weeks"], 7 * 24 * 3600 * SECOND),
    // 30.44 and 365.25 days, as systemd has them
    (&["M", "month", "months"], 2_629_800 * SECOND),
    (&["y", "year", "years"], 31_557_600 * SECOND),
];

/// Digits behind a point that count.
const PLACES: usize = 9;

/// Reads a time span; [`Duration::MAX`] for `infinity`, and `None` for what is none.
pub(super) fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(Duration::MAX);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after.trim_start(), char::is_alphabetic);
        let (_, length) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        total = total.checked_add(product(number, *length)?)?;
        rest = after.trim_start();
    }
    let seconds = u64::try_from(total / SECOND).ok()?;
    Some(Duration::new(seconds, u32::try_from(total % SECOND).ok()?))
}

/// A number with digits before a point, if there is one, times a unit.
fn product(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(PLACES).collect();
    let part = fraction.parse::<u128>().ok()?.checked_mul(unit)? / 10u128.pow(u32::try_from(PLACES).ok()?);
    whole.checked_mul(unit)?.checked_add(part)
}

/// The beginning of a text that is made of such characters, and what follows it.
fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at_checked(text.find(|c| !of(c)).unwrap_or(text.len())).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans() {
        for (text, milliseconds) in [
            ("0", 0),
            ("90", 90_000),
            ("90s", 90_000),
            ("1min30s", 90_000),
            ("1min 30s", 90_000),
            ("1 min 30", 90_000),
            ("500ms", 500),
            ("1.5s", 1500),
            (".5", 500),
            ("2h", 7_200_000),
            ("1d 1hr", 90_000_000),
            ("2500us", 2),
            ("3sec 20msec", 3020),
        ] {
            assert_eq!(span(text).map(|time| time.as_millis()), Some(milliseconds), "{text}");
        }
        assert_eq!(span("infinity"), Some(Duration::MAX));
        for wrong in ["", " ", "soon", "5 parsecs", "-1", "1..5", "1min infinity", "s", "99999999999999999999"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn total(text: String, near in "[0-9.smhM µ]{0,30}") {
            let _ = (span(&text), span(&near));
        }
    }
}
