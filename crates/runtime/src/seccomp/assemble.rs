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
    let mut code = Backwards::default();
    let mut otherwise = code.outcome(foreign);
    for (arch, ranges, x32) in sections.iter().rev() {
        let high = x32.as_ref().map(|ranges| code.search(ranges));
        let low = code.search(ranges);
        if has_x32(*arch) {
            let high = high.unwrap_or_else(|| code.outcome(foreign));
            code.branch(JUMP_GE, X32_BIT, high, low);
        } else {
            code.fall_into(low);
        }
        code.push(insn(LOAD, 0, 0, NUMBER));
        // Not this architecture: over the body.
        code.jump(otherwise);
        otherwise = code.push(insn(JUMP_EQ, 1, 0, *arch));
    }
    code.push(insn(LOAD, 0, 0, ARCH));
    code.finish()
}

fn has_x32(arch: u32) -> bool {
    arch == 0xc000_003e
}

/// Code that is written from its end to its start. Jumps lead forward only, so every target is there before the jump to
/// it, and outcomes can be shared: the fewer instructions, the sooner the kernel has translated and tried them all.
#[derive(Default)]
struct Backwards {
    /// The last instruction first.
    code: Vec<Insn>,
    /// Where each outcome was written last.
    outcomes: Vec<(u32, usize)>,
}

impl Backwards {
    /// Puts an instruction before all others; its place.
    fn push(&mut self, i: Insn) -> usize {
        self.code.push(i);
        self.code.len() - 1
    }

    fn finish(mut self) -> Vec<Insn> {
        self.code.reverse();
        self.code
    }

    /// How many instructions an instruction written now would jump over to reach `target`.
    fn distance(&self, target: usize) -> usize {
        self.code.len() - 1 - target
    }

    /// A place that returns `outcome`.
    fn outcome(&mut self, outcome: u32) -> usize {
        match self.outcomes.iter().find(|(o, _)| *o == outcome) {
            Some((_, place)) => *place,
            None => self.new_outcome(outcome),
        }
    }

    fn new_outcome(&mut self, outcome: u32) -> usize {
        let place = self.push(insn(RETURN, 0, 0, outcome));
        self.outcomes.retain(|(o, _)| *o != outcome);
        self.outcomes.push((outcome, place));
        place
    }

    /// An unconditional jump; a return is written again instead.
    fn jump(&mut self, target: usize) -> usize {
        let there = self.code[target];
        if there.code == RETURN {
            return self.new_outcome(there.k);
        }
        let over = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        self.push(insn(JUMP, 0, 0, over))
    }

    /// Makes sure that whatever is written next runs on into `target`.
    fn fall_into(&mut self, target: usize) {
        if self.distance(target) > 0 {
            self.jump(target);
        }
    }

    /// `if A op k` go to `yes`, else to `no`; its place.
    fn branch(&mut self, code: u16, k: u32, mut yes: usize, mut no: usize) -> usize {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => return self.push(insn(code, jt, jf, k)),
                (Err(_), _) => yes = self.jump(yes),
                (_, Err(_)) => no = self.jump(no),
            }
        }
    }

    /// Binary search for the range of the call in the accumulator; where it starts.
    fn search(&mut self, ranges: &[Range]) -> usize {
        match ranges {
            // No caller has none: the ranges cover all numbers.
            [] => self.code.len().saturating_sub(1),
            [Range { body: Body::Return(outcome), .. }] => self.outcome(*outcome),
            [Range { body: Body::Rules(rules, last), .. }] => {
                let mut code: Vec<Insn> = rules.iter().flat_map(one_rule).collect();
                code.push(insn(RETURN, 0, 0, *last));
                self.code.extend(code.into_iter().rev());
                self.code.len() - 1
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let start = high[0].start;
                let (high, low) = (self.search(high), self.search(low));
                self.branch(JUMP_GE, start, high, low)
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::interpret::run;

    /// So many ranges, rules and outcomes that no jump of eight bits reaches across them.
    fn ranges(from: u32, count: u32) -> Vec<Range> {
        let outcome = |i: u32| 0x0005_0000 | (i * 7 % 13);
        let body = |i: u32| match i % 5 {
            0 => {
                let compare = Compare::MaskedEqual(u64::MAX);
                let condition = Condition { index: 1, compare, value: u64::from(i) };
                Body::Rules(vec![Rule { conditions: vec![condition], outcome: 0x7fff_0000 }], outcome(i))
            }
            _ => Body::Return(outcome(i)),
        };
        (0..count).map(|i| Range { start: from + if i == 0 { 0 } else { 3 * i }, body: body(i) }).collect()
    }

    fn expected(ranges: &[Range], number: u32, argument: u64) -> u32 {
        match &ranges.iter().rfind(|r| r.start <= number).expect("covered").body {
            Body::Return(outcome) => *outcome,
            Body::Rules(rules, last) => {
                if rules[0].conditions[0].value == argument {
                    rules[0].outcome
                } else {
                    *last
                }
            }
        }
    }

    #[test]
    fn long_ways_lead_to_the_right_outcome() {
        const NATIVE: u32 = 0xc000_003e;
        for count in [1, 2, 3, 60, 400] {
            let (low, high) = (ranges(0, count), ranges(X32_BIT, count));
            let other = ranges(0, count / 2 + 1);
            let sections = [(NATIVE, low.clone(), Some(high.clone())), (7, other.clone(), None)];
            let program = program(&sections, 99);
            for number in 0..3 * count + 3 {
                for argument in [0, u64::from(number / 3)] {
                    let args = [0, argument, 0, 0, 0, 0];
                    let all =
                        [(NATIVE, &low, number), (NATIVE, &high, X32_BIT + number), (7, &other, number)];
                    for (arch, ranges, number) in all {
                        let want = expected(ranges, number, argument);
                        assert_eq!(
                            run(&program, arch, number, args),
                            want,
                            "{arch:#x} {number:#x} of {count}"
                        );
                    }
                }
            }
            assert_eq!(run(&program, 8, 0, [0; 6]), 99, "a foreign architecture");
            let without = super::program(&[(NATIVE, low, None)], 99);
            assert_eq!(run(&without, NATIVE, X32_BIT, [0; 6]), 99, "x32 is not listed");
        }
    }
}
