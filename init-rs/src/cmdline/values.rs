//! What values mean, one function a kind.

use std::time::Duration;

use super::Stage;

/// Longer times are no different to anyone, and can be added to the present without overflow.
const LONGEST: u64 = 1_000_000_000;

/// The values that are on.
pub(super) const ON: [&str; 5] = ["1", "y", "yes", "on", "true"];
/// The values that are off.
pub(super) const OFF: [&str; 5] = ["0", "n", "no", "off", "false"];

fn is_one_of(value: &str, list: &[&str]) -> bool {
    list.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// A switch: a bare word is on.
pub(super) fn boolean(value: Option<&str>) -> Option<bool> {
    let Some(value) = value else { return Some(true) };
    let on = is_one_of(value, &ON);
    (on || is_one_of(value, &OFF)).then_some(on)
}

/// Whether the value is there and says off.
pub(super) fn is_off(value: Option<&str>) -> bool {
    boolean(value) == Some(false)
}

/// A whole number, digits only.
pub(super) fn number(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// Whole seconds.
pub(super) fn seconds(value: &str) -> Option<Duration> {
    number(value).map(|n| Duration::from_secs(n.min(LONGEST)))
}

/// Whole seconds, or for ever: [`Duration::MAX`].
pub(super) fn seconds_or_forever(value: &str) -> Option<Duration> {
    if value == "forever" { Some(Duration::MAX) } else { seconds(value) }
}

/// A hostid as `spl_hostid=` takes it: hexadecimal, 8 digits, or any number of them behind `0x`.
pub(super) fn hostid(value: &str) -> Option<u32> {
    let prefixed = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let digits = prefixed.unwrap_or(value);
    let fits = if prefixed.is_some() { (1..=8).contains(&digits.len()) } else { digits.len() == 8 };
    (fits && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// A number as the kernel reads a module's parameter (`kstrtoul`, base 0).
pub(super) fn module_number(value: &str) -> Option<u64> {
    let value = value.strip_prefix('+').unwrap_or(value);
    let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = match hex.filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit())) {
        Some(rest) => (rest, 16),
        None if value.starts_with('0') => (value, 8),
        None => (value, 10),
    };
    // from_str_radix would take another sign.
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// A directory below a file system's own, without a `/` at its beginning or end; `None` if it leads out of it.
pub(super) fn directory(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let good = |part: &&str| *part != ".." && !part.contains(|c: char| c.is_control() || ":,\\".contains(c));
    parts.iter().all(good).then(|| parts.join("/"))
}

/// The parts of a list.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|part| !part.is_empty())
}

/// `[DEVICE:]/path`, `file:///path`.
pub(super) fn key_file(value: &str) -> Option<(Option<&str>, &str)> {
    if let Some(path) = value.strip_prefix("file://") {
        return path.starts_with('/').then_some((None, path));
    }
    let is_device = |name: &str| match name.split_once('=') {
        Some(("LABEL" | "UUID" | "PARTLABEL" | "PARTUUID", id)) => !id.is_empty(),
        _ => name.starts_with("/dev/") && name.len() > "/dev/".len(),
    };
    match value.split_once(":/") {
        Some((device, rest)) if is_device(device) => {
            Some((Some(device), value.get(value.len() - rest.len() - 1..).unwrap_or(rest)))
        }
        _ => value.starts_with('/').then_some((None, value)),
    }
}

/// A word that stops the boot, and the names that its system has for the stages.
pub(super) struct Stops {
    word: &'static str,
    /// What the word means without a value.
    pub(super) bare: Stage,
    /// Names to stages.
    pub(super) names: &'static [(&'static str, Stage)],
}

