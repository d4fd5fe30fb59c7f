//! UEFI firmware of a VM: OVMF from Debian's package `ovmf`, or from wherever the distribution has it under that name.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Code and empty variable store, in the order of preference.
const IMAGES: [[&str; 2]; 2] = [
    ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
    ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"],
];

/// The same with Secure Boot, whose variables know one key: that of Debian's package, for tests.
const SECURE: [[&str; 2]; 1] =
    [["/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"]];

/// That key.
pub const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
/// Its passphrase.
pub const PASSPHRASE: &str = "snakeoil";
/// Its certificate.
pub const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";

/// What else a machine needs whose variables only the firmware may write.
pub const GUARDED: [&str; 4] = ["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"];

/// The values of QEMU's `-drive` for the firmware (`secure`: with Secure Boot), with its variables in the file `variables`, which is made
/// if it is not there.
pub fn drives(variables: &Path, secure: bool) -> Result<[String; 2]> {
    let images: &[[&str; 2]] = if secure { &SECURE } else { &IMAGES };
    let [code, empty] = images
        .iter()
        .find(|pair| pair.iter().all(|path| Path::new(path).exists()))
        .context("no UEFI firmware in /usr/share/OVMF; run: make host")?;
    if !variables.exists() {
        fs::copy(empty, variables).with_context(|| format!("copying {empty} to {}", variables.display()))?;
    }
    Ok([
        format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        format!("if=pflash,unit=1,format=raw,file={}", variables.display()),
    ])
}
