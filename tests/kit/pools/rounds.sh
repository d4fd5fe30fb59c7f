# Mounts in rounds, what hides the init, and who is asked. petc: /etc on a dataset of its own, and a key in that of /root. phide:
# a clone with an empty dataset over its /usr, and one with something in it. pask: keys that a boot needs, and others.
# disks: etc0=192M hide0=192M ask0=256M

passphrase=(-o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000)
echo taproot-hippo-lantern-52 >/run/first
echo taproot-walrus-candle-77 >/run/second
echo taproot-otter-bottle-31 >/run/third

make_pool petc $id-etc0-part1
small_root petc
# What lies below the mount of /etc must not be read.
echo hidden >/mnt/etc/hostname
echo "petc/hidden /hidden zfs defaults 0 0" >/mnt/etc/fstab
zfs create -o mountpoint=legacy petc/hidden
zfs create -o mountpoint=/etc petc/ROOT/default/etc
echo petc >/mnt/etc/hostname
cp /etc/hostid /mnt/etc/hostid
echo "petc/legacy /legacy zfs defaults 0 0" >/mnt/etc/fstab
zfs create -o mountpoint=/root petc/root
printf %s 0123456789abcdef-petc-6789ABCDEF >/mnt/root/home.key
zfs create -u -o encryption=on -o keyformat=raw -o keylocation=file:///mnt/root/home.key -o mountpoint=/home petc/home
zfs set keylocation=file:///root/home.key petc/home
zpool export petc

make_pool phide $id-hide0-part1
small_root phide
mkdir -p /mnt/usr/sbin /mnt/usr/local
mv /mnt/sbin/init /mnt/usr/sbin/init
rmdir /mnt/sbin
ln -s usr/sbin /mnt/sbin
clone_environment phide clone
zfs create -u -o mountpoint=/usr phide/ROOT/clone/usr
zfs create -u -o mountpoint=/usr/local phide/ROOT/clone/usr/local
clone_environment phide full
zfs create -u -o mountpoint=/usr phide/ROOT/full/usr
mkdir -p /tmp/usr
mount -t zfs -o zfsutil phide/ROOT/full/usr /tmp/usr
echo kept >/tmp/usr/file
umount /tmp/usr
zpool export phide

make_pool pask $id-ask0-part1
small_root pask root "${passphrase[@]}" </run/first
zfs create "${passphrase[@]}" -o mountpoint=/usr pask/ROOT/default/usr </run/second
zfs create "${passphrase[@]}" -o mountpoint=/home pask/home </run/third
# A root whose key is said to be in a file.
zfs create "${passphrase[@]}" -o mountpoint=none pask/FILE </run/first
zfs create -u -o mountpoint=/ -o canmount=noauto pask/FILE/default
mkdir -p /tmp/file
mount -t zfs -o zfsutil pask/FILE/default /tmp/file
fill_root /tmp/file pask filed
umount /tmp/file
zfs set keylocation=file:///etc/keys/nowhere pask/FILE
zpool export pask
