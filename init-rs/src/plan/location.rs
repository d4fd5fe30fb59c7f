//! Where systemd hibernated to, as it notes it in a variable of UEFI firmware: JSON in UTF-16
//! (`systemd-hibernate-resume-generator(8)`, version 255 and later). Total over any bytes.

use std::fmt;

/// What the log and the record call it.
pub const NAME: &str = "the EFI variable HibernateLocation";

/// The note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Of the swap space, or of the file system with the swap file.
    pub uuid: String,
    /// Page of the swap file's header on that device.
    pub offset: u64,
    /// The system that was hibernated, in words.
    pub system: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UUID={}, page {}", self.uuid, self.offset)
    }
}

/// Reads the variable's data; if that cannot be done, says what was expected.
pub fn parse(data: &[u8]) -> Result<Location, String> {
    let units = data.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let members = members(&text).ok_or("it is no JSON object")?;
    // Of equal names the last counts, as for most readers.
    let value = |name: &str| members.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"'));
    let system = ["osReleaseId", "osReleaseVersionId"].into_iter().filter_map(value).collect::<Vec<_>>().join(" ");
    let kernel = value("kernelVersion").map(|release| format!(" with kernel {release}")).unwrap_or_default();
    Ok(Location {
        uuid: value("uuid").and_then(uuid).ok_or("it has no uuid")?,
        offset: value("offset").and_then(|n| n.parse().ok()).ok_or("it has no offset")?,
        system: format!("{}{kernel}", if system.is_empty() { "systemd" } else { &system }),
    })
}

/// 32 hexadecimal digits, as blkid(8) writes them.
fn uuid(text: &str) -> Option<String> {
    let digits = text.replace('-', "").to_ascii_lowercase();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from, to| digits.get(from..to);
    Some([part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?].join("-"))
}

/// Names and values of the object that the text is; both as they are written there, names without quotes.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut list = Vec::new();
    while !rest.is_empty() {
        let end = end_of_string(rest)?;
        let name = rest.get(1..end - 1)?;
        let after = rest.get(end..)?.trim_start().strip_prefix(':')?;
        let (value, next) = after.split_at_checked(end_of_value(after)?)?;
        list.push((name, value.trim()));
        rest = next.strip_prefix(',').unwrap_or_default().trim();
    }
    Some(list)
}

/// Where a string ends that begins here: behind its closing quote.
fn end_of_string(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    bytes.next().filter(|(_, quote)| *quote == b'"')?;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

/// Where a value ends: at the next comma of its own level, or with the text.
fn end_of_value(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0u32);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => at += end_of_string(text.get(at..)?)?.saturating_sub(1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    (depth == 0).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const UUID: &str = "11111111-2222-3333-4444-5555555555aa";

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn as_systemd_writes_it() {
        let text = format!(
            "{{\"uuid\":\"{UUID}\",\"offset\":38912,\"autoSwap\":false,\"kernelVersion\":\"6.12.41+deb13-amd64\",\
             \"osReleaseId\":\"debian\",\"osReleaseVersionId\":\"13\"}}"
        );
        let location = parse(&utf16(&text)).unwrap();
        assert_eq!((location.uuid.as_str(), location.offset), (UUID, 38912));
        assert_eq!(location.system, "debian 13 with kernel 6.12.41+deb13-amd64");
        assert_eq!(location.to_string(), format!("UUID={UUID}, page 38912"));
    }

    #[test]
    fn other_spellings() {
        let text = " { \"a\" : {\"uuid\": [\"}\\\"\", 1]} , \"offset\" : \"7\",\n\"uuid\": \"111111112222333344445555555555AA\" } ";
        let location = parse(&utf16(text)).unwrap();
        assert_eq!((location.uuid.as_str(), location.offset, location.system.as_str()), (UUID, 7, "systemd"));
    }

    #[test]
    fn what_tells_nothing_is_refused() {
        let good = format!("{{\"uuid\":\"{UUID}\",\"offset\":0}}");
        assert!(parse(&utf16(&good)).is_ok());
        for (text, why) in [
            ("", "no JSON"),
            ("/dev/sda2", "no JSON"),
            (good.trim_end_matches('}'), "no JSON"),
            ("{\"uuid", "no JSON"),
            ("{\"uuid\":\"x}", "no JSON"),
            ("{}", "no uuid"),
            ("{\"uuid\":\"1234-ABCD\",\"offset\":0}", "no uuid"),
            (&good.replace("offset", "other"), "no offset"),
            (&good.replace(":0", ":-1"), "no offset"),
        ] {
            assert!(parse(&utf16(text)).is_err_and(|e| e.contains(why)), "{text}");
        }
        assert!(parse(good.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data: Vec<u8>, text in "[\\{\\}\\[\\]\":,a\\\\ ]*") {
            let _ = (parse(&data), parse(&utf16(&text)));
        }

        #[test]
        fn whatever_else_is_noted(
            offset: u64,
            more in proptest::collection::btree_map(".*", proptest::collection::vec(".*", 0..3), 0..4),
            pretty: bool,
        ) {
            let mut doc = json!(more);
            doc["uuid"] = json!(UUID);
            doc["offset"] = json!(offset);
            let text = if pretty { serde_json::to_string_pretty(&doc) } else { serde_json::to_string(&doc) }.unwrap();
            let location = parse(&utf16(&text)).unwrap();
            prop_assert_eq!((location.uuid.as_str(), location.offset), (UUID, offset));
        }
    }
}
