# Pool tank: an installed Debian in two boot environments (be1, be2) with datasets that must and must not be mounted, also not
# by the booted system, whose zfs-mount.service is enabled. be2 has zfs-mount-generator's list of the pool.
# disks: tank0=3G

make_pool tank $id-tank0-part1
zfs create -o mountpoint=none tank/ROOT
zfs create -o mountpoint=/ -o canmount=noauto tank/ROOT/be1
zfs mount tank/ROOT/be1
cp -a /kit/. /mnt/
zfs create -o mountpoint=/home -o canmount=on tank/home
zfs create -o mountpoint=legacy tank/srv
zfs create -o mountpoint=legacy tank/srv-noauto
zfs create -o mountpoint=legacy tank/srv-be2
zfs create -o mountpoint=/never -o canmount=off tank/never
zfs create -o mountpoint=/manual -o canmount=noauto tank/manual
for be in be1 be2; do
    case $be in
        be1) base=/mnt ;;
        be2)
            zfs snapshot tank/ROOT/be1@install
            zfs clone -o mountpoint=/ -o canmount=noauto tank/ROOT/be1@install tank/ROOT/be2
            mkdir -p /tmp/be2
            mount -t zfs -o zfsutil tank/ROOT/be2 /tmp/be2
            base=/tmp/be2
            ;;
    esac
    echo $be >$base/etc/hostname
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' $be >$base/etc/hosts
    mkdir -p $base/srv-noauto $base/srv-be2
    {
        echo "# device      mount point  type  options"
        echo "tank/srv        /srv         zfs   defaults  0 0"
        echo "tank/srv-noauto /srv-noauto  zfs   noauto    0 0"
        [ $be = be1 ] || echo "tank/srv-be2    /srv-be2     zfs   defaults,noatime  0 0"
    } >$base/etc/fstab
done
umount /tmp/be2
# Inside each environment's subtree: belongs to it alone. They inherit /opt; made unmounted, because both say /opt.
zfs create -u -o canmount=on tank/ROOT/be1/opt 2>/dev/null || { zfs create -o canmount=noauto tank/ROOT/be1/opt && zfs set canmount=on tank/ROOT/be1/opt; }
zfs create -u -o canmount=on tank/ROOT/be2/opt 2>/dev/null || { zfs create -o canmount=noauto tank/ROOT/be2/opt && zfs set canmount=on tank/ROOT/be2/opt; }
# For one directory, and each for one that the other environment does not have.
for be in be1 be2; do
    zfs create -u -o mountpoint=/var/log tank/ROOT/$be/log
    zfs create -u -o mountpoint=/only-$be tank/ROOT/$be/only
done
# What was received from another machine, with what belongs to that.
zfs create -p -o mountpoint=none tank/archive/old/ROOT
zfs create -o mountpoint=/ -o canmount=noauto tank/archive/old/ROOT/debian
zfs create -u -o mountpoint=/photos tank/archive/old/photos
# As ZED writes it, without the altroot.
mount -t zfs -o zfsutil tank/ROOT/be2 /tmp/be2
mkdir -p /tmp/be2/etc/zfs/zfs-list.cache
unit=org.openzfs.systemd
zfs list -H -t filesystem -r -o name,mountpoint,canmount,atime,relatime,devices,exec,readonly,setuid,nbmand,encroot,keylocation,$unit:requires,$unit:requires-mounts-for,$unit:before,$unit:after,$unit:wanted-by,$unit:required-by,$unit:nofail,$unit:ignore tank |
    awk -F'\t' -v OFS='\t' '{ sub("^/mnt", "", $2); if ($2 == "") $2 = "/"; print }' >/tmp/be2/etc/zfs/zfs-list.cache/tank
cat /tmp/be2/etc/zfs/zfs-list.cache/tank
umount /tmp/be2
zpool set bootfs=tank/ROOT/be1 tank
zfs list -o name,used,mountpoint,canmount,mounted
zpool status -P
zpool export tank
