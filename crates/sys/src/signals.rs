//! Signals as something to poll: a set of them is blocked and read from a descriptor instead.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use fluyt_model::Result;
use fluyt_model::error::IoContext;

/// Signals that are blocked in this thread and queue up on a descriptor. Dropping it unblocks them again, so that
/// those still waiting take their usual effect.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    previous: libc::sigset_t,
}

impl Signals {
    /// Blocks `signals` (numbers) and opens the descriptor. Numbers that cannot be caught are left out.
    ///
    /// # Errors
    /// The kernel refuses a descriptor.
    pub fn block(signals: &[i32]) -> Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set; sigaddset only changes an initialised set and refuses numbers
        // that are no signals.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals.iter().filter(|s| !matches!(**s, libc::SIGKILL | libc::SIGSTOP)) {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            set.assume_init()
        };
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both pointers are to sets that live through the call; pthread_sigmask fills `previous` if it
        // succeeds, and it can only fail for an unknown first argument.
        let previous = unsafe {
            let code = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, previous.as_mut_ptr());
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code)).about(|| "blocking signals");
            }
            previous.assume_init()
        };
        // SAFETY: the set is initialised; the result is checked before it is owned.
        let fd = unsafe {
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                let error = io::Error::last_os_error();
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const previous, std::ptr::null_mut());
                return Err(error).about(|| "signalfd");
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd, previous })
    }

    /// The next signal that has arrived, if one has.
    ///
    /// # Errors
    /// Reading the descriptor fails.
    pub fn next(&self) -> Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is as large as said; a positive result means that the kernel filled all of it.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).about(|| "reading signals"),
            };
        }
        // SAFETY: the read above did not fail, and signalfd never reads part of a record.
        let number = unsafe { info.assume_init_ref() }.ssi_signo;
        Ok(i32::try_from(number).ok())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: `previous` was filled by the kernel in `block`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.previous, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_on_the_descriptor() {
        let signals = Signals::block(&[libc::SIGUSR2, libc::SIGKILL]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: it sends this thread a signal that is blocked here.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
        assert_eq!(signals.next().unwrap(), None);
    }
}
