//! The kernel's uevent datagram: `ACTION@DEVPATH\0KEY=value\0...` (`lib/kobject_uevent.c`).

use std::borrow::Cow;

/// What boot needs of one uevent. Bytes that are no UTF-8 are replaced, not refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// `add`, `remove`, `change`, `move`, `online`, `offline`, `bind`, `unbind`.
    pub action: Cow<'a, str>,
    /// Path of the device below `/sys`, with the leading `/`.
    pub devpath: Cow<'a, str>,
    /// `SUBSYSTEM`, empty if not given.
    pub subsystem: Cow<'a, str>,
    /// `MODALIAS`, empty if not given.
    pub modalias: Cow<'a, str>,
    /// `DEVNAME`, the node below `/dev`, empty if not given.
    pub devname: Cow<'a, str>,
    /// `DEVTYPE` (`disk` or `partition` in the block subsystem), empty if not given.
    pub devtype: Cow<'a, str>,
}

impl<'a> Uevent<'a> {
    /// Reads a datagram; `None` for anything that is not the kernel's format (udevd's begins with `libudev`).
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut fields = datagram.split(|&b| b == 0);
        let head = fields.next()?;
        let at = head.iter().position(|&b| b == b'@')?;
        let (action, devpath) = (head.get(..at)?, head.get(at + 1..)?);
        if action.is_empty() || devpath.first() != Some(&b'/') {
            return None;
        }
        let mut event = Self {
            action: String::from_utf8_lossy(action),
            devpath: String::from_utf8_lossy(devpath),
            ..Self::default()
        };
        for field in fields {
            let Some(eq) = field.iter().position(|&b| b == b'=') else { continue };
            let (Some(key), Some(value)) = (field.get(..eq), field.get(eq + 1..)) else { continue };
            let slot = match key {
                b"SUBSYSTEM" => &mut event.subsystem,
                b"MODALIAS" => &mut event.modalias,
                b"DEVNAME" => &mut event.devname,
                b"DEVTYPE" => &mut event.devtype,
                _ => continue,
            };
            *slot = String::from_utf8_lossy(value);
        }
        Some(event)
    }

    /// Whether it is about a disk or partition.
    pub fn is_block(&self) -> bool {
        self.subsystem == "block"
    }

    /// Last component of the path: the kernel's name of the device.
    pub fn sysname(&self) -> &str {
        self.devpath.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_disk() {
        let event = Uevent::parse(
            b"add@/devices/pci0000:00/0000:00:02.0/virtio1/block/vda\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=block\0\
              MAJOR=254\0DEVNAME=vda\0DEVTYPE=disk\0SEQNUM=12\0",
        )
        .unwrap();
        assert!(event.is_block());
        assert_eq!((&*event.action, event.sysname(), &*event.devtype), ("add", "vda", "disk"));
    }

    #[test]
    fn keeps_modalias_with_equal_signs_and_bad_utf8() {
        let event = Uevent::parse(b"add@/devices/x\0MODALIAS=of:N=a\xff\0NOEQUAL\0=\0").unwrap();
        assert_eq!(event.modalias, "of:N=a\u{fffd}");
        assert!(!event.is_block());
    }

    #[test]
    fn refuses_other_formats() {
        for junk in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"@/x\0", b"add@x\0", b"add\0", b"\0\0\0"] {
            assert_eq!(Uevent::parse(junk), None, "{junk:?}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Uevent::parse(&bytes);
            let mut prefixed = b"add@/devices/a\0".to_vec();
            prefixed.extend_from_slice(&bytes);
            prop_assert!(Uevent::parse(&prefixed).is_some());
        }
    }
}
