# Small pools, one of each kind: mirror, raidz1 (not exported), stripe, one without bootfs, one whose root has no init.
# disks: mirror0=256M mirror1=256M raidz0=256M raidz1=256M raidz2=256M
# disks: stripe0=256M stripe1=256M nobootfs0=256M noinit0=256M

make_pool pmirror mirror $id-mirror0-part1 $id-mirror1-part1
small_root pmirror
zpool export pmirror

make_pool praidz raidz1 $id-raidz0-part1 $id-raidz1-part1 $id-raidz2-part1
small_root praidz
left_active praidz

make_pool pstripe $id-stripe0-part1 $id-stripe1-part1
small_root pstripe
zpool export pstripe

make_pool nobootfs $id-nobootfs0-part1
small_root nobootfs
zpool set bootfs= nobootfs
zpool export nobootfs

make_pool noinit $id-noinit0-part1
small_root noinit
rm /mnt/sbin/init
left_active noinit
