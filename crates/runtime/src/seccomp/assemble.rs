//! From ranges of outcomes to classic BPF instructions.

use fluyt_sys::seccomp::Insn;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const X32_BIT: u32 = 0x4000_0000;

/// A comparison of one 64-bit argument with the value of its [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    /// After masking.
    MaskedEqual(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u8,
    pub(super) compare: Compare,
    pub(super) value: u64,
}

/// All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) outcome: u32,
}

/// What happens to the calls of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Return(u32),
    /// The first rule that holds, else the last word.
    Rules(Vec<Rule>, u32),
}

/// Calls from `start` to the start of the next range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) body: Body,
}

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

/// An architecture with the ranges of its calls and, if they are allowed, of its x32 calls.
pub(super) type Section = (u32, Vec<Range>, Option<Vec<Range>>);

/// The whole program.
pub(super) fn program(sections: &[Section], foreign: u32) -> Vec<Insn> {
    let mut out = vec![insn(LOAD, 0, 0, ARCH)];
    for (arch, ranges, x32) in sections {
        let mut body = vec![insn(LOAD, 0, 0, NUMBER)];
        if has_x32(*arch) {
            let low = search(ranges);
            match x32 {
                Some(high) => {
                    branch(&mut body, JUMP_GE, X32_BIT, &low);
                    body.extend(search(high));
                }
                None => {
                    body.push(insn(JUMP_GE, 0, 1, X32_BIT));
                    body.push(insn(RETURN, 0, 0, foreign));
                    body.extend(low);
                }
            }
        } else {
            body.extend(search(ranges));
        }
        // Not this architecture: over the body.
        out.push(insn(JUMP_EQ, 1, 0, *arch));
        out.push(insn(JUMP, 0, 0, length(&body)));
        out.extend(body);
    }
    out.push(insn(RETURN, 0, 0, foreign));
    out
}

fn has_x32(arch: u32) -> bool {
    arch == 0xc000_003e
}

fn length(code: &[Insn]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

/// `if A op k` skip `no` (which ends in returns), else run it.
fn branch(out: &mut Vec<Insn>, code: u16, k: u32, no: &[Insn]) {
    match u8::try_from(no.len()) {
        Ok(short) => out.push(insn(code, short, 0, k)),
        Err(_) => {
            out.push(insn(code, 0, 1, k));
            out.push(insn(JUMP, 0, 0, length(no)));
        }
    }
    out.extend_from_slice(no);
}

/// Binary search for the range of the call in the accumulator.
fn search(ranges: &[Range]) -> Vec<Insn> {
    match ranges {
        [] => Vec::new(),
        [one] => leaf(&one.body),
        _ => {
            let middle = ranges.len() / 2;
            let mut out = Vec::new();
            branch(&mut out, JUMP_GE, ranges[middle].start, &search(&ranges[..middle]));
            out.extend(search(&ranges[middle..]));
            out
        }
    }
}

fn leaf(body: &Body) -> Vec<Insn> {
    match body {
        Body::Return(outcome) => vec![insn(RETURN, 0, 0, *outcome)],
        Body::Rules(rules, last) => {
            let mut out = Vec::new();
            for rule in rules {
                out.extend(one_rule(rule));
            }
            out.push(insn(RETURN, 0, 0, *last));
            out
        }
    }
}

/// Where a jump of a condition leads, before distances are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// The condition holds: behind it.
    Holds,
    /// The rule does not apply: behind it.
    Fails,
}

fn one_rule(rule: &Rule) -> Vec<Insn> {
    let mut steps: Vec<(Insn, To, To)> = Vec::new();
    let mut ends = Vec::new();
    for condition in &rule.conditions {
        compare(condition, &mut steps);
        ends.resize(steps.len(), steps.len());
    }
    steps.push((insn(RETURN, 0, 0, rule.outcome), To::Next, To::Next));
    ends.push(steps.len());
    let all = steps.len();
    let resolve = |i: usize, to: To| {
        let target = match to {
            To::Next => i + 1,
            To::Holds => ends[i],
            To::Fails => all,
        };
        // At most six conditions of six instructions: always within a byte.
        u8::try_from(target - i - 1).unwrap_or(u8::MAX)
    };
    steps
        .iter()
        .enumerate()
        .map(|(i, (s, t, f))| Insn { jt: resolve(i, *t), jf: resolve(i, *f), ..*s })
        .collect()
}

fn compare(c: &Condition, out: &mut Vec<(Insn, To, To)>) {
    use To::{Fails, Holds, Next};
    let (low, high) = (ARGS + 8 * u32::from(c.index), ARGS + 8 * u32::from(c.index) + 4);
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit value")]
    let (value_low, value_high) = (c.value as u32, (c.value >> 32) as u32);
    let mut step = |code, k, t, f| out.push((insn(code, 0, 0, k), t, f));
    step(LOAD, high, Next, Next);
    match c.compare {
        Compare::MaskedEqual(mask) => {
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit mask")]
            let (mask_low, mask_high) = (mask as u32, (mask >> 32) as u32);
            if mask_high != u32::MAX {
                step(AND, mask_high, Next, Next);
            }
            step(JUMP_EQ, value_high, Next, Fails);
            step(LOAD, low, Next, Next);
            if mask_low != u32::MAX {
                step(AND, mask_low, Next, Next);
            }
            step(JUMP_EQ, value_low, Holds, Fails);
        }
        Compare::NotEqual => {
            step(JUMP_EQ, value_high, Next, Holds);
            step(LOAD, low, Next, Next);
            step(JUMP_EQ, value_low, Fails, Holds);
        }
        Compare::Greater | Compare::GreaterOrEqual => {
            step(JUMP_GT, value_high, Holds, Next);
            step(JUMP_EQ, value_high, Next, Fails);
            step(LOAD, low, Next, Next);
            let code = if c.compare == Compare::Greater { JUMP_GT } else { JUMP_GE };
            step(code, value_low, Holds, Fails);
        }
        Compare::Less | Compare::LessOrEqual => {
            step(JUMP_GT, value_high, Fails, Next);
            step(JUMP_EQ, value_high, Next, Holds);
            step(LOAD, low, Next, Next);
            let code = if c.compare == Compare::Less { JUMP_GE } else { JUMP_GT };
            step(code, value_low, Fails, Holds);
        }
    }
}
