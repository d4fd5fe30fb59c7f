//! The old system is left: it ends as for a restart, and what its last step starts is the kernel that was loaded.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taproot_init::shutdown;
use taproot_init::sys::{End, System};

/// Where systemd looks for the program of the very end.
const PLACE: &str = "/run/initramfs";

/// Ends the running system. Comes back before it has ended where it has a service manager.
pub(super) fn leave(system: &dyn System) -> Result<()> {
    if !system.exists(Path::new("/run/systemd/system")) {
        // Nobody who ends services: what is written is made durable, and nothing more is.
        system.sync_all();
        let _ = system.write(Path::new("/proc/sysrq-trigger"), b"u");
        return system.end_now(End::Kexec).context("starting the loaded kernel");
    }
    // Older systemd starts a loaded kernel by the program of kexec-tools, which need not be there: this program does it instead.
    if shutdown::prepare(system).is_err() {
        // /run is mounted noexec.
        let place = Path::new(PLACE);
        system.make_dirs(place).and_then(|()| system.mount("tmpfs", place, "tmpfs", 0, "mode=0755")).context(PLACE)?;
        shutdown::prepare(system).with_context(|| format!("leaving the program for the end in {PLACE}"))?;
    }
    let status = Command::new("systemctl").args(["--no-block", "kexec"]).status().context("starting systemctl")?;
    ensure!(
        status.success(),
        "systemctl kexec: {status}; the system goes on, and the rehearsal's kernel is loaded: systemctl kexec starts it"
    );
    Ok(())
}
