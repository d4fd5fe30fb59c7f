# A pool, and a disk with swap space that a test turns into one with a hibernation image.
# disks: resume0=128M hib0=66M

make_pool presume $id-resume0-part1
small_root presume
zpool export presume
mkswap -U 11111111-2222-3333-4444-555555555555 -L hib $id-hib0-part1
# A second header, as in a swap file whose first page is page 256 of the device.
dd if=$id-hib0-part1 of=$id-hib0-part1 bs=4096 count=1 seek=256 conv=notrunc
