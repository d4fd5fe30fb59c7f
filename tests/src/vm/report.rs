//! What a guest said about its boot: the `@@` lines of `kit/guest/taproot-report` and `guest-init`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// Options of this mount point.
    pub options: Vec<String>,
    /// File system type.
    pub kind: String,
    /// Device or dataset.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Reads one line.
    pub fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(4);
        let mut back = back.split(' ');
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        Some(Self {
            point: front.next()?.replace("\\040", " "),
            options: list(front.next()?),
            kind: back.next()?.to_owned(),
            source: back.next()?.replace("\\040", " "),
            super_options: list(back.next()?),
        })
    }
}

/// What a guest said between `@@REPORT-BEGIN` and `@@REPORT-END`.
#[derive(Debug, Clone, Default)]
pub struct Report {
    lines: Vec<(String, String)>,
    /// `/run/taproot/boot.json`, if there was one.
    pub json: Option<Value>,
}

impl Report {
    /// Reads the text between the markers.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("@@"))
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            .map(|(tag, rest)| (tag.to_owned(), rest.to_owned()))
            .collect();
        ensure!(lines.iter().any(|(tag, _)| tag == "KIND"), "a report without its KIND line:\n{text}");
        let mut report = Self { lines, json: None };
        let json = report.all("JSON").join("\n");
        if !json.trim().is_empty() {
            report.json = Some(serde_json::from_str(&json).with_context(|| format!("boot.json is not JSON:\n{json}"))?);
        }
        Ok(report)
    }

    /// Everything said under one tag.
    pub fn all(&self, tag: &str) -> Vec<&str> {
        self.lines.iter().filter(|(t, _)| t == tag).map(|(_, rest)| rest.as_str()).collect()
    }

    /// The first thing said under a tag, or nothing.
    pub fn one(&self, tag: &str) -> &str {
        self.all(tag).first().copied().unwrap_or_default()
    }

    /// Name of the system whose root was mounted.
    pub fn hostname(&self) -> &str {
        self.one("HOSTNAME")
    }

    /// What is mounted now, in order.
    pub fn mounts(&self) -> Vec<Mount> {
        self.mounts_of("MOUNT")
    }

    /// What was mounted before the first unit of systemd ran.
    pub fn early_mounts(&self) -> Vec<Mount> {
        self.mounts_of("EARLY")
    }

    fn mounts_of(&self, tag: &str) -> Vec<Mount> {
        self.all(tag).into_iter().filter_map(Mount::parse).collect()
    }

    /// The dataset mounted at `point` (the uppermost) in `mounts`, if it is ZFS.
    pub fn dataset_at(mounts: &[Mount], point: &str) -> Option<String> {
        mounts.iter().rev().find(|m| m.point == point).filter(|m| m.kind == "zfs").map(|m| m.source.clone())
    }

    /// All `zpool status -P` said.
    pub fn zpool(&self) -> String {
        self.all("ZPOOL").join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "noise\n@@KIND debian\n@@HOSTNAME be1\n\
        @@EARLY 22 1 0:20 / / rw,relatime - zfs tank/ROOT/be1 rw,xattr,posixacl\n\
        @@MOUNT 22 1 0:20 / / rw,relatime shared:1 - zfs tank/ROOT/be1 rw,xattr,posixacl\n\
        @@MOUNT 30 22 0:30 / /a\\040b rw - zfs tank/x rw\n@@JSON {\"a\":\n@@JSON 1}\n";

    #[test]
    fn reads_tags_mounts_and_json() {
        let report = Report::parse(TEXT).unwrap();
        assert_eq!(report.hostname(), "be1");
        assert_eq!(Report::dataset_at(&report.mounts(), "/").as_deref(), Some("tank/ROOT/be1"));
        assert_eq!(Report::dataset_at(&report.early_mounts(), "/").as_deref(), Some("tank/ROOT/be1"));
        assert_eq!(Report::dataset_at(&report.mounts(), "/a b").as_deref(), Some("tank/x"));
        assert_eq!(report.json.unwrap()["a"], 1);
    }

    #[test]
    fn a_report_needs_its_kind() {
        assert!(Report::parse("@@MOUNT x\n").is_err());
        assert!(Mount::parse("22 1 0:20 /").is_none());
    }
}
