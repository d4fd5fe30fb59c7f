//! `${name}` in the names of outputs, put in after everything was merged. No shell has a hand in it.

use super::keys::suggestion;
use crate::date::day;
use anyhow::{Result, bail};

/// What is put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// The pool's name.
    pub name: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Debian's word for the processor.
    pub arch: String,
    /// The kernel's release.
    pub version: String,
}

impl Words {
    fn of(&self, name: &str) -> Option<String> {
        Some(match name {
            "name" => self.name.clone(),
            "suffix" => self.time.to_string(),
            "date" => day(self.time),
            "arch" => self.arch.clone(),
            "version" => self.version.clone(),
            _ => return None,
        })
    }

    /// Puts them in.
    pub fn put_into(&self, text: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let Some((name, after)) = inside else { bail!("{text:?}: expected ${{name}}, or $$ for a dollar") };
            if name == "version" && self.version.is_empty() {
                bail!("{text:?}: ${{version}} is known before the tree is read only if boot.kernel says it");
            }
            let Some(value) = self.of(name) else {
                let known = ["name", "suffix", "date", "arch", "version"];
                let meant = suggestion(name, known.into_iter());
                bail!("{text:?}: ${{{name}}} is not known: expected one of {}{meant}", known.join(", "));
            };
            out.push_str(&value);
            rest = after;
        }
        Ok(out + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_in_once() {
        let words =
            Words { name: "${suffix}".into(), time: 1_700_000_000, arch: "amd64".into(), version: "6.1".into() };
        assert_eq!(words.put_into("a-${suffix}-${arch}.raw").unwrap(), "a-1700000000-amd64.raw");
        assert_eq!(words.put_into("${name} $${name} ${date}").unwrap(), "${suffix} ${name} 2023-11-14");
        assert_eq!(words.put_into("plain").unwrap(), "plain");
        assert_eq!(words.put_into("${version}").unwrap(), "6.1");
        let unknown = Words::default().put_into("box-${version}.raw").unwrap_err().to_string();
        assert!(unknown.contains("boot.kernel"), "{unknown}");
        assert!(words.put_into("${sufix}").unwrap_err().to_string().contains("did you mean suffix?"));
        for wrong in ["$x", "${name", "$", "$(date)"] {
            assert!(words.put_into(wrong).unwrap_err().to_string().contains("$$ for a dollar"), "{wrong}");
        }
    }

    #[test]
    fn days() {
        for (seconds, wanted) in
            [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (-1, "1969-12-31"), (4_107_542_400, "2100-03-01")]
        {
            assert_eq!(day(seconds), wanted);
        }
    }
}
