//! Packed modules on demand: the kernel's own request for a file system's module goes to a modprobe that no image has.

use crate::devices::loader::Loader;
use crate::devices::table::{Module, ModuleTable, TABLE_PATH};
use crate::sys::kmod;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for a module.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loads those of these modules that are packed, with what they need. Others may be built in; use tells.
pub(super) fn load(names: &[&str]) {
    let Ok(table) = ModuleTable::parse(&std::fs::read_to_string(TABLE_PATH).unwrap_or_default()) else { return };
    let insert = |module: &Module, params: &str| kmod::load(Path::new(&module.path), params);
    let loader = Loader::new(table, &[], &[], insert, |_, _| {});
    for name in names {
        let _ = loader.wait(name, Instant::now() + PATIENCE);
    }
    let _ = loader.shutdown(PATIENCE);
}
