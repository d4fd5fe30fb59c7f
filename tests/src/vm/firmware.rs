//! UEFI firmware of a VM: OVMF from Debian's package `ovmf`, or from wherever the distribution has it under that name.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Code and empty variable store, in the order of preference.
const IMAGES: [[&str; 2]; 2] = [
    ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
    ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"],
];

/// The values of QEMU's `-drive` for the firmware, with its variables in the file `variables`, made empty if it is not there.
pub fn drives(variables: &Path) -> Result<[String; 2]> {
    let [code, empty] = IMAGES
        .into_iter()
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
