//! System call filters: compiled here to classic BPF, without libseccomp.
//!
//! The program first looks at the architecture, then finds the call's number by binary search over ranges of equal
//! outcome, then, where a rule has conditions, compares arguments. So a call costs some ten instructions whatever the
//! size of the profile, and compiling costs microseconds.

mod assemble;
#[cfg(test)]
mod interpret;
pub(crate) mod notify;
mod table;

use std::io;
use std::os::fd::OwnedFd;

use assemble::{Body, Compare, Condition, Range, Rule, Section};
use fluyt_model::error::{Error, Result};
use fluyt_sys::seccomp as kernel;
use fluyt_sys::seccomp::Insn;

use crate::spec::{Seccomp, SyscallArg, SyscallRule};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const ACTION_MASK: u32 = 0xffff_0000;

/// `AUDIT_ARCH_*` of the columns of the table; x32 shares the first.
#[cfg(target_arch = "aarch64")]
const AUDIT: [u32; 2] = [0xc000_00b7, 0x4000_0028];
#[cfg(not(target_arch = "aarch64"))]
const AUDIT: [u32; 2] = [0xc000_003e, 0x4000_0003];

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    program: Vec<Insn>,
    flags: u64,
}

impl Filter {
    /// Compiles a filter; call names that this build does not know are left out, as the specification asks.
    pub(crate) fn compile(seccomp: &Seccomp) -> Result<Self> {
        let columns = columns(&seccomp.architectures)?;
        let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
        if default & ACTION_MASK == NOTIFY {
            return Err(Error::invalid("seccomp: SCMP_ACT_NOTIFY cannot be used as default action"));
        }
        let mut calls = Calls::default();
        let mut notifies = false;
        for (order, rule) in seccomp.syscalls.iter().enumerate() {
            let outcome = action(&rule.action, rule.errno_ret)?;
            notifies |= outcome & ACTION_MASK == NOTIFY;
            if outcome & ACTION_MASK == NOTIFY && rule.names.iter().any(|n| n == "write") {
                return Err(Error::invalid("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall"));
            }
            calls.add(rule, order, outcome, default)?;
        }
        if notifies && seccomp.listener_path.is_empty() {
            return Err(Error::invalid("seccomp: SCMP_ACT_NOTIFY needs listenerPath"));
        }
        let sections: Vec<Section> = section_list(&columns, &calls, default);
        let program = assemble::program(&sections, KILL_THREAD);
        if program.len() > 4096 {
            return Err(Error::invalid(format!(
                "seccomp: the filter has {} instructions, 4096 is the limit",
                program.len()
            )));
        }
        Ok(Self { program, flags: flags(seccomp.flags.as_deref(), notifies)? })
    }

    /// As one message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 8 * self.program.len());
        bytes.extend(self.flags.to_ne_bytes());
        for i in &self.program {
            bytes.extend(i.code.to_ne_bytes());
            bytes.extend([i.jt, i.jf]);
            bytes.extend(i.k.to_ne_bytes());
        }
        bytes
    }

    /// From [`Filter::encode`]'s bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk::<8>()?;
        let program = rest.as_chunks::<8>();
        let insn = |b: &[u8; 8]| Insn {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        };
        let whole = program.1.is_empty();
        whole.then(|| Self {
            flags: u64::from_ne_bytes(*flags),
            program: program.0.iter().map(insn).collect(),
        })
    }

    /// Loads it on the calling task.
    pub(crate) fn load(&self) -> io::Result<Option<OwnedFd>> {
        kernel::load(&self.program, self.flags)
    }
}

fn section_list(columns: &[bool; 3], calls: &Calls, default: u32) -> Vec<Section> {
    let mut list = Vec::new();
    for (i, audit) in AUDIT.iter().enumerate() {
        if columns[i] {
            let x32 = (i == 0 && columns[2]).then(|| calls.ranges(2, default));
            list.push((*audit, calls.ranges(i, default), x32));
        }
    }
    list
}

