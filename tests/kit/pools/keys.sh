# Encrypted roots: one by a passphrase, with other keys beside it and a clone elsewhere; one by a raw key file.
# disks: keys0=192M keys1=192M

# The tests know these (tests/tests/keys.rs). The fewest rounds that zfs allows: each costs seconds under emulation.
passphrase=(-o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000)
raw=(-o encryption=on -o keyformat=raw)
echo taproot-hippo-lantern-52 >/run/first
echo taproot-walrus-candle-77 >/run/second

make_pool pcrypt $id-keys0-part1
small_root pcrypt root "${passphrase[@]}" data "${passphrase[@]}" -o keylocation=file:///run/second </run/first
zfs set keylocation=prompt pcrypt/data
zfs create "${passphrase[@]}" -o keylocation=file:///run/first -o mountpoint=/same pcrypt/same
zfs set keylocation=prompt pcrypt/same
# Its key lies in the root, as the booted system names it.
mkdir -p /mnt/etc/keys
printf %s 0123456789abcdef-inroot-89ABCDEF >/mnt/etc/keys/inroot.raw
zfs create "${raw[@]}" -o keylocation=file:///mnt/etc/keys/inroot.raw -o mountpoint=/inroot pcrypt/inroot
zfs set keylocation=file:///etc/keys/inroot.raw pcrypt/inroot
# Nobody has its key.
head -c 32 /dev/urandom >/run/lost
zfs create "${raw[@]}" -o keylocation=file:///run/lost -o mountpoint=/lost pcrypt/lost
zfs set keylocation=file:///nowhere/lost.raw pcrypt/lost
# Encrypted, although nothing above it is: its encryption root is pcrypt/ROOT.
zfs create -o mountpoint=none pcrypt/BE
zfs snapshot pcrypt/ROOT/default@clone
zfs clone -o mountpoint=/ -o canmount=noauto pcrypt/ROOT/default@clone pcrypt/BE/clone
[ "$(zfs get -H -o value encryptionroot pcrypt/BE/clone)" = pcrypt/ROOT ]
zpool export pcrypt

make_pool praw $id-keys1-part1
printf %s 0123456789abcdef-praw-6789ABCDEF >/run/praw.raw
small_root praw root "${raw[@]}" -o keylocation=file:///run/praw.raw data "${passphrase[@]}" -o keylocation=file:///kit/etc/issue
zfs set keylocation=file:///etc/keys/praw.raw praw/ROOT
zfs set keylocation=file:///etc/issue praw/data
printf '00112233445566778899AABBCCDDEEFF%.0s' 1 2 >/run/hex
zfs create -o encryption=on -o keyformat=hex -o keylocation=file:///run/hex -o mountpoint=/hex praw/hex
zfs set keylocation=prompt praw/hex
zpool export praw
