//! Programs that check a plain root, or `/usr`, before it is mounted.

use super::archive::{Archive, Content};
use super::extras::{self, ExtrasError};
use super::root::Mounted;
use super::tree::{self, Tree};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Which programs are packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fsck {
    /// Of the types that the root and `/usr` have.
    #[default]
    Auto,
    /// None.
    None,
    /// Of these types.
    Types(BTreeSet<String>),
}

impl FromStr for Fsck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let type_ = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            list if list.split(',').all(type_) => Ok(Self::Types(list.split(',').map(str::to_owned).collect())),
            other => Err(format!("expected auto, none, or types of file systems such as ext4,vfat, found {other:?}")),
        }
    }
}

/// A program for some types.
struct Checker {
    types: &'static [&'static str],
    program: &'static str,
    /// Names below /sbin by which it is executed.
    names: &'static [&'static str],
    package: &'static str,
    /// Whether the boot can run it. The others are for the rescue shell: these file systems are checked by the kernel when they
    /// are mounted, and what distributions have as fsck of them does nothing.
    at_boot: bool,
}

const CHECKERS: [Checker; 5] = [
    Checker {
        types: &["ext2", "ext3", "ext4"],
        program: "e2fsck",
        names: &["fsck.ext2", "fsck.ext3", "fsck.ext4"],
        package: "e2fsprogs",
        at_boot: true,
    },
    Checker {
        types: &["vfat", "msdos"],
        program: "fsck.fat",
        names: &["fsck.vfat", "fsck.msdos"],
        package: "dosfstools",
        at_boot: true,
    },
    Checker { types: &["f2fs"], program: "fsck.f2fs", names: &[], package: "f2fs-tools", at_boot: true },
    Checker { types: &["xfs"], program: "xfs_repair", names: &[], package: "xfsprogs", at_boot: false },
    Checker { types: &["btrfs"], program: "btrfs", names: &[], package: "btrfs-progs", at_boot: false },
];

/// Types that nothing is ever repaired in.
const READ_ONLY: [&str; 4] = ["squashfs", "erofs", "iso9660", "overlay"];

/// Packs them; returns what people should know.
pub fn pack(
    archive: &mut Archive,
    tree: &Tree,
    wanted: &Fsck,
    mounted: &[Mounted],
) -> Result<Vec<String>, ExtrasError> {
    let mut notes = Vec::new();
    match wanted {
        Fsck::None => {}
        Fsck::Types(types) => {
            for fstype in types {
                one(archive, tree, fstype)?;
            }
        }
        Fsck::Auto => {
            for Mounted { fstype, what } in mounted.iter().filter(|mounted| checked_at_boot(&mounted.fstype)) {
                match one(archive, tree, fstype) {
                    Err(missing @ ExtrasError::Missing { .. }) => {
                        notes.push(format!("{what} is {fstype} and will be mounted unchecked: {missing}"));
                    }
                    other => other?,
                }
            }
        }
    }
    Ok(notes)
}

fn checked_at_boot(fstype: &str) -> bool {
    let known = CHECKERS.iter().find(|checker| checker.types.contains(&fstype));
    !READ_ONLY.contains(&fstype) && known.is_none_or(|checker| checker.at_boot)
}

