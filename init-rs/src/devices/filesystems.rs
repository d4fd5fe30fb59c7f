//! The modules behind a file system's type. The kernel would ask modprobe for them by an alias; there is none.

/// Character sets that FAT asks for when it is mounted, depending on the kernel's configuration.
const CHARACTER_SETS: [&str; 4] = ["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"];

/// What to load for a type, as mount(2) has it; the last one is the file system itself, without the others it may do.
pub fn modules(fstype: &str) -> Vec<&str> {
    match fstype {
        "vfat" | "msdos" => CHARACTER_SETS.into_iter().chain([fstype]).collect(),
        // Its driver mounts them all.
        "ext2" | "ext3" => vec!["ext4"],
        "iso9660" => vec!["isofs"],
        other => vec![other],
    }
}

/// Whether nothing can be written to file systems of this type: the kernel mounts them read-only or not at all.
pub fn never_written(fstype: &str) -> bool {
    matches!(fstype, "squashfs" | "erofs" | "iso9660" | "cramfs" | "romfs")
}

/// The option that keeps a read-only mount of this type from replaying a journal, which would write; empty for none.
pub fn without_replay(fstype: &str) -> &'static str {
    match fstype {
        "ext3" | "ext4" => "noload",
        "xfs" | "f2fs" => "norecovery",
        "btrfs" => "rescue=nologreplay",
        _ => "",
    }
}

/// Whether an option goes with [`without_replay`]: ext4 refuses those about its journal where it is to do without.
pub fn goes_without_replay(fstype: &str, option: &str) -> bool {
    let of_the_journal = ["commit=", "data=", "data_err=", "journal_"].iter().any(|start| option.starts_with(start));
    !(of_the_journal && matches!(fstype, "ext3" | "ext4"))
}

/// Whether file systems of this type are in memory alone.
pub fn in_memory(fstype: &str) -> bool {
    matches!(fstype, "tmpfs" | "ramfs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_called_otherwise() {
        assert_eq!(modules("xfs"), ["xfs"]);
        assert_eq!(modules("ext3"), ["ext4"]);
        assert_eq!(modules("iso9660"), ["isofs"]);
        assert_eq!(modules("vfat").last(), Some(&"vfat"));
        assert_eq!(modules("msdos").len(), 5);
    }
}