/// Which columns of the table count. The native one always does, and those of other processors never.
fn columns(names: &[String]) -> Result<[bool; 3]> {
    const KNOWN: [&str; 22] = [
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_MIPS",
        "SCMP_ARCH_MIPS64",
        "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",
        "SCMP_ARCH_MIPSEL64",
        "SCMP_ARCH_MIPSEL64N32",
        "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_S390",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_PARISC",
        "SCMP_ARCH_PARISC64",
        "SCMP_ARCH_RISCV64",
        "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",
        "SCMP_ARCH_SH",
    ];
    if let Some(unknown) = names.iter().find(|n| !KNOWN.contains(&n.as_str())) {
        return Err(Error::invalid(format!("seccomp: unknown architecture {unknown:?}")));
    }
    let has = |name: &str| names.iter().any(|n| n == name);
    Ok(if cfg!(target_arch = "aarch64") {
        [true, has("SCMP_ARCH_ARM"), false]
    } else {
        [true, has("SCMP_ARCH_X86"), has("SCMP_ARCH_X32")]
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let with = |base: u32| base | (errno.unwrap_or(EPERM) & 0xffff);
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" => with(ERRNO),
        "SCMP_ACT_TRACE" => with(TRACE),
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        other => return Err(Error::invalid(format!("seccomp: unknown action {other:?}"))),
    })
}

/// The flags that the kernel gets; synchronising threads means nothing to a single one.
pub(crate) fn configured_flags(seccomp: &Seccomp) -> Result<u64> {
    let notify = |action: &String| action == "SCMP_ACT_NOTIFY";
    let notifies = notify(&seccomp.default_action) || seccomp.syscalls.iter().any(|s| notify(&s.action));
    Ok(flags(seccomp.flags.as_deref(), notifies)? & !kernel::FLAG_TSYNC)
}

fn flags(names: Option<&[String]>, notifies: bool) -> Result<u64> {
    let mut flags = if names.is_none() { kernel::FLAG_SPEC_ALLOW } else { 0 };
    for name in names.unwrap_or_default() {
        flags |= match name.as_str() {
            // One thread loads the filter before any other exists; a listener excludes the flag.
            "SECCOMP_FILTER_FLAG_TSYNC" if notifies => 0,
            "SECCOMP_FILTER_FLAG_TSYNC" => kernel::FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => kernel::FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => kernel::FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => kernel::FLAG_WAIT_KILLABLE_RECV,
            other => return Err(Error::invalid(format!("seccomp: unknown flag {other:?}"))),
        };
    }
    Ok(flags | if notifies { kernel::FLAG_NEW_LISTENER } else { 0 })
}

/// Rules by call, before numbers are laid out.
#[derive(Default)]
struct Calls {
    /// Column, number, position in the list, rule; each column is sorted when it is laid out.
    columns: [Vec<(u32, usize, usize)>; 3],
    rules: Vec<(Vec<Condition>, u32)>,
    /// The highest number in each column that the profile names at all.
    highest: [u32; 3],
}

impl Calls {
    fn add(&mut self, rule: &SyscallRule, order: usize, outcome: u32, default: u32) -> Result<()> {
        let alternatives = conditions(&rule.args)?;
        let first = self.rules.len();
        self.rules.extend(alternatives.into_iter().map(|c| (c, outcome)));
        let redundant = outcome == default && rule.args.is_empty();
        for name in &rule.names {
            let Some(numbers) = table::numbers(name) else { continue };
            for (column, number) in numbers.iter().enumerate().filter(|(_, n)| **n != table::NONE) {
                self.highest[column] = self.highest[column].max(*number);
                // Said again what holds anyway, unless an earlier rule says otherwise.
                if redundant && !self.columns[column].iter().any(|(n, ..)| n == number) {
                    continue;
                }
                for id in first..self.rules.len() {
                    self.columns[column].push((*number, order, id));
                }
            }
        }
        Ok(())
    }

