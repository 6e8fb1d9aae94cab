//! Making another copy of this executable the one that the process runs from, without executing it.
//!
//! What was mapped from the old file is mapped again, at the same addresses, from the new one, which has the same
//! content; then the kernel is told that this is the process's executable (`PR_SET_MM_MAP`, proc(5) `exe`). The kernel
//! refuses that while anything of the old file is still mapped, so a success is also its word that nothing is. An exec
//! would reach the same state, at the price of starting the program a second time. Nothing here judges the new file.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const PAGE: usize = 4096;

/// Makes `file`, opened for reading, the executable of this process. It must have the content of the present one.
///
/// # Errors
/// `EBUSY` if something of the present executable stays mapped, `EPERM` without `CAP_SYS_ADMIN` or
/// `CAP_CHECKPOINT_RESTORE`, `EINVAL` from a kernel without `CONFIG_CHECKPOINT_RESTORE`, `Unsupported` with more than one
/// thread. The process can go on after an error; what it runs from may then be either file.
pub fn adopt(file: BorrowedFd<'_>) -> io::Result<()> {
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err(unsupported());
    }
    let stat = Stat::read()?;
    if stat.threads != 1 {
        return Err(unsupported());
    }
    let headers = headers();
    let bias = bias(headers).ok_or_else(unsupported)?;
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD) {
        remap(header, bias, file)?;
    }
    for header in headers.iter().filter(|h| h.p_type == libc::PT_GNU_RELRO) {
        let (start, end) = (bias + number(header.p_vaddr), bias + number(header.p_vaddr + header.p_memsz));
        let (start, end) = (start & !(PAGE - 1), end & !(PAGE - 1));
        // SAFETY: the range that the C library has made read-only at the start already; nothing writes to it since.
        check(unsafe {
            libc::mprotect(std::ptr::without_provenance_mut(start), end - start, libc::PROT_READ)
        })?;
    }
    stat.set_executable(file)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An address or a size: as wide as a pointer on every target that gets here.
fn number(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The program headers of the running executable.
fn headers() -> &'static [libc::Elf64_Phdr] {
    // SAFETY: only reads the vector that the kernel gave this process.
    let (address, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if address == 0 {
        return &[];
    }
    // SAFETY: the kernel says that `count` headers of the executable lie there; they are mapped as long as it runs.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(number(address)), number(count)) }
}

/// How far from its linked address the executable was loaded.
fn bias(headers: &[libc::Elf64_Phdr]) -> Option<usize> {
    let own = headers.iter().find(|h| h.p_type == libc::PT_PHDR)?;
    headers.as_ptr().addr().checked_sub(number(own.p_vaddr))
}

/// Maps one segment from `file`; what is writable keeps its present content, as memory of no file.
fn remap(header: &libc::Elf64_Phdr, bias: usize, file: BorrowedFd<'_>) -> io::Result<()> {
    let start = (bias + number(header.p_vaddr)) & !(PAGE - 1);
    let end = (bias + number(header.p_vaddr + header.p_filesz)).next_multiple_of(PAGE);
    let offset = header.p_offset & !(PAGE as u64 - 1);
    let (target, length) = (std::ptr::without_provenance_mut(start), end - start);
    if header.p_flags & libc::PF_W == 0 {
        let mut access = libc::PROT_READ;
        if header.p_flags & libc::PF_X != 0 {
            access |= libc::PROT_EXEC;
        }
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the caller vouches that the file has the content that is mapped there now, so every address means the
        // same before and after, for the code that is running right here too; the kernel changes it in one step.
        let at = unsafe {
            libc::mmap(target, length, access, libc::MAP_PRIVATE | libc::MAP_FIXED, file.as_raw_fd(), offset)
        };
        return if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: new memory at a place of the kernel's choice.
    let copy = unsafe {
        libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if copy == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the segment is mapped and readable, the copy is as long and new. The copy then takes the segment's place in
    // one step; no thread but this one exists, and this one changes nothing in the segment between the two calls.
    unsafe {
        std::ptr::copy_nonoverlapping(target.cast::<u8>().cast_const(), copy.cast::<u8>(), length);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        if libc::mremap(copy, length, length, flags, target) == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            libc::munmap(copy, length);
            return Err(error);
        }
    }
    Ok(())
}

/// What `/proc/self/stat` says about this process's memory: `prctl` wants all of it told again.
struct Stat {
    threads: u64,
    code: [u64; 2],
    stack: u64,
    data: [u64; 2],
    heap: u64,
    args: [u64; 2],
    env: [u64; 2],
}

/// `struct prctl_mm_map`.
#[repr(C)]
struct Map {
    code: [u64; 2],
    data: [u64; 2],
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    args: [u64; 2],
    env: [u64; 2],
    auxv: *const u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl Stat {
    fn read() -> io::Result<Self> {
        let odd = || io::Error::from(io::ErrorKind::InvalidData);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::open(c"/proc/self/stat", flags, rustix::fs::Mode::empty())?;
        let mut buffer = [0u8; 1024];
        let read = rustix::io::read(&file, &mut buffer)?;
        let text = std::str::from_utf8(&buffer[..read]).map_err(|_| odd())?;
        // The name of the program, field 2, may contain anything, blanks and brackets too.
        let (_, rest) = text.rsplit_once(')').ok_or_else(odd)?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // As proc(5) counts them, from 1; the first here is number 3.
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok()).ok_or_else(odd);
        Ok(Self {
            threads: field(20)?,
            code: [field(26)?, field(27)?],
            stack: field(28)?,
            data: [field(45)?, field(46)?],
            heap: field(47)?,
            args: [field(48)?, field(49)?],
            env: [field(50)?, field(51)?],
        })
    }

    fn set_executable(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: asks for the end of the heap without moving it.
        let end_of_heap = unsafe { libc::sbrk(0) };
        let map = Map {
            code: self.code,
            data: self.data,
            start_brk: self.heap,
            brk: end_of_heap.addr() as u64,
            start_stack: self.stack,
            args: self.args,
            env: self.env,
            auxv: std::ptr::null(),
            auxv_size: 0,
            exe_fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        };
        // SAFETY: a live structure of the size that is told; every value but the executable is what holds already.
        check(unsafe {
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<Map>(), 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_forbid_it() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receiver.recv());
        let file = std::fs::File::open("/proc/self/exe").expect("own executable");
        let error = adopt(std::os::fd::AsFd::as_fd(&file)).expect_err("two threads");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        drop(sender);
        let _ = other.join();
    }

    #[test]
    fn what_the_kernel_says_of_this_process_is_read() {
        let stat = Stat::read().expect("own stat");
        assert!(stat.threads >= 1 && stat.code[0] < stat.code[1] && stat.stack != 0);
        assert!(headers().iter().any(|h| h.p_type == libc::PT_LOAD) && bias(headers()).is_some());
    }
}
