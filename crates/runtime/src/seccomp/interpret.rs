//! An interpreter of the instructions that the assembler emits, for tests: what the kernel would decide.

use fluyt_sys::seccomp::Insn;

pub(super) fn run(program: &[Insn], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        0 => number,
        4 => arch,
        o => {
            let arg = args[usize::try_from((o - 16) / 8).expect("offset")];
            if o % 8 == 0 { arg as u32 } else { (arg >> 32) as u32 }
        }
    };
    let (mut a, mut pc) = (0u32, 0usize);
    for _ in 0..10_000 {
        let i = program[pc];
        pc += 1;
        let taken = match i.code {
            0x20 => {
                a = load(i.k);
                continue;
            }
            0x54 => {
                a &= i.k;
                continue;
            }
            0x05 => {
                pc += usize::try_from(i.k).expect("jump");
                continue;
            }
            0x06 => return i.k,
            0x15 => a == i.k,
            0x25 => a > i.k,
            0x35 => a >= i.k,
            other => panic!("instruction {other:#x}"),
        };
        pc += usize::from(if taken { i.jt } else { i.jf });
    }
    panic!("no end")
}
