//! What a pool needs of those that read and write it.

/// Which programs are to understand the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compatibility {
    /// Whatever knows OpenZFS 2.0, also FreeBSD 13 and its loader.
    #[default]
    OpenZfs20,
    /// GRUB, too: no zstd.
    Grub,
    /// `OpenZFS` 2.0 as FreeBSD 13 has it.
    FreeBsd,
}

impl Compatibility {
    /// The value of the pool's property.
    pub(super) fn property(self) -> &'static str {
        match self {
            Compatibility::OpenZfs20 => "openzfs-2.0-linux",
            Compatibility::Grub => "grub2",
            Compatibility::FreeBsd => "openzfs-2.0-freebsd",
        }
    }
}

pub(super) const ZSTD: &str = "org.freebsd:zstd_compress";
pub(super) const EXTENSIBLE_DATASET: &str = "com.delphix:extensible_dataset";
/// FreeBSD got it later.
const EDONR: &str = "org.illumos:edonr";
const EMBEDDED: &str = "com.delphix:embedded_data";

/// Features that every pool has enabled: guid, needed to read, in use from the start.
const BASIC: [(&str, bool, u64); 10] = [
    ("org.illumos:lz4_compress", true, 1),
    (EMBEDDED, true, 1),
    ("com.delphix:async_destroy", false, 0),
    ("com.delphix:empty_bpobj", false, 0),
    (super::spacemap::HISTOGRAM, false, 0),
    ("com.delphix:spacemap_v2", false, 1),
    ("com.delphix:log_spacemap", false, 0),
    ("com.delphix:zpool_checkpoint", false, 0),
    ("org.zfsonlinux:allocation_classes", false, 0),
    ("com.datto:resilver_defer", false, 0),
];

/// Features that GRUB does not know, or that depend on such. `userobj_accounting` and `project_quota` are left to the owner: the
/// kernel would read every file at the first mount. `hole_birth` needs a record of when it was enabled.
const LATER: [(&str, bool); 17] = [
    (EXTENSIBLE_DATASET, true),
    ("com.joyent:multi_vdev_crash_dump", true),
    ("com.delphix:bookmarks", false),
    ("com.joyent:filesystem_limits", false),
    ("org.open-zfs:large_blocks", true),
    ("org.zfsonlinux:large_dnode", true),
    ("org.illumos:sha512", true),
    ("org.illumos:skein", true),
    (EDONR, true),
    ("com.delphix:device_removal", true),
    ("com.delphix:obsolete_counts", false),
    ("com.datto:bookmark_v2", true),
    ("com.delphix:bookmark_written", true),
    ("com.delphix:redaction_bookmarks", true),
    ("com.delphix:redacted_datasets", true),
    ("com.delphix:livelist", false),
    ("org.openzfs:device_rebuild", false),
];

/// Features with the number of their users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Those without which the pool cannot be read.
    pub(super) read: Vec<(&'static str, u64)>,
    /// Those without which it cannot be written.
    pub(super) write: Vec<(&'static str, u64)>,
}

impl Features {
    /// For a pool in which `zstd` data sets and snapshots are compressed that way.
    pub(super) fn new(compatibility: Compatibility, zstd: u64) -> Self {
        let mut all: Vec<(&str, bool, u64)> = BASIC.to_vec();
        if compatibility != Compatibility::Grub {
            let known = LATER.iter().filter(|(guid, _)| compatibility != Compatibility::FreeBsd || *guid != EDONR);
            all.extend(known.map(|(guid, read)| (*guid, *read, if *guid == EXTENSIBLE_DATASET { zstd } else { 0 })));
            all.push((ZSTD, true, zstd));
        }
        let (read, write): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, read, _)| *read);
        let short =
            |list: Vec<(&'static str, bool, u64)>| list.into_iter().map(|(guid, _, users)| (guid, users)).collect();
        Features { read: short(read), write: short(write) }
    }

    /// Those that must be known before anything of the pool can be read.
    pub(super) fn in_label() -> [&'static str; 1] {
        [EMBEDDED]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_reads_what_it_shall_read() {
        let features = Features::new(Compatibility::Grub, 0);
        let names: Vec<&str> = features.read.iter().map(|(guid, _)| *guid).collect();
        assert_eq!(names, ["org.illumos:lz4_compress", "com.delphix:embedded_data"]);
        let full = Features::new(Compatibility::OpenZfs20, 3);
        let free = Features::new(Compatibility::FreeBsd, 3);
        assert_eq!(full.read.iter().filter(|feature| !free.read.contains(feature)).collect::<Vec<_>>(), [&(EDONR, 0)]);
        assert!(full.read.contains(&(ZSTD, 3)) && full.read.contains(&(EXTENSIBLE_DATASET, 3)));
    }
}
