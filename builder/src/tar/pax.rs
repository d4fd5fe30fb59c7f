//! Records of extended headers.

use super::acl;

/// A name with its value.
type Named = (Vec<u8>, Vec<u8>);

/// Names with their values, in order; a later one replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Vec<Named>);

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

impl Records {
    /// Adds `LENGTH NAME=VALUE\n` records.
    pub(super) fn parse(&mut self, mut content: &[u8]) -> Result<(), String> {
        let damaged = || "a damaged extended header".to_owned();
        while !content.is_empty() && !content.iter().all(|byte| *byte == 0) {
            let space = content.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length = content
                .get(..space)
                .and_then(number)
                .and_then(|length| usize::try_from(length).ok())
                .ok_or_else(damaged)?;
            let record =
                content.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            let (name, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default().to_vec();
            self.0.retain(|(other, _)| other != name);
            self.0.push((name.to_vec(), value));
            content = content.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    /// The value of a record; an empty one takes back what was said before.
    pub(super) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(other, _)| other == name.as_bytes())?;
        let (_, value) = self.0.remove(at);
        (!value.is_empty()).then_some(value)
    }

    /// Extended attributes, sorted by name.
    pub(super) fn xattrs(self) -> Result<Vec<Named>, String> {
        let mut found: Vec<Named> = Vec::new();
        let mut add = |name: Vec<u8>, value: Vec<u8>| {
            if !found.iter().any(|(other, _)| *other == name) {
                found.push((name, value));
            }
        };
        // Access lists in clear text go before attributes of their name, libarchive's after star's.
        for (record, name) in
            [("SCHILY.acl.access", "system.posix_acl_access"), ("SCHILY.acl.default", "system.posix_acl_default")]
        {
            if let Some((_, text)) = self.0.iter().find(|(other, _)| other == record.as_bytes())
                && let Some(list) = acl::pack(text)?
            {
                add(name.into(), list);
            }
        }
        for (record, value) in &self.0 {
            if let Some(name) = record.strip_prefix(SCHILY_XATTR).filter(|name| is_name(name)) {
                add(name.to_vec(), value.clone());
            }
        }
        for (record, value) in &self.0 {
            if let Some(name) = record.strip_prefix(LIBARCHIVE_XATTR) {
                let name =
                    unescape(name).filter(|name| is_name(name)).ok_or("an unreadable name of an extended attribute")?;
                let value = base64(value).ok_or("an extended attribute that is not base64")?;
                add(name, value);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Names are `namespace.name`, without a NUL.
fn is_name(name: &[u8]) -> bool {
    name.len() <= 255 && name.contains(&b'.') && !name.contains(&0)
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Seconds with an optional fraction, maybe before 1970.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let mut nanoseconds = 0_u32;
    let fraction = parts.next().unwrap_or_default();
    for nth in 0..9 {
        let digit = match fraction.get(nth) {
            None => 0,
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return None,
        };
        nanoseconds = nanoseconds * 10 + digit;
    }
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.iter().filter(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 & 0xff_ffff | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}
