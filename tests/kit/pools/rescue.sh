# Pool resc: three environments (default is bootfs; other; broken, which has no init), snapshots, and an encrypted dataset
# that no boot mounts.
# disks: rescue0=192M

make_pool resc $id-rescue0-part1
small_root resc
zfs snapshot resc/ROOT/default@before
clone_environment resc other
clone_environment resc broken
mkdir -p /tmp/broken
mount -t zfs -o zfsutil resc/ROOT/broken /tmp/broken
rm /tmp/broken/sbin/init
umount /tmp/broken
echo "correct horse" | zfs create -o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000 -o mountpoint=/secret \
    -o canmount=noauto resc/secret
zpool export resc
