//! QEMU's command line. Pure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The program.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// Code and empty variable store of UEFI firmware, where distributions have them (Debian, Fedora, Arch).
const OVMF: [[&str; 2]; 5] = [
    ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
    ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"],
    ["/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"],
    ["/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"],
    ["/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"],
];

/// A port of this machine that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    host: u16,
    guest: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let ports =
            text.split_once(':').and_then(|(host, guest)| Some(Self { host: parse(host)?, guest: parse(guest)? }));
        ports.ok_or_else(|| format!("expected HOST:GUEST, two ports such as 2222:22, found {text:?}"))
    }
}

/// What the machine is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u16,
    /// Whether UEFI firmware starts it; `None`: as the image wants it.
    pub uefi: Option<bool>,
    /// An image keeps what is written to it.
    pub write: bool,
    /// A window, instead of the serial line on this terminal.
    pub window: bool,
    /// Ports that lead into it.
    pub forwards: Vec<Forward>,
    /// Words for the kernel of a tree.
    pub words: String,
    /// Further arguments for QEMU.
    pub more: Vec<String>,
}

/// What starts the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Firmware {
    /// `SeaBIOS`.
    Bios,
    /// OVMF.
    Uefi {
        /// Its code.
        code: PathBuf,
        /// Its variables, which it writes.
        variables: PathBuf,
    },
}

/// What it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Boot {
    /// What is on a disk.
    Image(PathBuf, &'static str),
    /// A kernel, whose root is a disk.
    Kernel { kernel: PathBuf, initramfs: PathBuf, words: String, root: PathBuf },
}

/// The firmware that is there.
pub(super) fn ovmf(there: impl Fn(&Path) -> bool) -> Option<[&'static Path; 2]> {
    OVMF.into_iter().map(|pair| pair.map(Path::new)).find(|pair| pair.iter().all(|path| there(path)))
}

/// A path in one of QEMU's lists of options, where a comma stands for two.
fn listed(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The arguments.
pub(super) fn arguments(boot: &Boot, firmware: &Firmware, options: &Options) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| list.extend(words.iter().map(|word| (*word).to_owned()));
    // Where there is no KVM, or no right to it, the processor is emulated.
    add(&["-machine", "q35,accel=kvm:tcg", "-cpu", "max"]);
    add(&["-m", &options.memory.to_string(), "-smp", &options.cpus.to_string()]);
    if !options.window {
        add(&["-nographic"]);
    }
    if let Firmware::Uefi { code, variables } = firmware {
        add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", listed(code))]);
        add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", listed(variables))]);
    }
    match boot {
        Boot::Image(path, format) => {
            // What the guest writes goes to a file without a name, and is gone with the machine.
            let snapshot = if options.write { "off" } else { "on" };
            add(&["-drive", &format!("if=virtio,format={format},snapshot={snapshot},file={}", listed(path))]);
        }
        Boot::Kernel { kernel, initramfs, words, root } => {
            let shown = |path: &Path| path.display().to_string();
            add(&["-kernel", &shown(kernel), "-initrd", &shown(initramfs), "-append", words]);
            add(&["-drive", &format!("if=virtio,format=raw,readonly=on,file={}", listed(root))]);
        }
    }
    let mut net = "user,model=virtio-net-pci".to_owned();
    for Forward { host, guest } in &options.forwards {
        let _ = write!(net, ",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
    }
    add(&["-nic", &net]);
    add(&["-device", "virtio-rng-pci"]);
    list.extend(options.more.iter().cloned());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { memory: 1024, cpus: 2, ..Options::default() }
    }

    #[test]
    fn an_image_is_not_written_to_unless_asked_for() {
        let boot = Boot::Image("/a,b.qcow2".into(), "qcow2");
        let line = |options: &Options| arguments(&boot, &Firmware::Bios, options).join(" ");
        assert!(line(&options()).contains("format=qcow2,snapshot=on,file=/a,,b.qcow2"));
        assert!(line(&Options { write: true, ..options() }).contains("snapshot=off"));
        assert!(
            line(&options()).contains("-nographic")
                && !line(&Options { window: true, ..options() }).contains("-nographic")
        );
    }

    #[test]
    fn a_tree_is_read_only_and_its_kernel_given() {
        let boot = Boot::Kernel {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            words: "root=/dev/vda".into(),
            root: "/r".into(),
        };
        let with =
            Options { write: true, forwards: vec!["2222:22".parse().unwrap()], more: vec!["-S".into()], ..options() };
        let line = arguments(&boot, &Firmware::Bios, &with).join(" ");
        for part in [
            "-kernel /k -initrd /i -append root=/dev/vda",
            "format=raw,readonly=on,file=/r",
            "-m 1024 -smp 2",
            "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(line.ends_with(" -S"));
        for wrong in ["22", "a:b", "0:22", "1:70000", ":"] {
            assert!(wrong.parse::<Forward>().unwrap_err().contains("2222:22"), "{wrong}");
        }
    }

    #[test]
    fn firmware_is_taken_with_its_variables() {
        assert_eq!(ovmf(|_| false), None);
        let second = ovmf(|path| path.starts_with("/usr/share/edk2")).unwrap();
        assert_eq!(second, ["/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"].map(Path::new));
        assert_eq!(
            ovmf(|path| !path.ends_with("OVMF_VARS_4M.fd")).unwrap()[0],
            Path::new("/usr/share/OVMF/OVMF_CODE.fd")
        );
        let uefi = Firmware::Uefi { code: "/c".into(), variables: "/v".into() };
        let line = arguments(&Boot::Image("/a".into(), "raw"), &uefi, &options()).join(" ");
        assert!(line.contains("unit=0,format=raw,readonly=on,file=/c") && line.contains("unit=1,format=raw,file=/v"));
    }
}
