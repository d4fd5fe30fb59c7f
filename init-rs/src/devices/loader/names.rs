//! What a module is given when it is inserted.

use crate::devices::table::{Module, canonical_name};

/// A parameter on the kernel command line, `module.param[=value]`: module, parameter, value.
pub type ModuleOption = (String, String, Option<String>);

/// Parameters of a module: those packed, then those of the command line in their order, as the kernel takes them (the
/// last one of a name wins, as with modprobe).
pub fn module_params(module: &Module, cmdline: &[ModuleOption]) -> String {
    let mut params = module.params.clone();
    let name = canonical_name(&module.name);
    for (_, param, value) in cmdline.iter().filter(|(of, ..)| canonical_name(of) == name) {
        if !params.is_empty() {
            params.push(' ');
        }
        params.push_str(param);
        match value {
            // The kernel's parser takes quotes around a value with blanks.
            Some(value) if value.contains(char::is_whitespace) && !value.contains('"') => {
                params.push_str("=\"");
                params.push_str(value);
                params.push('"');
            }
            Some(value) => {
                params.push('=');
                params.push_str(value);
            }
            None => {}
        }
    }
    params
}

/// Words of parameters, as the kernel's parser splits them.
fn words(params: &str) -> Vec<&str> {
    let mut quoted = false;
    let blank = |c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    };
    params.split(blank).filter(|word| !word.is_empty()).collect()
}

/// The parameters that a module is inserted with after it has refused all of them: this system's hostid, which the pool is
/// marked with, and nothing else.
pub(super) fn needed(params: &str) -> String {
    words(params).into_iter().filter(|word| word.starts_with("spl_hostid=")).collect::<Vec<_>>().join(" ")
}

/// Each of a module's parameters but the [`needed`] ones, and where it comes from; `packed`: those of the table, which stand first.
pub(super) fn origins(params: &str, packed: &str) -> String {
    let packed = words(packed).len();
    let from =
        |at: usize| if at < packed { "modprobe.d, when the image was packed" } else { "the kernel command line" };
    let all = words(params).into_iter().enumerate().filter(|(_, word)| !word.starts_with("spl_hostid="));
    all.map(|(at, word)| format!("{word} (from {})", from(at))).collect::<Vec<_>>().join(", ")
}

/// Modules that drive no device, by name, and those by the beginning of their name.
const WITHOUT_DEVICE: [&str; 45] = [
    "autofs4",
    "blake2b_generic",
    "btrfs",
    "cdrom",
    "crc16",
    "crc32c_generic",
    "crc32c_intel",
    "efivarfs",
    "erofs",
    "exfat",
    "ext4",
    "f2fs",
    "fat",
    "fuse",
    "icp",
    "isofs",
    "jbd2",
    "libcrc32c",
    "lz4_compress",
    "lz4_decompress",
    "lz4hc_compress",
    "mbcache",
    "minix",
    "msdos",
    "netfs",
    "ntfs3",
    "overlay",
    "raid6_pq",
    "spl",
    "squashfs",
    "udf",
    "vfat",
    "xfs",
    "xor",
    "xxhash_generic",
    "zavl",
    "zcommon",
    "zfs",
    "zlib_deflate",
    "zlua",
    "znvpair",
    "zstd_compress",
    "zstd_decompress",
    "zunicode",
    "zzstd",
];
const FAMILIES: [&str; 1] = ["nls_"];

/// The parameters as `finit_module(2)` gets them. The kernel ends an insertion only when all probing of devices that goes on
/// in the machine is over, be it another module's, unless it is told that the module probes in the background. A file system
/// has nothing to probe, so it is told so; a driver keeps its own order of things.
pub fn insertion(module: &Module, params: &str) -> String {
    let name = canonical_name(&module.name);
    let free = WITHOUT_DEVICE.contains(&name.as_str()) || FAMILIES.iter().any(|family| name.starts_with(family));
    if !free || params.split_whitespace().any(|word| word.starts_with("async_probe")) {
        return params.to_owned();
    }
    format!("{params} async_probe=1").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::table::When;

    #[test]
    fn parameters_that_are_left_out_and_where_they_come_from() {
        let params = "zfs_arc_max=4G spl_hostid=0x11 name=\"a b\" spl_hostid=0x12";
        assert_eq!(needed(params), "spl_hostid=0x11 spl_hostid=0x12");
        assert_eq!(needed("zfs_arc_max=4G"), "");
        let origins = origins(params, "zfs_arc_max=4G spl_hostid=0x11");
        let packed = "zfs_arc_max=4G (from modprobe.d, when the image was packed)";
        assert_eq!(origins, format!("{packed}, name=\"a b\" (from the kernel command line)"));
    }

    #[test]
    fn only_what_drives_no_device_is_told_not_to_wait() {
        let given = |name: &str, params: &str| {
            let module = Module {
                name: name.into(),
                path: String::new(),
                when: When::Device,
                deps: vec![],
                soft: vec![],
                params: String::new(),
            };
            insertion(&module, params)
        };
        assert_eq!(given("zfs", ""), "async_probe=1");
        assert_eq!(given("spl", "spl_hostid=0x11"), "spl_hostid=0x11 async_probe=1");
        assert_eq!(given("nls-cp437", ""), "async_probe=1");
        assert_eq!(given("ext4", "async_probe=0"), "async_probe=0");
        for driver in ["ahci", "nvme", "virtio_blk", "loop", "usb_storage", "libata", "scsi_mod"] {
            assert_eq!(given(driver, "x=1"), "x=1", "{driver}");
        }
        assert!(WITHOUT_DEVICE.is_sorted());
    }
}
