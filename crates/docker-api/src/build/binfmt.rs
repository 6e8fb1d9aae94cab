//! Whether this machine runs programs of another platform: what the kernel knows about their format.

use std::path::Path;

use fluyt_model::{Error, Result};

/// Where the kernel tells.
const KNOWN: &str = "/proc/sys/fs/binfmt_misc";

/// Architectures by Go's name: ELF class, byte order, machine (`e_machine`).
const MACHINES: [(&str, u8, u8, u16); 12] = [
    ("386", 1, 1, 3),
    ("amd64", 2, 1, 62),
    ("arm", 1, 1, 40),
    ("arm64", 2, 1, 183),
    ("ppc64le", 2, 1, 21),
    ("ppc64", 2, 2, 21),
    ("s390x", 2, 2, 22),
    ("riscv64", 2, 1, 243),
    ("loong64", 2, 1, 258),
    ("mips64le", 2, 1, 8),
    ("mips64", 2, 2, 8),
    ("mipsle", 1, 1, 8),
];

/// Refuses a platform (`os/architecture[/variant]`) whose programs nothing here interprets.
///
/// # Errors
/// `Kind::Unsupported`, with what to do.
pub fn check(platform: &str) -> Result<()> {
    let mut parts = platform.split('/');
    let (os, architecture) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let runs =
        os == "linux" && header(architecture).is_some_and(|header| interpreter(&header, Path::new(KNOWN)));
    // 64-bit ARM processors run 32-bit programs, most of them.
    if runs || std::env::consts::ARCH == "aarch64" && architecture == "arm" {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "RUN for {platform}: this machine is {}, and no interpreter for {architecture} programs is registered (binfmt_misc)",
        fluyt_image::Platform::host()
    ))
    .with_hint(
        "install qemu-user-static and binfmt-support, or run such a step in a stage FROM --platform=$BUILDPLATFORM",
    ))
}

/// The beginning of a program of an architecture.
fn header(architecture: &str) -> Option<[u8; 20]> {
    let (_, class, order, machine) = MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let mut header = [0; 20];
    header[..4].copy_from_slice(b"\x7fELF");
    (header[4], header[5], header[6]) = (*class, *order, 1);
    let word = |n: u16| if *order == 1 { n.to_le_bytes() } else { n.to_be_bytes() };
    header[16..18].copy_from_slice(&word(2));
    header[18..20].copy_from_slice(&word(*machine));
    Some(header)
}

/// Whether an entry of `dir` takes a program that begins so.
fn interpreter(header: &[u8], dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    let names = entries.flatten().filter(|e| !matches!(e.file_name().to_str(), Some("register" | "status")));
    let texts = names.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.into_iter().any(|text| takes(&text, header))
}

/// Whether an entry, as the kernel prints it, is on and fits.
fn takes(entry: &str, header: &[u8]) -> bool {
    let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let Some(magic) = field("magic ").and_then(bytes) else { return false };
    let mask = field("mask ").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let offset = field("offset ").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    if !entry.starts_with("enabled") || mask.len() != magic.len() {
        return false;
    }
    let Some(found) = header.get(offset..offset + magic.len()) else { return false };
    found.iter().zip(&magic).zip(&mask).all(|((found, magic), mask)| found & mask == magic & mask)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn entries_of_the_kernel() {
        let arm = header("arm64").unwrap();
        assert!(takes(ARM, &arm));
        assert!(!takes(ARM, &header("s390x").unwrap()));
        assert!(!takes(&ARM.replace("enabled", "disabled"), &arm));
        assert!(!takes("enabled\ninterpreter /bin/x\nextension .x\n", &arm));
        assert!(header("z80").is_none());
    }
}
