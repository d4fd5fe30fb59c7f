# A pool with a log device.
# disks: logdata0=128M logdev0=128M

make_pool plog $id-logdata0-part1 log $id-logdev0-part1
small_root plog
zpool export plog
