//! Whether and how a file system is checked before it is mounted.

use super::{Moment, Next, Settled, Step};
use crate::cmdline::{Fsck, Repair};
use crate::devices::known::Device;

impl Moment<'_> {
    /// Whether nothing is to be, or can be, written to a device.
    pub(super) fn is_kept(&self, node: &str) -> bool {
        self.request.import.read_only.value || self.hardware.by_node(node).is_some_and(|device| device.read_only)
    }

    /// Whether the file system of a device may be mounted as far as its check is concerned. It is checked where the image has
    /// the program for it.
    pub(super) fn check(self, node: &str, fstype: &str) -> Settled<Result<(), String>> {
        let settings = &self.request.fsck;
        let (mode, program) = (settings.mode.value, self.facts.kernel.fsck.get(fstype));
        // Where nothing can be written, a check would refuse what it may not even replay the journal of: only if it is asked for.
        let kept = self.is_kept(node);
        let wanted = mode == Fsck::Force || (mode == Fsck::Auto && !kept);
        // A program for another type takes for damage what it does not know. The mount says whether the type is right.
        let superblock = self.hardware.by_node(node).and_then(Device::superblock);
        let fits = superblock.is_none_or(|superblock| family(&superblock.kind) == family(fstype));
        let Some(program) = program.filter(|_| wanted && fits) else { return Ok(Ok(())) };
        if let Some(result) = self.facts.attempt.checked.get(node) {
            return Ok(result.clone());
        }
        let repair = if kept { Repair::No } else { settings.repair.value };
        let mut args: Vec<String> =
            arguments(fstype, mode == Fsck::Force, repair).into_iter().map(str::to_owned).collect();
        args.push(node.to_owned());
        let (node, fstype, program) = (node.to_owned(), fstype.to_owned(), program.clone());
        Err(Next::Do(Step::Check { node, fstype, program, args, repairs: repair != Repair::No }))
    }
}

/// What the programs for a type say of it: those of one family do for each other.
fn family(fstype: &str) -> &str {
    match fstype {
        "ext2" | "ext3" => "ext4",
        "msdos" => "vfat",
        other => other,
    }
}

/// What the program for a type is called with (e2fsck(8), fsck.fat(8), fsck.f2fs(8)). That for FAT checks everything each time, and `-f` means
/// another thing to it. That for f2fs knows no repair that is safer than another.
fn arguments(fstype: &str, force: bool, repair: Repair) -> Vec<&'static str> {
    match (family(fstype), repair) {
        ("vfat", Repair::No) => vec!["-n"],
        ("vfat", Repair::Preen | Repair::Yes) => vec!["-a"],
        ("f2fs", Repair::No) => vec!["--dry-run"],
        ("f2fs", Repair::Preen) if !force => vec!["-a"],
        ("f2fs", Repair::Preen | Repair::Yes) => vec!["-f"],
        (_, repair) => {
            let how = match repair {
                Repair::Preen => "-a",
                Repair::Yes => "-y",
                Repair::No => "-n",
            };
            force.then_some("-f").into_iter().chain([how]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_called_as_it_wants() {
        let of = |fstype, force, repair| arguments(fstype, force, repair).join(" ");
        for (fstype, plain, forced) in [
            ("ext4", ["-a", "-y", "-n"], ["-f -a", "-f -y", "-f -n"]),
            ("ext2", ["-a", "-y", "-n"], ["-f -a", "-f -y", "-f -n"]),
            ("vfat", ["-a", "-a", "-n"], ["-a", "-a", "-n"]),
            ("msdos", ["-a", "-a", "-n"], ["-a", "-a", "-n"]),
            ("f2fs", ["-a", "-f", "--dry-run"], ["-f", "-f", "--dry-run"]),
        ] {
            let all = |force| [Repair::Preen, Repair::Yes, Repair::No].map(|repair| of(fstype, force, repair));
            assert_eq!((all(false), all(true)), (plain.map(str::to_owned), forced.map(str::to_owned)), "{fstype}");
        }
    }
}
