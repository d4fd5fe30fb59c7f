# A pool that OpenZFS 2.1 can read but not write: all it does not know is block_cloning, which is in use.
# systems: debian13-zfs2.4
# disks: feature0=128M

make_pool -o compatibility=openzfs-2.1-linux pfeature $id-feature0-part1
small_root pfeature
zpool set compatibility=off pfeature
zpool set feature@block_cloning=enabled pfeature
head -c 2M /dev/urandom >/mnt/home/original
zpool sync pfeature
cp --reflink=always /mnt/home/original /mnt/home/clone
zpool sync pfeature
[ "$(zpool get -H -o value feature@block_cloning pfeature)" = active ]
zpool export pfeature
