//! Properties of data sets, as numbers and strings.

use super::PoolError;
use super::block::MAX_BLOCK;
use super::zap::Value;

const SWITCH: &[(&str, u64)] = &[("off", 0), ("on", 1)];
const CACHE: &[(&str, u64)] = &[("none", 0), ("metadata", 1), ("all", 2)];

/// Properties with words as values (OpenZFS `zfs_prop.c`).
const WORDS: &[(&str, &[(&str, u64)])] = &[
    ("acltype", &[("off", 0), ("noacl", 0), ("posix", 1), ("posixacl", 1), ("nfsv4", 2)]),
    ("atime", SWITCH),
    ("canmount", &[("off", 0), ("on", 1), ("noauto", 2)]),
    ("devices", SWITCH),
    ("dnodesize", &[("legacy", 0)]),
    ("exec", SWITCH),
    ("logbias", &[("latency", 0), ("throughput", 1)]),
    ("overlay", SWITCH),
    ("primarycache", CACHE),
    ("readonly", SWITCH),
    ("redundant_metadata", &[("all", 0), ("most", 1)]),
    ("relatime", SWITCH),
    ("secondarycache", CACHE),
    ("setuid", SWITCH),
    ("snapdir", &[("hidden", 0), ("visible", 1)]),
    ("sync", &[("standard", 0), ("always", 1), ("disabled", 2)]),
    ("xattr", &[("off", 0), ("dir", 1), ("sa", 2)]),
];

/// The value of a property as it is stored.
pub(super) fn value(name: &str, text: &str) -> Result<Value, PoolError> {
    let refuse = |why: String| Err(PoolError::Option(format!("property {name}={text}: {why}")));
    if name.contains(':') || name == "mountpoint" {
        if name == "mountpoint" && !text.starts_with('/') && !matches!(text, "none" | "legacy") {
            return refuse("an absolute path, none or legacy expected".into());
        }
        if name.len() > 255 || text.len() > 1023 || name.contains('\0') || text.contains('\0') {
            return refuse("at most 255 bytes of name and 1023 of value expected, without NULs".into());
        }
        return Ok(Value::Bytes([text.as_bytes(), &[0]].concat()));
    }
    if name == "recordsize" {
        return record_size(text)
            .map(|size| Value::Number(size as u64))
            .map_or_else(|| refuse(format!("a power of two from 512 to {MAX_BLOCK} expected")), Ok);
    }
    let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = WORDS.iter().map(|(known, _)| *known).collect();
        return refuse(format!(
            "not one that can be set here; there are {}, mountpoint, recordsize and names with a colon",
            known.join(", ")
        ));
    };
    if let Some((_, number)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(Value::Number(*number));
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    refuse(format!("{} expected", words.join(" or ")))
}

/// A size in bytes, or with K.
pub(super) fn record_size(text: &str) -> Option<usize> {
    let (digits, unit) = text.strip_suffix(['k', 'K']).map_or((text, 1), |digits| (digits, 1024));
    let size = digits.parse::<usize>().ok()?.checked_mul(unit)?;
    (size.is_power_of_two() && (512..=MAX_BLOCK).contains(&size)).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_numbers() {
        assert_eq!(value("canmount", "noauto").unwrap(), Value::Number(2));
        assert_eq!(value("recordsize", "8K").unwrap(), Value::Number(8192));
        assert_eq!(value("mountpoint", "/home").unwrap(), Value::Bytes(b"/home\0".to_vec()));
        assert_eq!(value("org.example:a", "").unwrap(), Value::Bytes(vec![0]));
        for (name, text) in [("canmount", "maybe"), ("recordsize", "1M"), ("mountpoint", "home"), ("quota", "1G")] {
            assert!(value(name, text).unwrap_err().to_string().contains(name), "{name}={text}");
        }
    }
}
