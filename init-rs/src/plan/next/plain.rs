//! A root on a block device: found by label, UUID, partition or path, checked, its driver loaded.

use super::{Ambiguous, Code, Failure, Moment, Named, Next, Root, Settled, Stage, Wait, end_of, fail};
use crate::devices::filesystems::{never_written, without_replay};
use crate::devices::known::{Device, Reading};
use crate::devices::probe::Wanted;
use crate::plan::candidates::{device_lines, missing_drivers};
use crate::plan::options::foreign_options;
use crate::plan::root::DeviceRoot;

/// What stands on a device that is no file system to be mounted.
pub(super) const CONTAINERS: [&str; 6] = ["swap", "LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "DRBD"];

impl Moment<'_> {
    /// The device that the request names, ready to be mounted.
    pub(super) fn device_root(self, spec: &str) -> Settled<Root> {
        if let Some(root) = &self.facts.attempt.root {
            return Ok(root.clone());
        }
        self.leave_all()?;
        let device = self.root_device(spec)?;
        let fstype = self.root_fstype(spec, device)?;
        self.stop(Stage::Import)?;
        self.menu(spec)?;
        self.stop(Stage::Mount)?;
        self.discard_image()?;
        self.filesystem(&fstype, self.facts.attempt.last_step)?;
        if self.base_is_written()
            && let Err(why) = self.check(&device.node, &fstype)?
        {
            return fail(unchecked(spec, &why));
        }
        let flags = self.request.root_flags.as_ref().map(|flags| flags.value.as_str()).unwrap_or_default();
        let mut words: Vec<String> = crate::plan::fstab::options(flags).map(str::to_owned).collect();
        let said = words.iter().any(|word| matches!(word.as_str(), "ro" | "rw"));
        if let Some(ro) = self.request.read_only.as_ref().filter(|_| !said) {
            words.push(if ro.value { "ro" } else { "rw" }.to_owned());
        }
        if never_written(&fstype) || self.request.import.read_only.value {
            words.push("ro".to_owned());
        }
        if self.request.import.read_only.value {
            words.push(without_replay(&fstype).to_owned());
            words.retain(|word| !word.is_empty());
        }
        let options = foreign_options(&words);
        let (name, node) = (spec.to_owned(), device.node.clone());
        Ok(Root::Device(DeviceRoot { name, node, fstype, options }))
    }

    /// No pool is wanted: those that this boot imported are given back.
    pub(super) fn leave_all(self) -> Settled<()> {
        match self.facts.ours.iter().next() {
            None => Ok(()),
            Some((guid, import)) => Err(Next::Do(super::Step::Export { pool: import.pool.clone(), guid: *guid })),
        }
    }

    /// The device, waited for, and read.
    fn root_device(&self, spec: &str) -> Settled<&Device> {
        let Some(wanted) = Wanted::parse(spec) else {
            let expected = "UUID=, LABEL=, PARTUUID=, PARTLABEL=, a path below /dev, or MAJOR:MINOR";
            let problem = format!("{} names no device", self.request.root.why);
            let advice = [
                "name the root: boot UUID=... or boot pool/dataset here, root=UUID=... or root=ZFS=pool/dataset on the kernel command line",
            ];
            return fail(Failure::new(Code::UnusableRoot, problem, expected, vec![spec.to_owned()], &advice));
        };
        let until = end_of(self.facts.attempt.began, self.request.wait.value);
        let over = self.is_over(until);
        let wait = |again| Err(Next::Wait(Wait { what: format!("the root device {spec}"), until, again }));
        match self.named(&wanted, over) {
            Named::Several(ambiguous) => fail(several(self, &ambiguous, &self.request.root.why)),
            Named::Awaited { .. } if over => fail(self.no_device(spec)),
            Named::Awaited { again } => wait(again),
            Named::There(device) => match &device.content {
                Reading::Done(_) | Reading::Never => Ok(device),
                Reading::Failed(why) => fail(Self::no_filesystem(spec, device, why)),
                Reading::Waiting if over => fail(Self::no_filesystem(spec, device, "it does not answer")),
                Reading::Waiting => wait(None),
            },
        }
    }

    /// The type to mount it as: what the device holds, within what `rootfstype=` allows.
    fn root_fstype(self, spec: &str, device: &Device) -> Settled<String> {
        let kind = device.superblock().map(|s| s.kind.as_str());
        let asked = self.request.root_fstype.as_ref();
        let listed = |kind: &str| asked.is_some_and(|asked| asked.value.iter().any(|t| t == kind));
        if let Some(kind) = kind.filter(|kind| listed(kind)) {
            return Ok(kind.to_owned());
        }
        if let Some(first) = asked.and_then(|asked| asked.value.iter().find(|t| *t != "auto")) {
            return Ok(first.clone());
        }
        match kind {
            Some(kind) if !CONTAINERS.contains(&kind) => Ok(kind.to_owned()),
            Some(kind) => fail(Self::no_filesystem(spec, device, &format!("it holds {kind}"))),
            None => fail(Self::no_filesystem(spec, device, "it holds nothing known")),
        }
    }

    fn no_device(self, spec: &str) -> Failure {
        let seconds = self.request.wait.value.as_secs();
        let mut found: Vec<String> = self.hardware.devices.values().map(describe).collect();
        found.extend(
            device_lines(self.hardware, None, self.now).into_iter().filter(|line| !line.starts_with("without")),
        );
        found.extend(missing_drivers(&self.hardware.undriven));
        Failure::new(
            Code::NoDevice,
            format!("the root device {spec} did not appear within {seconds} s ({})", self.request.root.why),
            "a disk or partition of that name",
            found,
            &[
                "attach it and type retry; taproot.wait=SECONDS or rootwait waits longer",
                "name another root: boot UUID=... or boot pool/dataset here, root=UUID=... or root=ZFS=pool/dataset on the kernel command line",
            ],
        )
    }

    fn no_filesystem(spec: &str, device: &Device, why: &str) -> Failure {
        let as_asked = if device.node == spec { String::new() } else { format!(" ({})", device.node) };
        Failure::new(
            Code::NoFilesystem,
            format!("the root device {spec}{as_asked} cannot be mounted: {why}"),
            "a file system that the kernel mounts; LUKS, LVM and md need another tool's initramfs",
            vec![describe(device)],
            &[
                "name another root: boot UUID=... here, root=UUID=... on the kernel command line",
                "rootfstype=TYPE names the type, if it is not recognised",
            ],
        )
    }
}