fn one(archive: &mut Archive, tree: &Tree, fstype: &str) -> Result<(), ExtrasError> {
    if READ_ONLY.contains(&fstype) {
        return Ok(());
    }
    let other = Checker { types: &[], program: "", names: &[], package: "the file system's tools", at_boot: true };
    let checker = CHECKERS.iter().find(|checker| checker.types.contains(&fstype)).unwrap_or(&other);
    let own = format!("fsck.{fstype}");
    let name = if checker.program.is_empty() { own.as_str() } else { checker.program };
    let Some(source) = tree.program(name) else {
        return Err(ExtrasError::Missing {
            program: name.to_owned(),
            root: tree.to_string(),
            advice: format!("install {}, or choose other types with --fsck", checker.package),
        });
    };
    extras::program(archive, tree, &source, &format!("/sbin/{name}"), &format!("checks {fstype} file systems"))?;
    for link in checker.names {
        archive.add(
            &format!("/sbin/{link}"),
            Content::Link(name.to_owned()),
            0o777,
            "name of a program that checks",
        )?;
    }
    if name == "e2fsck"
        && let Some(config) = tree.read_if_there("/etc/e2fsck.conf", tree::TEXT)?
    {
        archive.file("/etc/e2fsck.conf", config, "how this system wants its file systems checked")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A tree whose programs are this test program, which is static.
    fn root(programs: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/sbin")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        for program in programs {
            let (own, target) = (std::env::current_exe().unwrap(), dir.path().join("usr/sbin").join(program));
            fs::hard_link(&own, &target).or_else(|_| fs::copy(&own, &target).map(drop)).unwrap();
        }
        dir
    }

    fn packed(programs: &[&str], wanted: &str, mounted: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let dir = root(programs);
        let mounted: Vec<Mounted> =
            mounted.iter().map(|t| Mounted { fstype: (*t).to_owned(), what: "the root" }).collect();
        let mut archive = Archive::default();
        let notes = pack(&mut archive, &Tree::open(dir.path()).unwrap(), &wanted.parse().unwrap(), &mounted)
            .map_err(|e| e.to_string())?;
        let paths = archive.iter().map(|(path, _)| path.to_owned()).filter(|path| path != "/sbin").collect();
        Ok((paths, notes))
    }

    #[test]
    fn words() {
        assert_eq!("auto".parse(), Ok(Fsck::Auto));
        assert_eq!("none".parse(), Ok(Fsck::None));
        assert_eq!("vfat,ext4".parse(), Ok(Fsck::Types(["ext4".to_owned(), "vfat".to_owned()].into())));
        for bad in ["", "ext4,", "../x", "ext4 vfat", "AUTO"] {
            assert!(bad.parse::<Fsck>().is_err(), "{bad}");
        }
    }

    #[test]
    fn by_the_types_that_are_mounted() {
        let e2fsck = ["/sbin/e2fsck", "/sbin/fsck.ext2", "/sbin/fsck.ext3", "/sbin/fsck.ext4"];
        assert_eq!(packed(&["e2fsck"], "auto", &["ext4"]).unwrap().0, e2fsck);
        assert_eq!(packed(&["e2fsck"], "auto", &[]).unwrap().0, [""; 0], "the root is a dataset");
        assert_eq!(packed(&["e2fsck"], "auto", &["xfs"]).unwrap(), (vec![], vec![]), "nothing to run");
        assert_eq!(packed(&[], "auto", &["squashfs"]).unwrap(), (vec![], vec![]));
        assert_eq!(packed(&["e2fsck"], "none", &["ext4"]).unwrap().0, [""; 0]);
        let (paths, notes) = packed(&[], "auto", &["vfat"]).unwrap();
        assert!(
            paths.is_empty() && notes[0].contains("mounted unchecked") && notes[0].contains("dosfstools"),
            "{notes:?}"
        );
    }

    #[test]
    fn by_name() {
        assert_eq!(
            packed(&["fsck.fat"], "vfat", &[]).unwrap().0,
            ["/sbin/fsck.fat", "/sbin/fsck.msdos", "/sbin/fsck.vfat"]
        );
        assert_eq!(packed(&["xfs_repair"], "xfs", &[]).unwrap().0, ["/sbin/xfs_repair"]);
        assert_eq!(packed(&["fsck.odd"], "odd", &[]).unwrap().0, ["/sbin/fsck.odd"]);
        let error = packed(&[], "f2fs", &[]).unwrap_err();
        assert!(error.contains("fsck.f2fs is not in") && error.contains("f2fs-tools"), "{error}");
    }

    #[test]
    fn a_script_is_refused() {
        let dir = root(&[]);
        fs::write(dir.path().join("usr/sbin/fsck.odd"), "#!/bin/sh\nexit 0\n").unwrap();
        let error = pack(&mut Archive::default(), &Tree::open(dir.path()).unwrap(), &"odd".parse().unwrap(), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("not an ELF file"), "{error}");
    }

    #[test]
    fn the_systems_own_settings_come_along() {
        let dir = root(&["e2fsck"]);
        fs::write(dir.path().join("etc/e2fsck.conf"), "[options]\n").unwrap();
        let mut archive = Archive::default();
        pack(&mut archive, &Tree::open(dir.path()).unwrap(), &"ext4".parse().unwrap(), &[]).unwrap();
        assert!(archive.contains("/etc/e2fsck.conf"));
    }
}
