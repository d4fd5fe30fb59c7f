//! Properties and fstab options to the flags and the option string of mount(2), as `zfs mount` passes them.

use super::facts::Dataset;

/// What mount(2) gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `MS_*` flags.
    pub flags: u64,
    /// Option string, comma-separated.
    pub data: String,
}

/// The options to mount `dataset` with.
///
/// `ro`: `Some(true)` mounts read-only whatever the property says; `Some(false)` and `None` leave it to the property.
/// `final_path`: where the dataset will be seen in the booted system (`/` for the root); the module uses it for its
/// snapshot directory. `extra`: options of an fstab line; they override properties.
pub fn mount_options(dataset: &Dataset, ro: Option<bool>, final_path: &str, extra: &[&str]) -> MountOptions {
    let mut state = State::from_properties(dataset);
    for option in extra {
        state.apply(option);
    }
    if ro == Some(true) {
        state.readonly = true;
    }
    MountOptions { flags: state.flags(), data: state.data(final_path) }
}

/// The flags and options of an fstab line of another file system than ZFS; defaults are the kernel's.
pub fn foreign_options(options: &[String]) -> MountOptions {
    let mut state = State::from_properties(&Dataset::with_defaults(""));
    for option in options {
        state.apply(option);
    }
    let data: Vec<&str> = state.rest.iter().map(|(_, text)| text.as_str()).collect();
    MountOptions { flags: state.flags(), data: data.join(",") }
}

/// Whether an option means something to every file system, or to the kernel alone.
pub fn is_general(option: &str) -> bool {
    let mut state = State::from_properties(&Dataset::with_defaults(""));
    state.apply(option);
    state.rest.iter().all(|(key, _)| key.ends_with("context"))
}

/// `rootflags=` taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RootFlags<'a> {
    /// Options to apply over the properties.
    pub options: Vec<&'a str>,
    /// The last of `ro` (true) and `rw` (false) among them.
    pub read_only: Option<bool>,
    /// Words that neither we nor the zfs module know.
    pub unknown: Vec<&'a str>,
}

/// Takes the value of `rootflags=` apart.
pub fn root_flags(text: &str) -> RootFlags<'_> {
    let mut flags = RootFlags::default();
    for option in super::fstab::options(text) {
        let mut state = State::from_properties(&Dataset::with_defaults(""));
        state.apply(option);
        let unknown = |(key, _): &(String, String)| !MODULE_OPTIONS.contains(&key.as_str());
        if state.rest.first().is_some_and(unknown) {
            flags.unknown.push(option);
            continue;
        }
        match option {
            "ro" => flags.read_only = Some(true),
            "rw" => flags.read_only = Some(false),
            _ => {}
        }
        flags.options.push(option);
    }
    flags
}

/// Options without a flag that the zfs module or a security module takes (`zpl_super.c`).
const MODULE_OPTIONS: [&str; 8] =
    ["xattr", "noxattr", "saxattr", "dirxattr", "context", "fscontext", "defcontext", "rootcontext"];

/// What each option is at the moment; later options change earlier ones.
#[allow(clippy::struct_excessive_bools)] // one field an option
struct State {
    readonly: bool,
    atime: bool,
    relatime: bool,
    devices: bool,
    exec: bool,
    setuid: bool,
    mand: bool,
    /// Flags that have no property.
    other_flags: u64,
    /// Options for the module or the security module: key and whole text.
    rest: Vec<(String, String)>,
}

impl State {
    fn from_properties(dataset: &Dataset) -> Self {
        Self {
            readonly: dataset.readonly,
            atime: dataset.atime,
            relatime: dataset.relatime,
            devices: dataset.devices,
            exec: dataset.exec,
            setuid: dataset.setuid,
            mand: dataset.nbmand,
            other_flags: 0,
            // Quoted, because a context can hold commas.
            rest: dataset.contexts.iter().map(|(key, value)| (key.clone(), format!("{key}=\"{value}\""))).collect(),
        }
    }

