# What is mounted, and in which order.
# nest: /usr with the init behind it on a dataset of its own, names in an order that is not that of the paths, links in the
# root, another environment's children, fstab lines of other file systems. path: a root whose mountpoint is not /.
# disks: nest0=256M path0=256M ext40=64M

make_pool nest $id-nest0-part1
zfs create -o mountpoint=none nest/ROOT
zfs create -o mountpoint=/ -o canmount=noauto nest/ROOT/default
zfs mount nest/ROOT/default
fill_root /mnt nest
rm -r /mnt/sbin /mnt/usr /mnt/data
mkdir -p /mnt/usr /mnt/covered /mnt/never
ln -s usr/sbin /mnt/sbin
ln -s usr/lib /mnt/lib
touch /mnt/covered/file
cat >/mnt/etc/fstab <<'FSTAB'
nest/legacy         /usr/local/share/legacy  zfs    nodev,nosuid               0 0
LABEL=TAPSRV        /srv/ext4                ext4   noatime,x-initrd.mount     0 2
tmpfs               /scratch                 tmpfs  size=1M,x-initrd.mount     0 0
LABEL=NOT-THERE     /never                   ext4   nofail,x-initrd.mount      0 2
LABEL=TAPSRV        /never                   ext4   defaults                   0 2
elsewhere/data      /elsewhere               zfs    x-initrd.mount             0 0
FSTAB
zfs create -o mountpoint=/usr nest/b
mkdir -p /mnt/usr/sbin /mnt/usr/lib/modules /mnt/usr/local
install -m 755 /run/guest-init /mnt/usr/lib/the-init
# An absolute link: it must not lead into the initramfs.
ln -s /usr/lib/the-init /mnt/usr/sbin/init
zfs create -o mountpoint=/usr/local nest/a
zfs create -o mountpoint=/usr/local/share nest/A-last
zfs create -o mountpoint=legacy nest/legacy
zfs create -u -o mountpoint=/lib/modules nest/modules
zfs create -u -o mountpoint=/covered nest/covers
zfs create -u -o mountpoint=/deep/er/new nest/new
zfs create -o mountpoint=none nest/data
zfs create -u -o mountpoint=/home nest/data/home
zfs create -u -o mountpoint=/manual -o canmount=noauto nest/manual
zfs create -o mountpoint=legacy -o org.zol:mountpoint=/zol nest/zol
zfs create -u -o mountpoint=/var nest/ROOT/default/var
zfs create -o mountpoint=/ -o canmount=noauto nest/ROOT/other
zfs create -u -o mountpoint=/var nest/ROOT/other/var
zfs create -u -o mountpoint=/other nest/ROOT/other/other
zpool set bootfs=nest/ROOT/default nest
zpool export nest
mkfs.ext4 -q -L TAPSRV $id-ext40-part1

make_pool path $id-path0-part1
zfs set mountpoint=/path path
zfs create -o canmount=noauto path/sys
zfs create path/sys/be1
fill_root /mnt/path/sys/be1 path
sed -i '$d' /mnt/path/sys/be1/etc/fstab
mkdir -p /mnt/path/sys/be1/var
zfs create path/sys/be1/var
zfs create -u -o mountpoint=/home path/home
zfs create -u -o mountpoint=/missing path/missing
zfs create path/sys/be2
zfs create -u -o mountpoint=/var path/sys/be2/var
zpool set bootfs=path/sys/be1 path
zpool export path
