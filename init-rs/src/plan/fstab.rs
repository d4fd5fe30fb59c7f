//! fstab(5), read totally: what makes no sense is left out.

/// One line of `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// What to mount: first field, escapes decoded.
    pub source: String,
    /// Where: second field, escapes decoded.
    pub target: String,
    /// Filesystem type: third field.
    pub fstype: String,
    /// Options: fourth field, split; empty if missing.
    pub options: Vec<String>,
    /// Line number, from 1.
    pub line: usize,
}

impl FstabEntry {
    /// Whether the option is there, alone (`name`) or with a value (`name=...`).
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|o| o.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
    }

    /// The value of an option `name=value`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Reads the text of an fstab. Comments, empty lines and lines with fewer than three fields are left out.
pub fn parse(text: &[u8]) -> Vec<FstabEntry> {
    text.split(|&b| b == b'\n').enumerate().filter_map(|(n, line)| entry(line, n + 1)).collect()
}

fn entry(line: &[u8], number: usize) -> Option<FstabEntry> {
    let mut fields = line.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|field| !field.is_empty());
    // Looked at before decoding: an escaped # begins a name.
    let source = fields.next().filter(|field| !field.starts_with(b"#"))?;
    let target = fields.next()?;
    let fstype = fields.next()?;
    let options = fields.next().map(|field| split_options(&decode(field))).unwrap_or_default();
    let (source, target, fstype) = (decode(source), decode(target), decode(fstype));
    Some(FstabEntry { source, target, fstype, options, line: number })
}

/// Decodes `\ooo`; any other backslash stays.
pub(crate) fn decode(field: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = octal(rest).or_else(|| rest.split_first().map(|(&byte, after)| (byte, after))) {
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\")?.split_at_checked(3)?;
    let value = digits.iter().try_fold(0u32, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
        _ => None,
    })?;
    Some((u8::try_from(value).ok()?, rest))
}

fn split_options(field: &str) -> Vec<String> {
    options(field).map(str::to_owned).collect()
}

/// Splits mount options at commas outside double quotes (a security context can hold commas).
pub(super) fn options(field: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = field.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        let text = br#"
# a comment
   # another
rpool/srv	/srv zfs  noatime,nofail,x-systemd.requires=a.service 0 0
tank/with\040space /a\011b\134c\012\1\999\777 zfs context="a,b",ro
UUID=1 none swap
tank/x /no-type
tank/y /y zfs # five
"#;
        let entries = parse(text);
        let short: Vec<_> = entries.iter().map(|e| (e.line, e.source.as_str(), e.target.as_str())).collect();
        assert_eq!(
            short,
            [
                (4, "rpool/srv", "/srv"),
                (5, "tank/with space", "/a\tb\\c\n\\1\\999\\777"),
                (6, "UUID=1", "none"),
                (8, "tank/y", "/y")
            ]
        );
        assert_eq!(entries[0].options, ["noatime", "nofail", "x-systemd.requires=a.service"]);
        assert_eq!(entries[1].options, ["context=\"a,b\"", "ro"]);
        assert!(entries[0].has("nofail") && entries[0].has("x-systemd.requires"));
        assert_eq!(entries[0].value("x-systemd.requires"), Some("a.service"));
        assert!(!entries[0].has("no") && !entries[2].has("noauto"));
    }

    proptest! {
        #[test]
        fn total(text: Vec<u8>) {
            let entries = parse(&text);
            prop_assert!(entries.len() <= text.len());
        }

        #[test]
        fn escaped_fields_come_back(source in "[!-~ \t\u{e4}]{1,20}", target in "/[!-~ \t]{0,20}") {
            let escape = |s: &str| s.bytes().fold(Vec::new(), |mut out, b| {
                if matches!(b, b' ' | b'\t' | b'\\' | b'#') { out.extend(format!("\\{b:03o}").bytes()) } else { out.push(b) }
                out
            });
            let line = [escape(&source), b" ".to_vec(), escape(&target), b" zfs\n".to_vec()].concat();
            let entries = parse(&line);
            prop_assert_eq!(entries.len(), 1);
            for entry in entries {
                prop_assert_eq!(&entry.source, &source);
                prop_assert_eq!(&entry.target, &target);
            }
        }
    }
}