    /// Ranges of equal outcome that cover all numbers of a column.
    fn ranges(&self, column: usize, default: u32) -> Vec<Range> {
        let mut list = self.columns[column].clone();
        list.sort_unstable();
        let mut out: Vec<Range> = Vec::new();
        let start = if column == 2 { 0x4000_0000 } else { 0 };
        let mut next = start;
        for group in list.chunk_by(|a, b| a.0 == b.0) {
            let number = group[0].0;
            if number > next {
                push(&mut out, next, Body::Return(default));
            }
            push(&mut out, number, self.body(group, default));
            next = number + 1;
        }
        let newest = self.highest[column].max(start);
        // A program that tries a call newer than the profile shall fall back as on an older kernel.
        let beyond = if default & ACTION_MASK == ERRNO { ERRNO | ENOSYS } else { default };
        if next <= newest {
            push(&mut out, next, Body::Return(default));
            next = newest + 1;
        }
        push(&mut out, next, Body::Return(beyond));
        out
    }

    fn body(&self, group: &[(u32, usize, usize)], default: u32) -> Body {
        let mut rules = Vec::new();
        let mut last = default;
        for (_, _, id) in group {
            let (conditions, outcome) = &self.rules[*id];
            if conditions.is_empty() {
                last = *outcome;
                break;
            }
            rules.push(Rule { conditions: conditions.clone(), outcome: *outcome });
        }
        if rules.is_empty() { Body::Return(last) } else { Body::Rules(rules, last) }
    }
}

fn push(out: &mut Vec<Range>, start: u32, body: Body) {
    if out.last().is_none_or(|l| l.body != body) {
        out.push(Range { start, body });
    }
}

/// The conditions of a rule: one list of which all must hold, or, if an argument occurs twice, one list for each.
fn conditions(args: &[SyscallArg]) -> Result<Vec<Vec<Condition>>> {
    let mut all = Vec::with_capacity(args.len());
    for a in args {
        let index = u8::try_from(a.index).ok().filter(|i| *i < 6);
        let index = index
            .ok_or_else(|| Error::invalid(format!("seccomp: argument index {} is not 0 to 5", a.index)))?;
        let (compare, value) = match a.op.as_str() {
            "SCMP_CMP_NE" => (Compare::NotEqual, a.value),
            "SCMP_CMP_LT" => (Compare::Less, a.value),
            "SCMP_CMP_LE" => (Compare::LessOrEqual, a.value),
            "SCMP_CMP_EQ" => (Compare::MaskedEqual(u64::MAX), a.value),
            "SCMP_CMP_GE" => (Compare::GreaterOrEqual, a.value),
            "SCMP_CMP_GT" => (Compare::Greater, a.value),
            "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEqual(a.value), a.value_two),
            other => return Err(Error::invalid(format!("seccomp: unknown operator {other:?}"))),
        };
        all.push(Condition { index, compare, value });
    }
    let repeated = (0..6).any(|i| all.iter().filter(|c| c.index == i).count() > 1);
    Ok(if repeated { all.into_iter().map(|c| vec![c]).collect() } else { vec![all] })
}

#[cfg(test)]
mod tests {
    use super::interpret::run;
    use super::*;

    fn compile(text: &str) -> Filter {
        Filter::compile(&serde_json::from_str(text).expect("json")).expect("compiles")
    }

