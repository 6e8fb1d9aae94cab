//! System call numbers by name, for the architectures that the target's kernels run.

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// A name that has no number on an architecture.
pub(super) const NONE: u32 = u32::MAX;

/// The numbers of a call: native, 32-bit compatible, x32.
pub(super) fn numbers(name: &str) -> Option<&'static [u32; 3]> {
    let h = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let mut slot = ((h ^ (h >> 15)) as usize) % SLOTS.len();
    loop {
        let (known, numbers) = match SLOTS[slot] {
            0 => return None,
            i => &CALLS[usize::from(i) - 1],
        };
        if *known == name {
            return Some(numbers);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn known_numbers() {
        assert_eq!(numbers("read"), Some(&[0, 3, 0x4000_0000]));
        assert_eq!(numbers("clone3").map(|n| n[0]), Some(435));
        assert_eq!(numbers("socketcall").map(|n| (n[0], n[1])), Some((NONE, 102)));
        assert_eq!(numbers("ioctl").map(|n| n[2]), Some(0x4000_0000 | 514));
        assert_eq!(numbers("no_such_call"), None);
    }
}
