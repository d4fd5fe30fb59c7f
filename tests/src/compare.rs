//! A tree as lines that can be compared: each entry with all that a copy has to keep.

/// Prints what is in the tree that its first argument names; further ones are paths that are left out. Runs here and in guests.
pub const LOOK: &str = r"
import hashlib, os, stat, sys
def text(raw):
    return ''.join(chr(b) if 33 <= b < 127 and b != 37 else '%%%02x' % b for b in raw)
out = set(os.fsencode(path) for path in sys.argv[2:])
def look(path, name):
    s = os.lstat(path)
    directory = stat.S_ISDIR(s.st_mode)
    target = text(os.readlink(path)) if stat.S_ISLNK(s.st_mode) else '-'
    sha = '-'
    if stat.S_ISREG(s.st_mode):
        h = hashlib.md5()
        with open(path, 'rb') as f:
            while block := f.read(1 << 20):
                h.update(block)
        sha = h.hexdigest()
    names = set(os.listxattr(path, follow_symlinks=False))
    for kind in ['access', 'default']:
        try:
            os.getxattr(path, 'system.posix_acl_' + kind, follow_symlinks=False)
            names.add('system.posix_acl_' + kind)
        except OSError:
            pass
    attributes = ','.join(n + '=' + hashlib.md5(os.getxattr(path, n, follow_symlinks=False)).hexdigest() for n in sorted(names)) or '-'
    links, size = ('-', '-') if directory else (s.st_nlink, s.st_size)
    print(text(name), '%o' % s.st_mode, s.st_uid, s.st_gid, links, size, s.st_mtime_ns,
          '%d:%d' % (os.major(s.st_rdev), os.minor(s.st_rdev)), target, attributes, sha)
def walk(path, name):
    look(path, name or b'/')
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for entry in sorted(os.listdir(path)):
            below = name + b'/' + entry
            if below not in out:
                walk(os.path.join(path, entry), below)
walk(os.fsencode(sys.argv[1]), b'')
";
