//! The machine under the model of `/dev/zfs`: its devices, mounts and parameters.

use super::machine::{Holds, ZfsVersion};
use super::world::State;
use super::zfs::pool::Pool;
use super::zfs::{self, Host, Opened};
use std::path::Path;
use std::time::Duration;

impl State {
    fn opened(&self, path: &str) -> Opened {
        let Some(device) = self.device_at(Path::new(path)) else { return Opened::Missing };
        match &device.holds {
            _ if device.answers.is_none() => Opened::Silent,
            Holds::Vdev(guid) => Opened::Vdev(*guid),
            Holds::Label(label) => label.u64("guid").map_or(Opened::Other, Opened::Vdev),
            _ => Opened::Other,
        }
    }

    /// Has the model of ZFS answer a call.
    pub(super) fn zfs(&mut self, call: &taproot_init::sys::ZfsCall<'_>) -> zfs::Answer {
        let mut pools = std::mem::take(&mut self.machine.pools);
        let answer = self.with_host(|host| zfs::answer(&mut pools, host, call));
        self.machine.pools = pools;
        self.show_pools();
        if answer.took.is_none() {
            self.show_suspended(&String::from_utf8_lossy(call.name));
        }
        answer
    }

    fn with_host<T>(&self, work: impl FnOnce(&Host<'_>) -> T) -> T {
        let mounts = &self.names.mounts;
        let timeout = self.number("/sys/module/zfs/parameters/zfs_vdev_open_timeout_ms").unwrap_or(1000);
        work(&Host {
            version: self.machine.zfs,
            hostid: self.hostid(),
            open: &|path| self.opened(path),
            open_timeout: Duration::from_millis(timeout),
            mounted: &|name| mounts.iter().any(|mount| mount.fstype == "zfs" && mount.source == name),
        })
    }

    /// Whether an imported pool has lost a disk that it cannot do without.
    pub(super) fn lost(&self, pool: &Pool) -> bool {
        self.with_host(|host| zfs::suspended(pool, host))
    }

    /// The kernel has noticed that a disk is gone; older ones never say so.
    pub(super) fn show_suspended(&mut self, name: &str) {
        let pool = name.split(['/', '@']).next().unwrap_or_default();
        let known = self.machine.zfs >= ZfsVersion::V2_3 && self.shown_pools.iter().any(|shown| shown == pool);
        if let Some(proc) = self.names.tree(self.proc).filter(|_| known) {
            proc.text(&format!("spl/kstat/zfs/{pool}/state"), "SUSPENDED\n");
        }
    }

    /// The state of each imported pool, as a file of /proc.
    fn show_pools(&mut self) {
        let names: Vec<String> =
            self.machine.pools.iter().filter(|p| p.imported.is_some()).map(|p| p.name.clone()).collect();
        if names == self.shown_pools {
            return;
        }
        let Some(proc) = self.names.tree(self.proc) else { return };
        let path = |name: &str| format!("spl/kstat/zfs/{name}/state");
        for gone in self.shown_pools.iter().filter(|name| !names.contains(name)) {
            proc.take(&path(gone));
        }
        for name in &names {
            proc.text(&path(name), "ONLINE\n");
        }
        self.shown_pools = names;
    }
}
