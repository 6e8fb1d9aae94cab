//! Device rules of cgroup v2: a small eBPF program, compiled from the list and attached to the group.
//!
//! The last matching rule counts, so the program tests them from the last to the first. An access is allowed by a rule only
//! if the rule covers everything that is asked, and denied by a rule if it covers anything of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fluyt_model::error::{Error, Result};
use fluyt_sys::bpf::{self, Insn};

use super::v1::device_kind;
use crate::spec::DeviceRule;

const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

const LDX_W: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const JNE_IMM: u8 = 0x55;
const JEQ_IMM: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers: the context comes in 1; 2 type, 3 access, 4 major, 5 minor, 6 scratch.
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: dst | src << 4, off, imm }
}

/// The program for a list of rules; what no rule matches is denied.
pub(crate) fn compile(rules: &[DeviceRule]) -> Result<Vec<Insn>> {
    let mut out = vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(MOV_REG, 3, 2, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(RSH_IMM, 3, 0, 0, 16),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        block(rule, &mut out)?;
        if device_kind(rule)? == 'a' && covers(rule) == MKNOD | READ | WRITE {
            // Matches everything: nothing after it can be reached, and the verifier refuses dead code.
            return Ok(out);
        }
    }
    out.extend([insn(MOV_IMM, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    Ok(out)
}

fn covers(rule: &DeviceRule) -> i32 {
    if rule.access.is_empty() || device_kind(rule).is_ok_and(|k| k == 'a') {
        return MKNOD | READ | WRITE;
    }
    let bit = |c| match c {
        'r' => READ,
        'w' => WRITE,
        'm' => MKNOD,
        _ => 0,
    };
    rule.access.chars().fold(0, |set, c| set | bit(c))
}

fn block(rule: &DeviceRule, out: &mut Vec<Insn>) -> Result<()> {
    let kind = device_kind(rule)?;
    let access = covers(rule);
    let number = |n: Option<i64>| -> Result<Option<i32>> {
        let in_range = |n: i64| i32::try_from(n).map_err(|_| Error::invalid(format!("device number {n}")));
        n.filter(|n| *n >= 0).map(in_range).transpose()
    };
    // Conditions first without targets; each failing one jumps behind the block.
    let mut body = Vec::new();
    if kind != 'a' {
        body.push(insn(JNE_IMM, 2, 0, 0, if kind == 'b' { BLOCK } else { CHAR }));
    }
    if access != MKNOD | READ | WRITE {
        body.push(insn(MOV_REG, 6, 3, 0, 0));
        if rule.allow {
            // Anything asked beyond what the rule covers: no match.
            body.push(insn(AND_IMM, 6, 0, 0, !access & 7));
            body.push(insn(JNE_IMM, 6, 0, 0, 0));
        } else {
            body.push(insn(AND_IMM, 6, 0, 0, access));
            body.push(insn(JEQ_IMM, 6, 0, 0, 0));
        }
    }
    if kind != 'a' {
        for (register, value) in [(4, number(rule.major)?), (5, number(rule.minor)?)] {
            if let Some(value) = value {
                body.push(insn(JNE_IMM, register, 0, 0, value));
            }
        }
    }
    body.extend([insn(MOV_IMM, 0, 0, 0, i32::from(rule.allow)), insn(EXIT, 0, 0, 0, 0)]);
    let end = body.len();
    for (i, step) in body.iter_mut().enumerate() {
        if step.code == JNE_IMM || step.code == JEQ_IMM {
            step.off = i16::try_from(end - i - 1).map_err(|_| Error::invalid("device rule"))?;
        }
    }
    out.extend(body);
    Ok(())
}

/// Attaches the program and then takes away those that were there, so that no moment is without rules.
pub(crate) fn install(cgroup: &OwnedFd, program: &[Insn]) -> io::Result<()> {
    let earlier = bpf::device_programs(cgroup.as_fd()).unwrap_or_default();
    let new = bpf::load_device_program(program)?;
    bpf::attach_device_program(cgroup.as_fd(), new.as_fd())?;
    for old in earlier {
        bpf::detach_device_program(cgroup.as_fd(), old.as_fd())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a device access; just the instructions that `compile` emits.
    fn run(program: &[Insn], kind: i32, access: i32, major: i32, minor: i32) -> i32 {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0i32; 11];
        let mut pc = 0;
        for _ in 0..10_000 {
            let i = program[pc];
            let (dst, src) = (usize::from(i.regs & 15), usize::from(i.regs >> 4));
            pc += 1;
            match i.code {
                LDX_W => r[dst] = context[usize::try_from(i.off / 4).expect("offset")],
                MOV_IMM => r[dst] = i.imm,
                MOV_REG => r[dst] = r[src],
                AND_IMM => r[dst] &= i.imm,
                RSH_IMM => r[dst] >>= i.imm,
                JNE_IMM | JEQ_IMM => {
                    if (r[dst] != i.imm) == (i.code == JNE_IMM) {
                        pc += usize::try_from(i.off).expect("forward");
                    }
                }
                EXIT => return r[0],
                other => panic!("instruction {other:#x}"),
            }
        }
        panic!("no end")
    }

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: kind.into(), major: Some(major), minor: Some(minor), access: access.into() }
    }

    #[test]
    fn the_last_matching_rule_counts() {
        let rules = [DeviceRule::default(), rule(true, "c", 1, -1, "rw"), rule(false, "c", 1, 5, "w")];
        let p = compile(&rules).expect("compiles");
        assert_eq!(run(&p, CHAR, READ, 1, 3), 1);
        assert_eq!(run(&p, CHAR, READ | WRITE, 1, 3), 1);
        assert_eq!(run(&p, CHAR, MKNOD, 1, 3), 0);
        assert_eq!(run(&p, CHAR, WRITE, 1, 5), 0);
        assert_eq!(run(&p, CHAR, READ, 1, 5), 1);
        assert_eq!(run(&p, BLOCK, READ, 1, 3), 0);
    }

    #[test]
    fn everything_allowed_ends_the_program() {
        let rules = [DeviceRule::default(), DeviceRule { allow: true, ..DeviceRule::default() }];
        let p = compile(&rules).expect("compiles");
        assert_eq!(run(&p, BLOCK, MKNOD, 8, 0), 1);
        assert_eq!(p.last().map(|i| i.code), Some(EXIT));
        assert_eq!(p.len(), 8);
    }
}
