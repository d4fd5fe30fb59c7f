//! Which modules an image starts from; their dependencies follow by themselves.
//!
//! A name that a kernel does not have, or has built in, is skipped: the lists name what common machines boot from over
//! many kernel versions.

/// A group of names and why they are packed.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The reason, as the manifest shows it.
    pub why: &'static str,
    /// Module names.
    pub names: &'static [&'static str],
}

/// Must exist in every image for a root in a pool, and is packed in any that can have it.
pub const ZFS: Group = Group { why: "root file system", names: &["zfs"] };

/// Wanted in every image, whatever the machine.
pub const ALWAYS: &[Group] = &[
    Group { why: "layers and images: loop, squashfs, overlay", names: &["loop", "squashfs", "overlay"] },
    Group {
        why: "keyboard for the rescue shell",
        names: &["atkbd", "i8042", "usbhid", "hid_generic", "hyperv_keyboard", "hid_hyperv", "virtio_input"],
    },
    Group { why: "USB controllers, for keyboards and disks", names: &["xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd"] },
    Group {
        why: "variables of UEFI firmware: where a hibernated system is, how often a boot failed",
        names: &["efivarfs"],
    },
    Group {
        why: "plain roots and files beside the pool: ext4 and vfat",
        names: &["ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
    },
];

/// Wanted beside what this machine has: what is plugged in later.
pub const HOST: &[Group] =
    &[Group { why: "USB disks: sticks with keys, and for save-log", names: &["usb_storage", "uas", "sd_mod"] }];

/// Disks of common machines, real and virtual.
pub const GENERIC: &[Group] = &[
    Group {
        why: "virtio disks",
        names: &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_rng"],
    },
    Group { why: "NVMe", names: &["nvme", "vmd"] },
    Group { why: "SCSI disks and optical drives", names: &["sd_mod", "sr_mod"] },
    Group {
        why: "SATA and PATA",
        names: &["ahci", "ata_piix", "ata_generic", "sata_nv", "sata_sil24", "sata_via", "pata_acpi"],
    },
    Group {
        why: "SCSI and RAID host adapters",
        names: &[
            "megaraid_sas",
            "mpt3sas",
            "mptsas",
            "mptspi",
            "hpsa",
            "smartpqi",
            "aacraid",
            "mvsas",
            "isci",
            "arcmsr",
            "3w_9xxx",
            "sym53c8xx",
            "pm80xx",
        ],
    },
    Group { why: "USB disks", names: &["usb_storage", "uas"] },
    Group {
        why: "SD cards and eMMC",
        names: &["mmc_block", "sdhci_pci", "sdhci_acpi", "rtsx_pci_sdmmc", "rtsx_usb_sdmmc"],
    },
    Group { why: "UFS", names: &["ufshcd_pci"] },
    Group { why: "Hyper-V disks", names: &["hv_vmbus", "hv_storvsc", "pci_hyperv"] },
    Group { why: "Xen disks", names: &["xen_blkfront", "xen_scsifront"] },
    Group { why: "VMware disks", names: &["vmw_pvscsi"] },
    Group { why: "Intel platform storage", names: &["intel_lpss_pci"] },
    Group { why: "plain roots: xfs, btrfs, f2fs, erofs, iso9660", names: &["xfs", "btrfs", "f2fs", "erofs", "isofs"] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_canonical_and_stand_once() {
        let mut seen = BTreeSet::new();
        for name in ALWAYS.iter().chain(GENERIC).chain(&[ZFS]).flat_map(|g| g.names) {
            assert!(!name.contains('-'), "{name}");
            assert!(seen.insert(name), "{name} stands twice");
        }
    }
}
