//! A newer kernel that Debian's package manager installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::layers::made;

/// The n-th release after the installed one: the last number but that of the architecture counts up, with as many digits.
pub fn release(system: &System, n: u32) -> Result<String> {
    let (before, arch) = system.kernel.rsplit_once('-').context("a release with an architecture")?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = before.split_at(before.len() - digits);
    let number = number.parse::<u32>().context("a release with a number before its architecture")? + n;
    let release = format!("{stem}{number:0digits$}-{arch}");
    ensure!(release.len() == system.kernel.len(), "{}: it has no room for {n} more", system.kernel);
    Ok(release)
}

/// The package of a newer kernel that boots and calls itself so: Debian's own, with another release and few modules; and these.
pub fn package(system: &System, modules: &[&str]) -> Result<PathBuf> {
    let scripts = ["kernel-release.sh", "kernel-package.sh"].map(|name| crate::checkout().join("tests/kit").join(name));
    let [release_of, package] = &scripts;
    let (newer, modules) = (release(system, 1)?, modules.join(" "));
    let mut of = format!("{newer} {modules}");
    for script in &scripts {
        of += &fs::read_to_string(script).with_context(|| format!("reading {}", script.display()))?;
    }
    let name = if modules.is_empty() { "kernel".to_owned() } else { format!("kernel {modules}").replace(' ', "-") };
    let dir = made(system, &name, &of, |dir| {
        let kernel = dir.join("vmlinuz");
        let common = |script: &Path| {
            let mut command = Command::new(script);
            command.arg(system.tree()).args([&system.kernel, &newer]);
            command
        };
        kit::run(common(release_of).arg(&kernel))?;
        kit::run(common(package).args([&dir.join("kernel.deb"), &kernel]).arg(&modules))?;
        fs::remove_file(&kernel).context("removing the kernel that is packed")
    })?;
    Ok(dir.join("kernel.deb"))
}
