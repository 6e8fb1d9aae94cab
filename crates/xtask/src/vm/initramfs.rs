//! The guest's first root: a cpio archive with busybox, the kernel modules that reach the host's files, and `/init`.
//!
//! Everything else (network modules, nftables, …) is loaded later by the guest's own `modprobe` from the shared root.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Failure, Result};

/// Modules without which the guest cannot see the host's root; those built into the kernel are skipped.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_console", "virtio_blk", "ext4", "virtiofs", "overlay"];

/// A kernel of the host that the guest can boot, with its modules.
pub struct Kernel {
    /// `/boot/vmlinuz-…`.
    pub image: PathBuf,
    /// `/lib/modules/…`.
    pub modules: PathBuf,
}

/// The newest Debian cloud kernel installed here.
///
/// # Errors
/// When none is installed; the message names the package.
pub fn find_kernel() -> Result<Kernel> {
    let mut found: Vec<Kernel> = Vec::new();
    for entry in fs::read_dir("/boot").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(release) = name.strip_prefix("vmlinuz-") else { continue };
        let modules = Path::new("/lib/modules").join(release);
        if release.contains("cloud") && modules.join("modules.dep").exists() {
            found.push(Kernel { image: entry.path(), modules });
        }
    }
    found.sort_by(|a, b| a.image.cmp(&b.image));
    found
        .pop()
        .ok_or_else(|| Failure::new("no cloud kernel under /boot: apt-get install linux-image-cloud-amd64"))
}

/// Writes the archive to `out`.
///
/// # Errors
/// A missing busybox, a module with an unknown dependency, or an I/O error naming the file.
pub fn write(kernel: &Kernel, init: &str, out: &Path) -> Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|p| Path::new(p).exists())
        .ok_or_else(|| Failure::new("no busybox: apt-get install busybox-static"))?;
    let mut archive = Cpio::default();
    for dir in ["bin", "modules", "proc", "sys", "dev", "host", "scratch", "newroot"] {
        archive.add(dir, 0o040_755, &[]);
    }
    archive.add("bin/busybox", 0o100_755, &read(Path::new(busybox))?);
    archive.add("init", 0o100_755, init.as_bytes());
    let order = load_order(&kernel.modules)?;
    let mut list = String::new();
    for path in &order {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        archive.add(&format!("modules/{name}"), 0o100_644, &read(&kernel.modules.join(path))?);
        list.push_str(&name);
        list.push('\n');
    }
    archive.add("modules.list", 0o100_644, list.as_bytes());
    let bytes = archive.finish();
    fs::File::create(out)
        .and_then(|mut f| f.write_all(&bytes))
        .map_err(|e| Failure::new(format!("{}: {e}", out.display())))
}

/// The wanted modules after their dependencies, each once, as paths below the module directory.
fn load_order(modules: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(&read(&modules.join("modules.dep"))?).into_owned();
    let mut dependencies: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for line in text.lines() {
        let Some((path, needs)) = line.split_once(':') else { continue };
        let needs = needs.split_whitespace().map(str::to_owned).collect();
        dependencies.insert(module_name(path), (path.to_owned(), needs));
    }
    let mut order: Vec<String> = Vec::new();
    for wanted in MODULES {
        // Absent from modules.dep: built into this kernel.
        let Some((path, needs)) = dependencies.get(wanted) else { continue };
        // modules.dep lists the whole closure, the deepest dependency last.
        for path in needs.iter().rev().chain(std::iter::once(path)) {
            if !order.contains(path) {
                order.push(path.clone());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/fuse/virtiofs.ko.xz` is the module `virtiofs`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e: io::Error| Failure::new(format!("{}: {e}", path.display())))
}

/// A cpio archive in the "newc" format, the one that the kernel unpacks.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    inodes: usize,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inodes += 1;
        let inode = self.inodes;
        let (size, name_size) = (content.len(), name.len() + 1);
        // magic, inode, mode, uid, gid, links, mtime, size, device ×2, rdevice ×2, name size, check
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_path_names_its_module() {
        assert_eq!(module_name("kernel/fs/fuse/virtiofs.ko.xz"), "virtiofs");
        assert_eq!(module_name("kernel/drivers/char/virtio-console.ko"), "virtio_console");
    }

    #[test]
    fn every_archive_member_is_aligned_to_four_bytes() {
        let mut archive = Cpio::default();
        archive.add("a", 0o100_644, b"12345");
        assert_eq!(archive.bytes.len() % 4, 0);
        assert!(archive.finish().starts_with(b"070701"));
    }
}
