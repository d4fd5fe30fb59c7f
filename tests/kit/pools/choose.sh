# Pools to choose from: two with bootfs, two of one name, one that was destroyed, and one that has changed since its
# checkpoint.
# disks: choosea0=128M chooseb0=128M twina0=128M twinb0=128M gone0=128M check0=128M

for pair in alpha=choosea0 beta=chooseb0; do
    make_pool ${pair%=*} $id-${pair#*=}-part1
    small_root ${pair%=*}
    zpool export ${pair%=*}
done

for n in a b; do
    make_pool twin $id-twin${n}0-part1
    small_root twin
    echo twin-$n >/mnt/etc/hostname
    zpool export twin
done

make_pool pgone $id-gone0-part1
small_root pgone
zpool destroy pgone

make_pool pcheck $id-check0-part1
small_root pcheck
zpool checkpoint pcheck
echo later >/mnt/etc/hostname
zfs create -o canmount=noauto pcheck/later
zpool export pcheck
