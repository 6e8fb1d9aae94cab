//! The host's side of the guest: qemu, and one virtiofsd per shared directory.
//!
//! All of them die with this process (`setpriv --pdeathsig`), so that a killed test run leaves nothing running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Options;
use super::initramfs::Kernel;
use crate::{Failure, Result};

/// What executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, by /dev/kvm.
    Kvm,
    /// qemu's translator: slow, works everywhere.
    Emulation,
}

impl Accelerator {
    /// `auto` is none.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        match text {
            "auto" => Ok(None),
            "kvm" => Ok(Some(Self::Kvm)),
            "tcg" => Ok(Some(Self::Emulation)),
            other => Err(Failure::new(format!("--accel {other}: expected auto, kvm or tcg"))),
        }
    }

    /// The name that `--accel` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Emulation => "tcg",
        }
    }
}

/// A running guest.
pub struct Machine {
    qemu: Child,
    helpers: Vec<Child>,
    console: PathBuf,
}

impl Machine {
    /// Starts the file servers and the guest.
    ///
    /// # Errors
    /// A missing program, named with its package.
    pub fn start(
        options: &Options,
        scratch: &Path,
        kernel: &Kernel,
        accelerator: Accelerator,
    ) -> Result<Self> {
        let disk = scratch.join("disk");
        make_disk(&disk)?;
        let console = scratch.join("console");
        let _ = fs::remove_file(&console);
        let helpers = vec![
            serve(&scratch.join("host.sock"), Path::new("/"), "always")?,
            serve(&scratch.join("share.sock"), &scratch.join("share"), "none")?,
        ];
        let mut command = bound_to_us("qemu-system-x86_64");
        command
            .args(["-accel", if accelerator == Accelerator::Kvm { "kvm" } else { "tcg,thread=multi" }])
            .args(["-cpu", if accelerator == Accelerator::Kvm { "host,-arch-capabilities" } else { "max" }])
            .args(["-smp", &options.cpus.to_string(), "-m", &options.memory.to_string()])
            .args(["-object", &format!("memory-backend-memfd,id=mem,size={}M,share=on", options.memory)])
            .args(["-numa", "node,memdev=mem", "-nodefaults", "-display", "none", "-nic", "none"])
            .args(["-no-reboot", "-kernel", &kernel.image.to_string_lossy()])
            .args(["-initrd", &scratch.join("initramfs").to_string_lossy()])
            .args(["-append", "console=ttyS0 cgroup_no_v1=all panic=-1 quiet loglevel=4 mitigations=off"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-drive", &format!("file={},if=virtio,format=raw,cache=unsafe", disk.display())])
            .args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off"])
            .args(["-device", "virtserialport,chardev=out,name=out"]);
        for tag in ["host", "share"] {
            let socket = scratch.join(format!("{tag}.sock"));
            command
                .args(["-chardev", &format!("socket,id={tag},path={}", socket.display())])
                .args(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024")]);
        }
        let log = scratch.join("qemu.log");
        let errors = fs::File::create(&log).map_err(|e| Failure::new(format!("{}: {e}", log.display())))?;
        let qemu = command
            // Held open and never written: an end of file there would close the guest's output port.
            .stdin(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|e| Failure::new(format!("qemu-system-x86_64: {e}: apt-get install qemu-system-x86")))?;
        Ok(Self { qemu, helpers, console })
    }

    /// Waits for `text` on the serial console; how long it took from `started`, or none when the guest is silent or gone.
    pub fn wait_for_console(&mut self, text: &str, started: Instant, deadline: Instant) -> Option<Duration> {
        while Instant::now() < deadline {
            let seen = fs::read(&self.console).unwrap_or_default();
            if String::from_utf8_lossy(&seen).contains(text) {
                return Some(started.elapsed());
            }
            if !matches!(self.qemu.try_wait(), Ok(None)) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    /// Waits until the guest has powered off.
    ///
    /// # Errors
    /// The deadline passed; the guest is killed.
    pub fn wait(&mut self, deadline: Instant) -> Result<()> {
        loop {
            match self.qemu.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Ok(None) => {
                    return Err(Failure::new("the machine ran into its time limit (--timeout SECONDS)"));
                }
                Err(e) => return Err(Failure::new(format!("waiting for qemu: {e}"))),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.qemu).chain(self.helpers.iter_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command that the kernel kills when we die.
fn bound_to_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// A sparse disk for whatever the guest writes.
fn make_disk(path: &Path) -> Result<()> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let file = fs::File::create(path).map_err(fail)?;
    file.set_len(16 << 30).map_err(fail)?;
    let status = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"])
        .arg(path)
        .status()
        .map_err(|e| Failure::new(format!("mkfs.ext4: {e}: apt-get install e2fsprogs")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("mkfs.ext4 failed on {}", path.display())))
    }
}

/// Shares `directory` under a socket and waits until the server listens.
fn serve(socket: &Path, directory: &Path, cache: &str) -> Result<Child> {
    let server = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"]
        .into_iter()
        .find(|p| Path::new(p).exists())
        .ok_or_else(|| {
            Failure::new("no virtiofsd: apt-get install qemu-system-common (or virtiofsd on newer Debian)")
        })?;
    let _ = fs::remove_file(socket);
    let log = socket.with_extension("log");
    let errors = fs::File::create(&log).map_err(|e| Failure::new(format!("{}: {e}", log.display())))?;
    // The server keeps a descriptor per file that the guest knows, so it gets all that we may have.
    let mut child = bound_to_us("sh")
        .args(["-c", "ulimit -n \"$(ulimit -H -n)\"; exec \"$@\"", "virtiofsd", server])
        .arg(format!("--socket-path={}", socket.display()))
        // "/" cannot be pivoted into, hence chroot.
        .args(["-o", &format!("source={},cache={cache},log_level=err,sandbox=chroot", directory.display())])
        .args(["--rlimit-nofile=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|e| Failure::new(format!("{server}: {e}")))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if socket.exists() {
            return Ok(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::new(format!("{server} ended with {status}: {}", said.trim())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Failure::new(format!("{server} does not listen on {}", socket.display())))
}
