//! Which modules an image starts from; their dependencies follow by themselves.
//!
//! A name that a kernel does not have, or has built in, is skipped: the lists name what common machines boot from over
//! many kernel versions.

use taproot_init::devices::verity;

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
    Group { why: "keyboard for the rescue shell", names: &["atkbd", "i8042", "usbhid", "hid_generic"] },
    Group { why: "USB controllers, for keyboards and disks", names: &["xhci_pci", "xhci_pci_renesas"] },
    Group {
        why: "variables of UEFI firmware: where a hibernated system is, how often a boot failed",
        names: &["efivarfs"],
    },
    Group {
        why: "plain roots and files beside the pool: ext4 and vfat",
        names: &["ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
    },
    Group { why: "USB disks: sticks with keys, and for save-log", names: &["usb_storage", "uas", "sd_mod"] },
];

/// For layers that must be as they were sealed.
pub const LAYERS_CHECKED: Group = Group { why: "layers that are checked as they are read", names: &verity::MODULES };

/// In images, also of one machine, whose boot makes its root of layers.
pub const LAYERED: &[Group] = &[
    LAYERS_CHECKED,
    Group { why: "layers and images", names: &["loop", "overlay", "squashfs", "erofs"] },
    Group { why: "media that layers lie on, or that directories are kept on", names: &["isofs", "udf", "exfat"] },
];

/// Keyboards and disks of common machines, real and virtual.
pub const GENERIC: &[Group] = &[
    Group {
        why: "virtio disks",
        names: &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_rng"],
    },
    Group { why: "older USB controllers", names: &["ehci_pci", "ohci_pci", "uhci_hcd"] },
    Group { why: "keyboards of virtual machines", names: &["hyperv_keyboard", "hid_hyperv", "virtio_input"] },
    Group { why: "NVMe", names: &["nvme", "vmd"] },
    Group { why: "optical drives", names: &["sr_mod"] },
    Group {
        why: "SCSI, RAID and Fibre Channel host adapters",
        names: &[
            "megaraid_sas",
            "mpi3mr",
            "mpt3sas",
            "mptsas",
            "mptspi",
            "hpsa",
            "smartpqi",
            "aacraid",
            "aic7xxx",
            "aic79xx",
            "mvsas",
            "isci",
            "arcmsr",
            "3w_9xxx",
            "sym53c8xx",
            "pm80xx",
            "qla2xxx",
            "lpfc",
        ],
    },
    Group { why: "disks on PCIe cards", names: &["mtip32xx"] },
    Group { why: "disks of card readers behind USB", names: &["ums_realtek", "rtsx_usb_sdmmc"] },
    Group { why: "disks on FireWire", names: &["firewire_ohci", "firewire_sbp2"] },
    Group { why: "persistent memory", names: &["nfit", "nd_pmem", "virtio_pmem"] },
    Group { why: "SD cards and eMMC", names: &["mmc_block", "sdhci_pci", "sdhci_acpi", "rtsx_pci_sdmmc"] },
    Group { why: "UFS", names: &["ufshcd_pci"] },
    Group { why: "Hyper-V disks", names: &["hv_vmbus", "hv_storvsc", "pci_hyperv"] },
    Group { why: "Xen disks", names: &["xen_blkfront", "xen_scsifront"] },
    Group { why: "VMware disks", names: &["vmw_pvscsi"] },
    Group {
        why: "keyboards of laptops: buses, and what they hang on",
        names: &[
            "intel_lpss_pci",
            "intel_lpss_acpi",
            "i2c_designware_platform",
            "i2c_designware_pci",
            "i2c_hid_acpi",
            "spi_pxa2xx_platform",
            "spi_pxa2xx_pci",
            "applespi",
            "cros_ec_lpcs",
            "cros_ec_keyb",
            "8250_dw",
            "surface_aggregator_registry",
            "surface_aggregator_hub",
        ],
    },
    Group { why: "layers and images", names: &["loop", "overlay"] },
    LAYERS_CHECKED,
    Group { why: "file systems that the ISO file of a live system may lie on", names: &["exfat", "ntfs3", "udf"] },
    Group { why: "plain roots: squashfs, erofs, iso9660", names: &["squashfs", "erofs", "isofs"] },
];

/// A directory below `kernel/` whose modules are wanted, whatever they are called, and why.
pub const GENERIC_DIRECTORIES: &[(&str, &str)] = &[
    ("drivers/ata/", "SATA and PATA"),
    ("drivers/hid/", "keyboards that need a driver of their own"),
    ("drivers/pinctrl/intel/", "keyboards of laptops: their interrupts"),
];

/// What of these directories nobody types on, and no system lies on: sensors, tablets, games, bridges, and drivers that poke at
/// ports where no bus tells of a disk.
pub const NOT_WANTED: &[&str] = &[
    "amd_sfh",
    "hid_accutouch",
    "hid_alps",
    "hid_appleir",
    "hid_axff",
    "hid_betopff",
    "hid_bigbenff",
    "hid_cp2112",
    "hid_dr",
    "hid_elo",
    "hid_emsff",
    "hid_ft260",
    "hid_gaff",
    "hid_gt683r",
    "hid_holtek_mouse",
    "hid_holtekff",
    "hid_led",
    "hid_mcp2221",
    "hid_mf",
    "hid_nintendo",
    "hid_ntrig",
    "hid_penmount",
    "hid_picolcd",
    "hid_pl",
    "hid_playstation",
    "hid_prodikeys",
    "hid_roccat_kone",
    "hid_roccat_koneplus",
    "hid_roccat_konepure",
    "hid_roccat_kovaplus",
    "hid_roccat_lua",
    "hid_roccat_pyra",
    "hid_roccat_savu",
    "hid_sensor_custom",
    "hid_sensor_hub",
    "hid_sjoy",
    "hid_sony",
    "hid_steam",
    "hid_thrustmaster",
    "hid_tmff",
    "hid_u2fzero",
    "hid_uclogic",
    "hid_udraw_ps3",
    "hid_universal_pidff",
    "hid_waltop",
    "hid_wiimote",
    "hid_zpff",
    "pata_legacy",
    "pata_pcmcia",
    "wacom",
];

/// File systems that are large, each with the programs of a system that uses it: without, nobody has made one there.
pub const FILE_SYSTEMS: &[(&str, &[&str])] =
    &[("xfs", &["xfs_repair", "mkfs.xfs"]), ("btrfs", &["btrfs"]), ("f2fs", &["fsck.f2fs", "mkfs.f2fs"])];

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
        assert!(NOT_WANTED.is_sorted() && NOT_WANTED.iter().all(|name| !seen.contains(name)));
    }
}
