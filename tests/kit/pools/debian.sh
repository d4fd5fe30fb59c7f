# Pool tank: an installed Debian in two boot environments (be1, be2) with datasets that must and must not be mounted.
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
zpool set bootfs=tank/ROOT/be1 tank
zfs list -o name,used,mountpoint,canmount,mounted
zpool status -P
zpool export tank
