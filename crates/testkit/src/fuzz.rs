//! Readers of foreign input, given broken input: seeds that are changed at random and tried, again and again.
//!
//! Not guided by coverage: the seeds and words of a target are what leads into its corners. A test does a few thousand
//! rounds; `FLUYT_FUZZ=SECONDS` goes on for so long, with another course for each `FLUYT_FUZZ_SEED`. The same seed
//! always takes the same course. An input that makes the check panic is written below the target directory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rounds of a test that nobody gave a time, for a reader that needs microseconds.
pub const ROUNDS: u64 = 3000;
/// No input grows longer.
const LONGEST: usize = 64 * 1024;
/// A check that takes longer is as bad as one that panics.
const SLOW: Duration = Duration::from_secs(5);

/// One reader and what it is tried with.
pub struct Target<'a> {
    /// What it is called in reports.
    pub name: &'a str,
    /// Good input to start from.
    pub seeds: &'a [&'a [u8]],
    /// Words that mean something to it.
    pub words: &'a [&'a [u8]],
    /// How often it is tried when nobody gives a time: [`ROUNDS`], or fewer where one takes long.
    pub rounds: u64,
}

/// A small generator of numbers: xorshift, the same course on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

impl Target<'_> {
    /// Tries `check` with changed seeds; it must not panic and not take long.
    ///
    /// # Panics
    /// It did.
    pub fn run(&self, check: impl Fn(&[u8])) {
        self.run_mended(|_| {}, check);
    }

    /// As [`Target::run`], with most changed inputs given to `mend` first: it puts right what is made of the rest, such as
    /// checksums, which else are all that a change breaks.
    ///
    /// # Panics
    /// `check` did.
    pub fn run_mended(&self, mend: impl Fn(&mut [u8]), check: impl Fn(&[u8])) {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let seconds = variable("FLUYT_FUZZ");
        let mut numbers =
            Numbers(variable("FLUYT_FUZZ_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let began = Instant::now();
        let over = |rounds: u64| match seconds {
            Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
            None => rounds >= self.rounds,
        };
        let mut rounds = 0;
        for seed in self.seeds {
            self.one(seed, &check);
        }
        while !over(rounds) {
            let mut input = self.changed(&mut numbers);
            if numbers.below(8) != 0 {
                mend(&mut input);
            }
            self.one(&input, &check);
            rounds += 1;
        }
        println!("{}: {rounds} inputs in {:.0?}", self.name, began.elapsed());
    }

    fn one(&self, input: &[u8], check: &impl Fn(&[u8])) {
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| check(input)));
        let slow = began.elapsed() > SLOW;
        if done.is_ok() && !slow {
            return;
        }
        let place = self.kept(input);
        eprintln!(
            "{}: {} at the input in {}",
            self.name,
            if slow { "slow" } else { "a panic" },
            place.display()
        );
        match done {
            Err(panic) => resume_unwind(panic),
            Ok(()) => panic!("{}: one input took {:?}", self.name, began.elapsed()),
        }
    }

    fn kept(&self, input: &[u8]) -> PathBuf {
        let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
        let path = target.join("fuzz").join(format!("{}-{}", self.name, &crate::images::sha256(input)[..12]));
        let _ = std::fs::create_dir_all(target.join("fuzz"));
        let _ = std::fs::write(&path, input);
        path
    }

    fn changed(&self, numbers: &mut Numbers) -> Vec<u8> {
        let mut input = self.seeds[numbers.below(self.seeds.len())].to_vec();
        for _ in 0..=numbers.below(6) {
            self.change(&mut input, numbers);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&self, input: &mut Vec<u8>, numbers: &mut Numbers) {
        let at = numbers.below(input.len() + 1);
        let end = (at + 1 + numbers.below(16)).min(input.len());
        match numbers.below(9) {
            0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            1 if at < input.len() => input[at] = u8::try_from(numbers.below(256)).unwrap_or(0),
            2 if at < end => drop(input.drain(at..end)),
            3 if at < end => {
                let piece = input[at..end].to_vec();
                let to = numbers.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            4 => input.truncate(at),
            5 => {
                let other = self.seeds[numbers.below(self.seeds.len())];
                let from = numbers.below(other.len() + 1);
                let to = (from + numbers.below(200)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let byte = [0, 0xff, 0x7f, b'\n', b'0', b'9', b'/', b'"'][numbers.below(8)];
                input.splice(at..at, std::iter::repeat_n(byte, 1 + numbers.below(40)));
            }
            _ if !self.words.is_empty() => {
                let word = self.words[numbers.below(self.words.len())];
                // In addition, instead of something, or in place: what follows stays where it was.
                let over = [at, end.max(at), (at + word.len()).min(input.len())][numbers.below(3)];
                input.splice(at..over, word.iter().copied());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_course_is_the_same_each_time_and_finds_what_breaks() {
        let target = Target { name: "testkit", seeds: &[b"good input"], words: &[b"BAD"], rounds: ROUNDS };
        let course = || {
            let seen = RefCell::new(Vec::new());
            target.run(|input| seen.borrow_mut().push(input.to_vec()));
            seen.into_inner()
        };
        let first = course();
        assert!(first.len() > 1000 && first.iter().any(|input| input.windows(3).any(|w| w == b"BAD")));
        assert_eq!(first, course());
        let broken = catch_unwind(|| target.run(|input| assert!(!input.windows(3).any(|w| w == b"BAD"))));
        assert!(broken.is_err());
    }
}
