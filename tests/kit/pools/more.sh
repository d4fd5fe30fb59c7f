# Pool more, for a booted system to import: data, and another system's environment with what belongs to it.
# disks: more0=128M

make_pool more $id-more0-part1
zfs create -u -o mountpoint=/data/more more/data
zfs create -p -o mountpoint=none more/old/ROOT
zfs create -o mountpoint=/ -o canmount=noauto more/old/ROOT/debian
zfs create -u -o mountpoint=/var more/old/ROOT/debian/var
zfs create -u -o mountpoint=/home more/old/home
zpool export more
