//! How long the kernel waits for a device path that leads nowhere. It was made for udev, which takes links away and makes them
//! again; before udev runs a path is there or it is not, and whether a disk is waited for is our decision.

use crate::sys::System;
use std::path::Path;

/// Milliseconds; the kernel looks every 10 ms.
const PARAMETER: &str = "/sys/module/zfs/parameters/zfs_vdev_open_timeout_ms";
/// The kernel's own value. Another one was asked for by somebody, who has it.
const USUAL: &str = "1000";
/// Ours. The time also has to pass for a path that is there, between two lines of the kernel's code: with 0 nothing is ever
/// opened, and with a few milliseconds a busy processor is enough to make a good disk count as missing.
const SHORT: &str = "50";

/// Has the kernel wait only shortly while the boot is ours; not for the initramfs of another tool, where udev runs. What this
/// returns is for [`patient_again`].
pub fn impatient(system: &dyn System) -> Option<String> {
    let before = system.text(PARAMETER);
    (before == USUAL && system.write(Path::new(PARAMETER), format!("{SHORT}\n").as_bytes()).is_ok()).then_some(before)
}

/// Puts back what [`impatient`] changed: the booted system's udev needs the time.
pub fn patient_again(system: &dyn System, before: Option<&str>) {
    if let Some(before) = before {
        // It was writable a moment ago; and with the short time a pool works as well.
        let _ = system.write(Path::new(PARAMETER), format!("{before}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn only_the_usual_time_is_shortened_and_it_comes_back() {
        let tree = Tree::new().with(PARAMETER, "1000\n");
        let before = impatient(&tree);
        assert_eq!(tree.text(PARAMETER), "50");
        assert_eq!(impatient(&tree), None, "a second time changes nothing");
        patient_again(&tree, before.as_deref());
        assert_eq!(tree.text(PARAMETER), "1000");

        let tree = tree.with(PARAMETER, "3000\n");
        assert_eq!(impatient(&tree), None);
        patient_again(&tree, None);
        assert_eq!(tree.text(PARAMETER), "3000");
        assert_eq!(impatient(&Tree::new()), None, "an OpenZFS without the parameter");
    }
}
