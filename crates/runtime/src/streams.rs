//! Standard streams for a process in another user namespace: its own user must own them, or it could not open
//! `/dev/stdout` again. Only whoever is outside can give them to it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Gid, Uid};

use crate::launch::Io;
use crate::spec::User;

/// Gives the pipes of `io` to `user` of the user namespace in which process `pid` is. Whatever is no pipe is left alone:
/// it belongs to somebody else. What cannot be given stays usable, only not to be opened again.
pub(crate) fn give(io: &Io, pid: i32, user: &User) {
    let Io::Fds { stdin, stdout, stderr } = io else { return };
    let outside = |name: &str, id: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
        translate(&maps, id)
    };
    let (Some(uid), Some(gid)) = (outside("uid_map", user.uid), outside("gid_map", user.gid)) else { return };
    let give = |fd: BorrowedFd<'_>| {
        let pipe = rustix::fs::fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if pipe {
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    };
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().for_each(give);
}

/// The caller's id of `id` by the text of a `uid_map`.
pub(crate) fn translate(maps: &str, id: u32) -> Option<u32> {
    maps.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = id.checked_sub(inside).filter(|o| *o < count)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_by_the_line_that_has_them() {
        let maps = "         0     100000      1000\n      1000       5000         1\n";
        assert_eq!(translate(maps, 0), Some(100_000));
        assert_eq!(translate(maps, 999), Some(100_999));
        assert_eq!(translate(maps, 1000), Some(5000));
        assert_eq!(translate(maps, 1001), None);
    }
}