const STOPS: [Stops; 3] = [
    Stops {
        word: "taproot.break",
        bare: Stage::Start,
        names: &[
            ("start", Stage::Start),
            ("import", Stage::Import),
            ("mount", Stage::Mount),
            ("handover", Stage::HandOver),
        ],
    },
    // initramfs-tools; mkinitcpio has premount and postmount
    Stops {
        word: "break",
        bare: Stage::Import,
        names: &[
            ("top", Stage::Start),
            ("modules", Stage::Start),
            ("premount", Stage::Import),
            ("mount", Stage::Mount),
            ("mountroot", Stage::Mount),
            ("bottom", Stage::HandOver),
            ("init", Stage::HandOver),
            ("postmount", Stage::HandOver),
        ],
    },
    // dracut; its pools are imported before its pre-mount
    Stops {
        word: "rd.break",
        bare: Stage::HandOver,
        names: &[
            ("cmdline", Stage::Start),
            ("pre-udev", Stage::Start),
            ("pre-trigger", Stage::Start),
            ("initqueue", Stage::Start),
            ("pre-mount", Stage::Mount),
            ("mount", Stage::Mount),
            ("pre-pivot", Stage::HandOver),
            ("cleanup", Stage::HandOver),
        ],
    },
];

/// The stages as `word` calls them.
pub(super) fn stops(word: &str) -> Option<&'static Stops> {
    STOPS.iter().find(|stops| stops.word == word)
}

impl Stops {
    /// The stage called `name`.
    pub(super) fn stage(&self, name: &str) -> Option<Stage> {
        self.names.iter().find(|(known, _)| *known == name).map(|(_, stage)| *stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_mean_what_they_say() {
        for on in ["1", "y", "yes", "on", "true", "YES", "On"] {
            assert_eq!(boolean(Some(on)), Some(true), "{on}");
        }
        for off in ["0", "n", "no", "off", "false", "No", "OFF"] {
            assert_eq!(boolean(Some(off)), Some(false), "{off}");
        }
        assert_eq!(boolean(None), Some(true));
        for neither in ["", "2", "yess", "enable"] {
            assert_eq!(boolean(Some(neither)), None, "{neither}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number("007"), Some(7));
        assert_eq!(number("99999999999999999999999"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1s", " 1", "0x1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(seconds("99999999999999999999999"), Some(Duration::from_secs(LONGEST)));
        assert_eq!(seconds_or_forever("forever"), Some(Duration::MAX));
    }

    #[test]
    fn hostids() {
        assert_eq!(hostid("00bab10c"), Some(0x00ba_b10c));
        assert_eq!(hostid("0x00BAB10C"), Some(0x00ba_b10c));
        assert_eq!(hostid("0xbab10c"), Some(0x00ba_b10c));
        assert_eq!(hostid("00000000"), Some(0));
        for bad in ["", "0x", "bab10c", "0x123456789", "123456789", "0000000g", "+0000000"] {
            assert_eq!(hostid(bad), None, "{bad}");
        }
        assert_eq!(module_number("0x00bab10c"), Some(0x00ba_b10c));
        assert_eq!(module_number("12"), Some(12));
        assert_eq!(module_number("012"), Some(10));
        assert_eq!(module_number("0"), Some(0));
        assert_eq!(module_number("+0XF"), Some(15));
        for bad in ["00bab10c", "bab10c", "", "0x", "-1", "09", "++1", "0x+1", "0x 1", "18446744073709551616"] {
            assert_eq!(module_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn key_files() {
        for (value, device, path) in [
            ("/k", None, "/k"),
            ("file:///etc/k", None, "/etc/k"),
            ("LABEL=STICK:/keys/a b", Some("LABEL=STICK"), "/keys/a b"),
            ("PARTUUID=1-2:/k", Some("PARTUUID=1-2"), "/k"),
            ("/dev/sda1:/k", Some("/dev/sda1"), "/k"),
            (
                "/dev/disk/by-path/pci-0000:00:1f.2-ata-1:/k:/x",
                Some("/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
                "/k:/x",
            ),
            ("/a:/b", None, "/a:/b"),
        ] {
            assert_eq!(key_file(value), Some((device, path)), "{value}");
        }
        for bad in ["", "k", "LABEL=:/k", "LABEL=x", "LABEL=x:k", "file://k", "ID=x:/k", "https://host/k", ":/k"] {
            assert_eq!(key_file(bad), None, "{bad}");
        }
    }
}
