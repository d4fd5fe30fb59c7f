//! The pools on the disks, as their labels tell: that works without the zfs module.

use crate::devices::known::{Hardware, Reading, Zfs};
use crate::plan::candidates::{labels, leftover_line};
use crate::zfs::assemble::assemble;
use std::fmt::Write as _;
use std::time::Duration;

/// A line for each device that is, or may be, part of a pool and cannot be used, and one with those that are none.
fn problems(hardware: &Hardware, now: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    let mut blank = Vec::new();
    for device in hardware.devices.values().filter(|device| device.left_out.is_none()) {
        let node = &device.node;
        match &device.content {
            Reading::Never => {}
            Reading::Failed(why) => lines.push(format!("{node}: it cannot be read: {why}")),
            Reading::Waiting => {
                let seconds = now.saturating_sub(device.since).as_secs();
                lines.push(format!("{node}: it has not answered for {seconds} s, so its label is not known"));
            }
            Reading::Done(content) => match &content.zfs {
                Zfs::Member(member) => lines.extend(leftover_line(hardware, device, member)),
                Zfs::Damaged(why) => lines.push(format!("{node}: {why}")),
                Zfs::Nothing => blank.push(device.name.as_str()),
            },
        }
    }
    if !blank.is_empty() {
        lines.push(format!("without a ZFS label: {}", blank.join(" ")));
    }
    if hardware.devices.is_empty() {
        lines.push("no block device at all: is the driver of the disk controller in the image?".to_owned());
    }
    lines
}

/// Those on the disks, as text.
pub(super) fn text(hardware: &Hardware, now: Duration) -> String {
    let mut out = String::new();
    for line in problems(hardware, now) {
        let _ = writeln!(out, "{line}");
    }
    for pool in assemble(&labels(hardware, None, None)) {
        let _ = writeln!(out, "pool {} guid {} {:?}", pool.name, pool.guid, pool.state);
        for leaf in &pool.leaves {
            let recorded = leaf.recorded_path.as_deref().unwrap_or("(no path)");
            let _ = writeln!(out, "  {recorded}  {}", leaf.device.as_deref().unwrap_or("MISSING"));
        }
        for problem in &pool.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::hands::tests::device;
    use super::*;
    use crate::devices::known::Device;

    #[test]
    fn what_is_no_member_is_told_why() {
        let mut damaged = device("sdd", "", "");
        if let Reading::Done(content) = &mut damaged.content {
            content.zfs = Zfs::Damaged("no label can be used".into());
        }
        let devices = [
            device("sda", "ext4", ""),
            Device { content: Reading::Waiting, since: Duration::from_secs(2), ..device("sdb", "", "") },
            Device { left_out: Some("a zvol".into()), ..device("zd0", "", "") },
            damaged,
            device("sde", "", ""),
        ];
        let devices = devices.into_iter().map(|device| (device.name.clone(), device)).collect();
        let hardware = Hardware { devices, ..Hardware::default() };
        assert_eq!(
            problems(&hardware, Duration::from_secs(32)),
            [
                "/dev/sdb: it has not answered for 30 s, so its label is not known",
                "/dev/sdd: no label can be used",
                "without a ZFS label: sda sde",
            ]
        );
        assert_eq!(problems(&Hardware::default(), Duration::ZERO).len(), 1);
    }
}
