//! Which accelerator QEMU gets, and how much slower everything is with it.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

/// A QEMU accelerator that was seen to work on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accel {
    /// The argument of `-accel`.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// A time limit that is right for KVM, scaled to this accelerator.
    pub fn limit(self, seconds: u64) -> Duration {
        Duration::from_secs(match self {
            Self::Kvm => seconds,
            Self::Tcg => seconds * 6,
        })
    }
}

/// The accelerator of this machine: `kit/accel.sh` tries once per boot, `TAPROOT_ACCEL=kvm|tcg` overrides.
pub fn accel() -> Result<Accel> {
    static VERDICT: OnceLock<Result<Accel, String>> = OnceLock::new();
    VERDICT.get_or_init(|| probe().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn probe() -> Result<Accel> {
    let script = crate::checkout().join("tests/kit/accel.sh");
    match crate::kit::run(&mut Command::new(script))?.trim() {
        "kvm" => Ok(Accel::Kvm),
        said if said.starts_with("tcg") => Ok(Accel::Tcg),
        other => bail!("accel.sh: expected kvm or tcg, found {other:?}"),
    }
}
