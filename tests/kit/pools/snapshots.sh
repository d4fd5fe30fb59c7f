# Roots with snapshots. psnap: @old of the root and most of what lies below it, a newer one of the root alone, and changes
# since. psnapfs: bootfs is a snapshot. psnapenc: an encrypted root.
# disks: snap0=128M snapfs0=128M snapenc0=128M

for pool in psnap psnapfs; do
    disk=snap0
    [ $pool = psnap ] || disk=snapfs0
    make_pool $pool $id-$disk-part1
    small_root $pool default -o atime=off -o taproot.test:tag=kept
    root=$pool/ROOT/default
    mkdir -p /mnt/var /mnt/opt /mnt/srv
    zfs create -o mountpoint=/var -o canmount=on $root/var
    zfs create -o mountpoint=/box -o canmount=off $root/box
    zfs create -o mountpoint=/box/in -o canmount=on $root/box/in
    zfs create -o mountpoint=legacy $root/opt
    echo "$root/opt /opt zfs defaults 0 0" >>/mnt/etc/fstab
    echo old >/mnt/var/state
    echo at-old >/mnt/etc/hostname
    zfs snapshot -r $root@old
    zfs destroy $root/box/in@old
    # As long as the other, to show that a name is not a pattern.
    echo at-old2 >/mnt/etc/hostname
    zfs snapshot $root@old2
    echo new >/mnt/var/state
    echo now >/mnt/etc/hostname
    zfs create -o mountpoint=/srv -o canmount=on $root/srv
    if [ $pool = psnap ]; then
        # A dataset where a clone would like to be.
        zfs create -o mountpoint=none psnap/ROOT/taken
    else
        zpool set bootfs=$root@old $pool
    fi
    zpool export $pool
done

# An encrypted root: a clone of it is in the encryption root of its original.
make_pool psnapenc $id-snapenc0-part1
echo "correct horse" | small_root psnapenc default -o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000
echo at-old >/mnt/etc/hostname
zfs snapshot psnapenc/ROOT/default@old
echo now >/mnt/etc/hostname
zpool export psnapenc