    #[cfg(target_arch = "x86_64")]
    const NATIVE: u32 = AUDIT[0];

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_outcomes_and_architectures() {
        let f = compile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
                {"names":["read","write","exit","nonsense","mount"],"action":"SCMP_ACT_ALLOW"},
                {"names":["getcwd"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
                {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
        );
        let r = |arch, nr| run(&f.program, arch, nr, [0; 6]);
        assert_eq!([r(NATIVE, 0), r(NATIVE, 1), r(NATIVE, 60)], [ALLOW; 3]);
        assert_eq!((r(NATIVE, 79), r(NATIVE, 62), r(NATIVE, 2)), (ERRNO | 5, KILL_PROCESS, ERRNO | EPERM));
        assert_eq!(r(NATIVE, 164), ERRNO | EPERM, "within the profile's age");
        assert_eq!(r(NATIVE, 430), ERRNO | ENOSYS, "newer than the profile");
        assert_eq!((r(AUDIT[1], 3), r(AUDIT[1], 0)), (ALLOW, ERRNO | EPERM));
        assert_eq!(r(0xc000_00b7, 0), KILL_THREAD, "another processor");
        assert_eq!(r(NATIVE, 0x4000_0000), KILL_THREAD, "x32 is not listed");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_comparison_on_both_halves() {
        let big = 0x1_0000_0005u64;
        for (op, value, two, yes, no) in [
            ("SCMP_CMP_EQ", big, 0, vec![big], vec![5, 0x1_0000_0000, 0x2_0000_0005]),
            ("SCMP_CMP_NE", big, 0, vec![5, 0x1_0000_0004], vec![big]),
            ("SCMP_CMP_LT", big, 0, vec![0, 0xffff_ffff, 0x1_0000_0004], vec![big, big + 1, 0x2_0000_0000]),
            ("SCMP_CMP_LE", big, 0, vec![0, 0xffff_ffff, big], vec![big + 1, 0x2_0000_0000]),
            ("SCMP_CMP_GT", big, 0, vec![big + 1, 0x2_0000_0000], vec![0, 0xffff_ffff, big]),
            ("SCMP_CMP_GE", big, 0, vec![big, 0x2_0000_0000], vec![0, 0xffff_ffff, big - 1]),
            ("SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0, vec![0, 0x11, 1 << 40], vec![0x2_0000, 0x7e02_0000]),
        ] {
            let f = compile(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["clone"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":2,"value":{value},"valueTwo":{two},"op":"{op}"}}]}}]}}"#
            ));
            for (values, want) in [(yes, ALLOW), (no, ERRNO | EPERM)] {
                for v in values {
                    assert_eq!(run(&f.program, NATIVE, 56, [9, 9, v, 9, 9, 9]), want, "{op} {v:#x}");
                }
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn conditions_join_and_alternatives_part() {
        let f = compile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[
                    {"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
                {"names":["personality"],"action":"SCMP_ACT_TRAP","args":[
                    {"index":0,"value":8,"op":"SCMP_CMP_EQ"},{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
                {"names":["personality"],"action":"SCMP_ACT_LOG"}]}"#,
        );
        let r = |nr, args| run(&f.program, NATIVE, nr, args);
        assert_eq!((r(41, [16, 0, 9, 0, 0, 0]), r(41, [16, 0, 8, 0, 0, 0])), (ERRNO | 22, ALLOW));
        assert_eq!((r(135, [8, 0, 0, 0, 0, 0]), r(135, [9, 0, 0, 0, 0, 0])), (TRAP, TRAP));
        assert_eq!((r(135, [7, 0, 0, 0, 0, 0]), r(500, [0; 6])), (LOG, ALLOW));
    }

    #[test]
    fn every_call_of_a_big_profile_is_found() {
        let names: Vec<&str> =
            ["read", "write", "openat", "mmap", "futex", "ioctl", "execve", "statx", "clone3"].into();
        let mut s = Seccomp { default_action: "SCMP_ACT_ERRNO".into(), ..Seccomp::default() };
        s.architectures = vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()];
        s.syscalls = names
            .iter()
            .map(|n| SyscallRule {
                names: vec![(*n).into()],
                action: "SCMP_ACT_ALLOW".into(),
                ..SyscallRule::default()
            })
            .collect();
        let f = Filter::compile(&s).expect("compiles");
        for name in names {
            let numbers = table::numbers(name).expect("known");
            assert_eq!(run(&f.program, AUDIT[0], numbers[0], [0; 6]), ALLOW, "{name}");
            if numbers[1] != table::NONE {
                assert_eq!(run(&f.program, AUDIT[1], numbers[1], [0; 6]), ALLOW, "{name}");
            }
        }
        assert_eq!(run(&f.program, AUDIT[0], 101, [0; 6]), ERRNO | EPERM);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            (r#"{"defaultAction":"SCMP_ACT_X"}"#, "SCMP_ACT_X"),
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "default"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["Z80"]}"#, "Z80"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#,
                "listenerPath",
            ),
        ] {
            let e = Filter::compile(&serde_json::from_str(text).expect("json")).expect_err("a mistake");
            assert!(e.chain().contains(word), "{}", e.chain());
        }
    }
}