    /// Applies an option of fstab (mount(8), "Filesystem-independent mount options").
    fn apply(&mut self, option: &str) {
        match option {
            "ro" => self.readonly = true,
            "rw" => self.readonly = false,
            "atime" => self.atime = true,
            "noatime" => self.atime = false,
            "relatime" => (self.atime, self.relatime) = (true, true),
            "norelatime" => self.relatime = false,
            "strictatime" => (self.atime, self.relatime) = (true, false),
            "dev" | "devices" => self.devices = true,
            "nodev" | "nodevices" => self.devices = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "suid" | "setuid" => self.setuid = true,
            "nosuid" | "nosetuid" => self.setuid = false,
            "mand" | "nbmand" => self.mand = true,
            "nomand" | "nonbmand" => self.mand = false,
            "user" | "users" => (self.devices, self.setuid, self.exec) = (false, false, false),
            "owner" | "group" => (self.devices, self.setuid) = (false, false),
            "sync" => self.other_flags |= libc::MS_SYNCHRONOUS,
            "async" => self.other_flags &= !libc::MS_SYNCHRONOUS,
            "dirsync" => self.other_flags |= libc::MS_DIRSYNC,
            "nodiratime" => self.other_flags |= libc::MS_NODIRATIME,
            "diratime" => self.other_flags &= !libc::MS_NODIRATIME,
            "lazytime" => self.other_flags |= libc::MS_LAZYTIME,
            "nolazytime" => self.other_flags &= !libc::MS_LAZYTIME,
            "nosymfollow" => self.other_flags |= libc::MS_NOSYMFOLLOW,
            _ if is_for_userspace(option) => {}
            other => {
                let key = other.split_once('=').map_or(other, |(key, _)| key).to_owned();
                self.rest.retain(|(known, _)| *known != key);
                self.rest.push((key, other.to_owned()));
            }
        }
    }

    fn flags(&self) -> u64 {
        let atime = match (self.atime, self.relatime) {
            (false, _) => libc::MS_NOATIME,
            (true, true) => libc::MS_RELATIME,
            (true, false) => libc::MS_STRICTATIME,
        };
        let set = |on: bool, flag| if on { flag } else { 0 };
        self.other_flags
            | atime
            | set(self.readonly, libc::MS_RDONLY)
            | set(!self.devices, libc::MS_NODEV)
            | set(!self.exec, libc::MS_NOEXEC)
            | set(!self.setuid, libc::MS_NOSUID)
            | set(self.mand, libc::MS_MANDLOCK)
    }

    fn data(&self, final_path: &str) -> String {
        let pick = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
        let mut data = vec![pick(self.readonly, "ro", "rw"), pick(self.atime, "atime", "noatime")];
        // With atime off neither is given: strictatime would switch access times on again.
        if self.atime {
            data.push(pick(self.relatime, "relatime", "strictatime"));
        }
        data.push(pick(self.devices, "dev", "nodev"));
        data.push(pick(self.exec, "exec", "noexec"));
        data.push(pick(self.setuid, "suid", "nosuid"));
        data.push(pick(self.mand, "mand", "nomand"));
        data.extend(self.rest.iter().map(|(_, text)| text.as_str()));
        let mntpoint = format!("mntpoint={final_path}");
        // The module splits at every comma; it can do without the hint.
        if !final_path.contains(',') {
            data.push(&mntpoint);
        }
        data.join(",")
    }
}