/// Several disks answer to the name.
pub(super) fn several(moment: &Moment<'_>, ambiguous: &Ambiguous, word: &str) -> Failure {
    let devices = moment.hardware.devices.values().filter(|device| ambiguous.nodes.contains(&device.node));
    Failure::new(
        Code::AmbiguousDevice,
        format!("the root device is not clear ({word}): {ambiguous}"),
        "one disk of that name; a copy of a disk has the names of its original",
        devices.map(describe).collect(),
        &[
            "detach the one that is not meant, then retry",
            "name it by what only it has: boot /dev/NAME at this prompt, root=/dev/disk/by-id/... on the command line",
        ],
    )
}

/// A device in a line.
pub(super) fn describe(device: &Device) -> String {
    let mut parts = vec![format!("{} MiB", device.size >> 20)];
    match device.superblock() {
        Some(superblock) => {
            parts.push(superblock.kind.clone());
            let tags = [("LABEL", &superblock.label), ("UUID", &superblock.uuid)];
            parts.extend(tags.iter().filter(|(_, v)| !v.is_empty()).map(|(tag, value)| format!("{tag}={value}")));
        }
        None if device.content == Reading::Waiting => parts.push("no answer yet".to_owned()),
        None => {}
    }
    format!("{}: {}", device.node, parts.join(", "))
}

pub(super) fn unchecked(spec: &str, why: &str) -> Failure {
    Failure::new(
        Code::Fsck,
        format!("the file system of root {spec} was not mounted: {why}"),
        "a file system without errors, or one that its check repairs",
        vec![],
        &[
            "repair it in the shell (shell), e.g. fsck.ext4 DEVICE, then retry",
            "retry fsck.repair=yes here to have everything repaired that can be, or retry fsck.mode=skip to mount it as it is",
        ],
    )
}
