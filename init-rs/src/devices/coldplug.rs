//! The devices that were there before us: their modaliases, read from `/sys`.
//!
//! `/sys/bus/*/devices` lists every device that a driver can bind to, flat; walking the whole of `/sys/devices` finds
//! the same with several times the directory reads, which an emulated processor notices.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Buses whose devices have no modalias, or no driver to load; a machine can have thousands of them.
const WITHOUT_DRIVERS: [&str; 9] =
    ["clockevents", "clocksource", "container", "cpu", "event_source", "machinecheck", "memory", "node", "workqueue"];
/// Classes whose devices have a modalias without being on a bus.
const CLASSES: [&str; 2] = ["dmi", "input"];
/// Longest modalias read: `cpu:` and `input:` ones go up to a page.
const MODALIAS_MAX: u64 = 8192;

/// Calls `found` once for each different modalias under `sys` (`/sys`). What cannot be read is passed over: a device may
/// go while it is looked at.
pub fn walk(sys: &Path, mut found: impl FnMut(&str)) {
    let mut seen = HashSet::new();
    let mut visit = |file: &Path| {
        if let Some(modalias) = read_modalias(file)
            && !seen.contains(&modalias)
        {
            found(&modalias);
            seen.insert(modalias);
        }
    };
    if let Ok(buses) = fs::read_dir(sys.join("bus")) {
        for bus in buses.flatten() {
            if !bus.file_name().to_str().is_some_and(|name| WITHOUT_DRIVERS.contains(&name)) {
                each_device(&bus.path().join("devices"), &mut visit);
            }
        }
    }
    for class in CLASSES {
        each_device(&sys.join("class").join(class), &mut visit);
    }
    // One for all processors.
    visit(&sys.join("devices/system/cpu/modalias"));
}

/// Which of these modaliases belong to no device that has a driver: one that is built into the kernel is in no table.
pub fn undriven(sys: &Path, mut modaliases: Vec<String>) -> Vec<String> {
    for bus in fs::read_dir(sys.join("bus")).into_iter().flatten().flatten() {
        each_device(&bus.path().join("devices"), &mut |file: &Path| {
            if file.with_file_name("driver").exists()
                && let Some(driven) = read_modalias(file)
            {
                modaliases.retain(|modalias| *modalias != driven);
            }
        });
    }
    modaliases
}

fn each_device(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for device in fs::read_dir(dir).into_iter().flatten().flatten() {
        visit(&device.path().join("modalias"));
    }
}

fn read_modalias(file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(MODALIAS_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn finds_bus_class_and_cpu_devices_once() {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path();
        let device = |path: &str, modalias: &[u8]| {
            fs::create_dir_all(root.join("devices").join(path)).unwrap();
            fs::write(root.join("devices").join(path).join("modalias"), modalias).unwrap();
        };
        device("pci0/a", b"pci:v1\n");
        device("pci0/b", b"pci:v1\n");
        device("acpi/c", b"acpi:X:\xff\n");
        device("acpi/empty", b"\n");
        device("virtual/dmi/id", b"dmi:bvn\n");
        device("system/cpu", b"cpu:type:x86\n");
        for (link, to) in [
            ("bus/pci/devices/a", "devices/pci0/a"),
            ("bus/pci/devices/b", "devices/pci0/b"),
            ("bus/acpi/devices/c", "devices/acpi/c"),
            ("bus/acpi/devices/d", "devices/acpi/empty"),
            ("bus/acpi/devices/gone", "devices/acpi/gone"),
            ("class/dmi/id", "devices/virtual/dmi/id"),
        ] {
            let link = root.join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(root.join(to), link).unwrap();
        }
        let mut found = Vec::new();
        walk(root, |m| found.push(m.to_owned()));
        found.sort();
        assert_eq!(found, ["acpi:X:\u{fffd}", "cpu:type:x86", "dmi:bvn", "pci:v1"]);
        fs::create_dir(root.join("devices/pci0/b/driver")).unwrap();
        let all = || found.clone();
        assert_eq!(undriven(root, all()), ["acpi:X:\u{fffd}", "cpu:type:x86", "dmi:bvn"]);
        assert_eq!(undriven(&root.join("missing"), all()), found);
        walk(&root.join("missing"), |_| panic!("nothing there"));
    }

    /// On a real machine, nothing that the whole tree has may be missed.
    #[test]
    fn finds_all_that_the_whole_tree_has() {
        let mut all = HashSet::new();
        let mut dirs = vec![Path::new("/sys/devices").to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    dirs.push(entry.path());
                } else if entry.file_name() == "modalias" {
                    all.extend(read_modalias(&entry.path()));
                }
            }
        }
        walk(Path::new("/sys"), |m| {
            all.remove(m);
        });
        assert!(all.is_empty(), "{all:?}");
    }
}