/// Options that mean something to mount(8), systemd or `mount.zfs`, but nothing to the kernel.
fn is_for_userspace(option: &str) -> bool {
    let key = option.split_once('=').map_or(option, |(key, _)| key);
    matches!(
        key,
        "" | "defaults"
            | "auto"
            | "noauto"
            | "nofail"
            | "fail"
            | "_netdev"
            | "nouser"
            | "nousers"
            | "noowner"
            | "nogroup"
            | "comment"
            | "zfsutil"
            | "mntpoint"
            | "helper"
            | "uhelper"
            | "silent"
            | "loud"
    ) || key.starts_with("x-")
        || key.starts_with("X-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(change: impl FnOnce(&mut Dataset), ro: Option<bool>, extra: &[&str]) -> (u64, String) {
        let mut dataset = Dataset::with_defaults("tank/a");
        change(&mut dataset);
        let MountOptions { flags, data } = mount_options(&dataset, ro, "/a", extra);
        (flags, data.strip_suffix(",mntpoint=/a").unwrap().to_owned())
    }

    #[test]
    fn defaults() {
        let (flags, data) = options(|_| {}, None, &["defaults"]);
        assert_eq!(flags, libc::MS_RELATIME);
        assert_eq!(data, "rw,atime,relatime,dev,exec,suid,nomand");
    }

    #[test]
    fn properties() {
        let (flags, data) = options(
            |d| {
                d.readonly = true;
                d.atime = false;
                d.devices = false;
                d.exec = false;
                d.setuid = false;
                d.nbmand = true;
                d.contexts = vec![("context".into(), "u:r:t:s0:c0,c1".into())];
            },
            Some(false),
            &[],
        );
        let expected =
            libc::MS_RDONLY | libc::MS_NOATIME | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOSUID | libc::MS_MANDLOCK;
        assert_eq!(flags, expected);
        assert_eq!(data, "ro,noatime,nodev,noexec,nosuid,mand,context=\"u:r:t:s0:c0,c1\"");
        let (flags, data) = options(|d| d.relatime = false, None, &[]);
        assert_eq!(flags, libc::MS_STRICTATIME);
        assert!(data.contains("atime,strictatime"), "{data}");
    }

    #[test]
    fn fstab_wins_over_properties_and_keeps_its_order() {
        let (flags, data) = options(
            |d| {
                d.readonly = true;
                d.relatime = false;
                d.contexts = vec![("context".into(), "a".into())];
            },
            None,
            &[
                "users",
                "exec",
                "rw",
                "noatime",
                "nofail",
                "x-systemd.requires=a.service",
                "zfsutil",
                "context=b",
                "noxattr",
            ],
        );
        assert_eq!(flags, libc::MS_NOATIME | libc::MS_NODEV | libc::MS_NOSUID);
        assert_eq!(data, "rw,noatime,nodev,exec,nosuid,nomand,context=b,noxattr");
    }

    #[test]
    fn root_flags_are_taken_apart() {
        let flags = root_flags("zfsutil,noatime,rw,subvol=x,context=\"a,b\",ro,,saxattr");
        assert_eq!(flags.options, ["zfsutil", "noatime", "rw", "context=\"a,b\"", "ro", "saxattr"]);
        assert_eq!((flags.read_only, flags.unknown), (Some(true), vec!["subvol=x"]));
        assert_eq!(root_flags(""), RootFlags::default());
    }

    #[test]
    fn other_file_systems_get_their_own_options() {
        let line = ["defaults", "ro", "nosuid", "x-initrd.mount", "nofail", "errors=remount-ro", "umask=0077"];
        let found = foreign_options(&line.map(str::to_owned));
        assert_eq!(found.flags, libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_RELATIME);
        assert_eq!(found.data, "errors=remount-ro,umask=0077");
    }

    #[test]
    fn ro_wins_over_all() {
        let (flags, data) = options(|_| {}, Some(true), &["rw"]);
        assert_eq!(flags, libc::MS_RDONLY | libc::MS_RELATIME);
        assert!(data.starts_with("ro,"));
    }

    #[test]
    fn a_path_with_a_comma_is_not_given_as_hint() {
        let data = mount_options(&Dataset::with_defaults("t"), None, "/a,b", &[]).data;
        assert!(!data.contains("mntpoint"), "{data}");
    }
}
