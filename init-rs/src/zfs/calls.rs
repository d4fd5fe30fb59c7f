//! The `/dev/zfs` calls that are used, by number (`enum zfs_ioc`, include/sys/fs/zfs.h; the same from OpenZFS 2.0 to 2.4).

/// `ZFS_IOC_POOL_IMPORT`: import a pool.
pub const POOL_IMPORT: u32 = 0x02;
/// `ZFS_IOC_POOL_EXPORT`: export a pool.
pub const POOL_EXPORT: u32 = 0x03;
/// `ZFS_IOC_POOL_CONFIGS`: list the imported pools.
pub const POOL_CONFIGS: u32 = 0x04;
/// `ZFS_IOC_POOL_STATS`: configuration of an imported pool.
pub const POOL_STATS: u32 = 0x05;
/// `ZFS_IOC_POOL_TRYIMPORT`: open a pool without writing to it.
pub const POOL_TRYIMPORT: u32 = 0x06;
/// `ZFS_IOC_VDEV_SET_STATE`: a vdev goes on or off line, or uses more of its device.
pub const VDEV_SET_STATE: u32 = 0x0d;
/// `ZFS_IOC_OBJSET_STATS`: properties of a dataset.
pub const OBJSET_STATS: u32 = 0x12;
/// `ZFS_IOC_DATASET_LIST_NEXT`: the next dataset.
pub const DATASET_LIST_NEXT: u32 = 0x14;
/// `ZFS_IOC_SNAPSHOT_LIST_NEXT`: the next snapshot.
pub const SNAPSHOT_LIST_NEXT: u32 = 0x15;
/// `ZFS_IOC_SET_PROP`: set properties.
pub const SET_PROP: u32 = 0x16;
/// `ZFS_IOC_DESTROY`: destroy a dataset.
pub const DESTROY: u32 = 0x18;
/// `ZFS_IOC_ROLLBACK`: roll a dataset back.
pub const ROLLBACK: u32 = 0x19;
/// `ZFS_IOC_CLEAR`: forget the errors of a pool, and go on with one that waits for its disks.
pub const POOL_CLEAR: u32 = 0x21;
/// `ZFS_IOC_SNAPSHOT`: take snapshots.
pub const SNAPSHOT: u32 = 0x23;
/// `ZFS_IOC_POOL_GET_PROPS`: properties of a pool.
pub const POOL_GET_PROPS: u32 = 0x27;
/// `ZFS_IOC_DESTROY_SNAPS`: destroy snapshots.
pub const DESTROY_SNAPS: u32 = 0x3b;
/// `ZFS_IOC_POOL_REGUID`: a new guid for a pool.
pub const POOL_REGUID: u32 = 0x3c;
/// `ZFS_IOC_CLONE`: clone a snapshot.
pub const CLONE: u32 = 0x42;
/// `ZFS_IOC_LOAD_KEY`: load a key.
pub const LOAD_KEY: u32 = 0x49;

/// All of them, with their names.
pub const ALL: [(u32, &str); 19] = [
    (POOL_IMPORT, "POOL_IMPORT"),
    (POOL_EXPORT, "POOL_EXPORT"),
    (POOL_CONFIGS, "POOL_CONFIGS"),
    (POOL_STATS, "POOL_STATS"),
    (POOL_TRYIMPORT, "POOL_TRYIMPORT"),
    (VDEV_SET_STATE, "VDEV_SET_STATE"),
    (OBJSET_STATS, "OBJSET_STATS"),
    (DATASET_LIST_NEXT, "DATASET_LIST_NEXT"),
    (SNAPSHOT_LIST_NEXT, "SNAPSHOT_LIST_NEXT"),
    (SET_PROP, "SET_PROP"),
    (DESTROY, "DESTROY"),
    (ROLLBACK, "ROLLBACK"),
    (POOL_CLEAR, "POOL_CLEAR"),
    (SNAPSHOT, "SNAPSHOT"),
    (POOL_GET_PROPS, "POOL_GET_PROPS"),
    (DESTROY_SNAPS, "DESTROY_SNAPS"),
    (POOL_REGUID, "POOL_REGUID"),
    (CLONE, "CLONE"),
    (LOAD_KEY, "LOAD_KEY"),
];

/// The name of a call.
pub fn name(number: u32) -> &'static str {
    ALL.iter().find(|(known, _)| *known == number).map_or("unknown", |(_, name)| name)
}
