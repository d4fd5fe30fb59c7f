//! A root on a block device: found by label, UUID, partition or path, checked, its driver loaded.

use super::{Ambiguous, Code, Failure, Moment, Named, Next, Root, Settled, Stage, Wait, end_of, fail};
use crate::devices::filesystems::{goes_without_replay, never_written, without_replay};
use crate::devices::known::{Device, Reading, ZfsLabel};
use crate::devices::probe::Wanted;
use crate::plan::candidates::{device_lines, missing_drivers};
use crate::plan::options::foreign_options;
use crate::plan::root::DeviceRoot;
use crate::plan::root_words;
use crate::zfs::label::printable;

/// What stands on a device that is no file system to be mounted.
const CONTAINERS: [&str; 6] = ["swap", "swsuspend", "LUKS", "LVM2_member", "linux_raid_member", "DRBD"];

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
        let (words, _) = root_words::flags(self.request, &fstype);
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let said = words.iter().any(|word| matches!(word.as_str(), "ro" | "rw"));
        if let Some(ro) = self.request.read_only.as_ref().filter(|_| !said) {
            words.push(if ro.value { "ro" } else { "rw" }.to_owned());
        }
        let kept = self.is_kept(&device.node);
        if never_written(&fstype) || kept {
            words.push("ro".to_owned());
        }
        if kept {
            words.push(without_replay(&fstype).to_owned());
            words.retain(|word| !word.is_empty() && goes_without_replay(&fstype, word));
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
                Reading::Never if device.has_no_medium() && over => {
                    fail(Self::no_filesystem(spec, device, "there is no medium in it"))
                }
                Reading::Never if device.has_no_medium() => wait(None),
                Reading::Done(_) | Reading::Never => Ok(device),
                Reading::Failed(why) => fail(Self::no_filesystem(spec, device, why)),
                Reading::Waiting if over => fail(Self::no_filesystem(spec, device, "it does not answer")),
                Reading::Waiting => wait(None),
            },
        }
    }

    /// The type to mount it as.
    fn root_fstype(self, spec: &str, device: &Device) -> Settled<String> {
        if let Some(why) = self.is_no_file_system(device) {
            return fail(Self::no_filesystem(spec, device, &why));
        }
        let kind = device.superblock().map(|s| s.kind.as_str());
        match root_words::fstype(self.request, kind) {
            Some(fstype) => Ok(fstype.to_owned()),
            None => fail(Self::no_filesystem(spec, device, "it holds nothing known")),
        }
    }

    /// Why a device is not to be mounted, whatever type it is said to have: it is a part of something else, which would be damaged by that.
    pub(super) fn is_no_file_system(&self, device: &Device) -> Option<String> {
        let kind = device.superblock().map(|superblock| superblock.kind.as_str());
        if let Some(kind) = kind.filter(|kind| CONTAINERS.contains(kind)) {
            return Some(format!("it holds {kind}"));
        }
        let of = member_of(device.whole_member().filter(|_| !self.hardware.is_divided(device))?);
        let older =
            |kind| format!("it is {of}, and the {kind} on it is older; if not, wipefs --types zfs_member says so");
        Some(kind.map_or(format!("it is {of}"), older))
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

fn member_of(member: &ZfsLabel) -> String {
    match member.label.pool_name() {
        Some(pool) => format!("a member of pool {}", printable(&pool)),
        None => "a spare or cache of a pool".to_owned(),
    }
}

/// A device in a line.
pub(super) fn describe(device: &Device) -> String {
    let mut parts = vec![format!("{} MiB", device.size >> 20)];
    parts.extend(device.whole_member().map(member_of));
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
