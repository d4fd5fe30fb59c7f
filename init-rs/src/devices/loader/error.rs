//! Why a module could not be loaded, and what that usually means.

use std::time::Duration;

use nix::errno::Errno;

/// Why a module is not there. Cheap to clone: a cause is carried as text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The kernel (or the file system) refused it.
    #[error("module {module} could not be loaded: {cause}: {hint}")]
    Insert {
        /// Name.
        module: String,
        /// errno of `finit_module(2)` or `open(2)`, 0 if there was none.
        errno: i32,
        /// The error in words, with the errno's name.
        cause: String,
        /// What it usually means and what to do.
        hint: String,
    },
    /// A module it needs failed.
    #[error("module {module} was not loaded, because {dependency}, which it needs, failed: {cause}")]
    Dependency {
        /// Name.
        module: String,
        /// The module that failed first.
        dependency: String,
        /// What that module's error says.
        cause: String,
    },
    /// Neither in the image nor in the kernel.
    #[error(
        "module {module} is neither in this image nor loaded nor built into the kernel; \
         pack the image again with this module included"
    )]
    NotPacked {
        /// Name.
        module: String,
    },
    /// Still not loaded at the deadline.
    #[error("module {module} was not loaded within {waited:.1?}: {state}")]
    Deadline {
        /// Name.
        module: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it is doing: initialising, or waiting for which modules.
        state: String,
    },
    /// The loader was shut down first.
    #[error("module {module} was not loaded: module loading has ended, because the root is being handed over")]
    Stopped {
        /// Name.
        module: String,
    },
}

impl LoadError {
    /// Error of an insertion; `unpacked` are the dependencies that the image does not have.
    pub(super) fn insert(module: &str, err: &std::io::Error, unpacked: &[String]) -> Self {
        let errno = err.raw_os_error().map(Errno::from_raw);
        let mut hint = hint(errno).to_owned();
        if !unpacked.is_empty() {
            hint = format!("it needs {}, which this image does not have: pack it again", unpacked.join(", "));
        }
        let cause = errno.map_or_else(|| err.to_string(), |e| format!("{} ({e:?})", e.desc()));
        Self::Insert { module: module.to_owned(), errno: err.raw_os_error().unwrap_or(0), cause, hint }
    }

    /// Error of `module` caused by the failure of a dependency; keeps the first cause only, so chains stay short.
    pub(super) fn dependency(module: &str, cause: &Self) -> Self {
        let (dependency, cause) = match cause {
            Self::Insert { module, cause, hint, .. } => (module.clone(), format!("{cause}: {hint}")),
            Self::Dependency { dependency, cause, .. } => (dependency.clone(), cause.clone()),
            Self::NotPacked { module } | Self::Deadline { module, .. } | Self::Stopped { module } => {
                (module.clone(), cause.to_string())
            }
        };
        Self::Dependency { module: module.to_owned(), dependency, cause }
    }

    /// The errno, if the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Insert { errno, .. } if *errno != 0 => Some(Errno::from_raw(*errno)),
            _ => None,
        }
    }
}

/// What each errno of `finit_module(2)` means to someone whose machine does not boot.
fn hint(errno: Option<Errno>) -> &'static str {
    match errno {
        Some(Errno::ENOEXEC) => {
            "the file is damaged or belongs to another kernel (version magic); pack the image for the running kernel"
        }
        // Where signatures are enforced, EKEYREJECTED is said of modules without one and of those whose key is not known, too
        // (`module_sig_check`, kernel/module/signing.c).
        Some(Errno::ENOKEY | Errno::EKEYREJECTED) => {
            "it has no signature this kernel trusts: enrol the key that signed it (mokutil --import), sign it, pack the file as it was \
             signed, or turn Secure Boot off"
        }
        Some(Errno::EBADMSG) => {
            "its signature does not fit the file (was it stripped after signing?); pack the original file"
        }
        Some(Errno::EPERM) => {
            "the kernel does not allow it: look for module_blacklist=, modules_disabled or lockdown (Secure Boot)"
        }
        Some(Errno::ENOENT) => {
            "the file is missing, or it uses a symbol of a module that is not loaded; the kernel log names the symbol"
        }
        Some(Errno::EINVAL) => {
            "a parameter is wrong, or a symbol it uses is of another version; the kernel log says which"
        }
        Some(Errno::ENODEV | Errno::ENXIO) => "its device or processor feature is not in this machine",
        Some(Errno::ENOMEM) => "the kernel has no memory for it",
        Some(Errno::EOPNOTSUPP) => "this kernel cannot decompress module files; pack them uncompressed",
        Some(Errno::EBUSY) => "it, or the resource it drives, is in use; something else may be loading it just now",
        Some(Errno::ENOSYS) => "this kernel is built without loadable modules",
        _ => "the kernel log may say more",
    }
}
