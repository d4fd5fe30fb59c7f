//! Signatures for Secure Boot, by sbsign. They differ from run to run by the time in them, so they come last.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an EFI program is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The private key (PEM).
    pub key: PathBuf,
    /// Its certificate (PEM), which the firmware has in its db.
    pub certificate: PathBuf,
}

/// The program with a signature.
pub fn sign(program: &[u8], keys: &Keys) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().context("making a directory for sbsign")?;
    let (from, to) = (dir.path().join("unsigned.efi"), dir.path().join("signed.efi"));
    fs::write(&from, program).with_context(|| format!("{}: writing", from.display()))?;
    for path in [&keys.key, &keys.certificate] {
        fs::metadata(path).with_context(|| format!("{}: expected a key for Secure Boot", path.display()))?;
    }
    let output = Command::new("sbsign")
        .args([
            Path::new("--key"),
            &keys.key,
            Path::new("--cert"),
            &keys.certificate,
            Path::new("--output"),
            &to,
            &from,
        ])
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("sbsign is not there, and a key for Secure Boot is configured: install sbsigntool")
        }
        other => other.context("starting sbsign")?,
    };
    if !output.status.success() {
        bail!("sbsign: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::read(&to).with_context(|| format!("{}: reading what sbsign wrote", to.display()))
}
