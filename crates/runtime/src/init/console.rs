//! The container's terminal: a new pseudo terminal of the container's own devpts, its slave as stdio and `/dev/console`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{FileType, Mode, OFlags, major};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::mounts::clone_tree;
use super::root::{Root, attach};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
const PTMX: (u32, u32) = (5, 2);

/// Both ends of a new terminal; the paths are those of the current root.
pub(crate) fn open() -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master =
        rustix::fs::open("/dev/ptmx", flags, Mode::empty()).about(|| "/dev/ptmx in the container")?;
    let stat = rustix::fs::fstat(&master).about(|| "/dev/ptmx")?;
    let (is_device, number) = (
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice,
        (major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
    );
    if !is_device || number != PTMX {
        return Err(Error::corrupt("/dev/ptmx in the container is not a pseudo terminal multiplexer"));
    }
    rustix::pty::unlockpt(&master).about(|| "unlocking the terminal")?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .about(|| "terminal")?;
    if rustix::fs::fstatfs(&slave).about(|| "terminal")?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Error::corrupt("the terminal in the container is not in a devpts"));
    }
    Ok((master, slave))
}

/// Sets the size of a terminal, if it is one that makes sense.
pub(crate) fn resize(master: &OwnedFd, rows: u16, cols: u16) -> Result<()> {
    if rows == 0 && cols == 0 {
        return Ok(());
    }
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).about(|| "size of the terminal")
}

/// Lets lines end with a newline alone on their way out.
pub(crate) fn newlines_alone(master: &OwnedFd) -> Result<()> {
    use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};
    let mut modes = tcgetattr(master).about(|| "modes of the terminal")?;
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(master, OptionalActions::Now, &modes).about(|| "modes of the terminal")
}

/// Shows the slave as `/dev/console`.
pub(crate) fn bind_console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let tree = clone_tree(slave.as_fd(), Path::new(""), false)?;
    let target = root.ensure_file(Path::new("dev/console"))?;
    attach(tree.as_fd(), target.as_fd()).about(|| "/dev/console in the container")
}

/// Makes the slave the controlling terminal and stdio of this process, which must lead a session.
pub(crate) fn adopt(slave: &OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).about(|| "controlling terminal")?;
    stdio(slave, slave, slave)
}

/// Puts three descriptors in place of stdin, stdout and stderr.
pub(crate) fn stdio(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<()> {
    rustix::stdio::dup2_stdin(stdin).about(|| "stdin")?;
    rustix::stdio::dup2_stdout(stdout).about(|| "stdout")?;
    rustix::stdio::dup2_stderr(stderr).about(|| "stderr")
}

/// Gives stdio to the user of the process, so that `/dev/stdout` can be opened again. Terminals, pipes and files alike;
/// `/dev/null` and what the file system refuses stay as they are.
pub(crate) fn give_stdio(uid: u32) {
    let give = |fd: std::os::fd::BorrowedFd<'_>| {
        let Ok(stat) = rustix::fs::fstat(fd) else { return };
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        // The node may be the host's own, whatever the container has.
        if stat.st_uid != uid && !(device && stat.st_rdev == rustix::fs::makedev(1, 3)) {
            let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    };
    give(rustix::stdio::stdin());
    give(rustix::stdio::stdout());
    give(rustix::stdio::stderr());
}
