//! The first instructions: they block all signals, and call the library. A part of the program, not of the library,
//! which would give its `main` to every test.
//!
//! There is no `fn main` of Rust, because the runtime in front of it opens /dev/null for a standard descriptor that is
//! closed and ignores SIGPIPE. The child must see neither.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

use hupwrap::Startup;
use hupwrap::signal::SignalSet;

// For pid 1 a signal is lost that is neither blocked nor handled, and libc needs a while before it calls main.
// Therefore the mask is set before libc begins. `_start` finds the registers and the stack as the kernel, or ld.so,
// left them.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl hupwrap_entry",
    ".type hupwrap_entry, @function",
    "hupwrap_entry:",
    "mov r8, rdx",
    "mov eax, 14",
    "xor edi, edi",
    "lea rsi, [rip + {wanted}]",
    "lea rdx, [rip + {before}]",
    "mov r10d, 8",
    "syscall",
    "mov rdx, r8",
    "jmp _start",
    wanted = sym WANTED,
    before = sym BEFORE,
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".globl hupwrap_entry",
    ".type hupwrap_entry, @function",
    "hupwrap_entry:",
    "mov x9, x0",
    "mov x0, #0",
    "adrp x1, {wanted}",
    "add x1, x1, :lo12:{wanted}",
    "adrp x2, {before}",
    "add x2, x2, :lo12:{before}",
    "mov x3, #8",
    "mov x8, #135",
    "svc #0",
    "mov x0, x9",
    "b _start",
    wanted = sym WANTED,
    before = sym BEFORE,
);

/// The signals that `hupwrap_entry` blocks.
static WANTED: u64 = hupwrap::BLOCKED_AT_STARTUP.bits();
/// The signals that were blocked before.
static mut BEFORE: u64 = 0;

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: hupwrap_entry has written it, once and before this. The compiler does not know that, hence volatile.
    let mask = unsafe { (&raw const BEFORE).read_volatile() };
    // SAFETY: these are what libc hands to main: argc strings, and an environment that ends with a null.
    let startup = unsafe { Startup::new(argc, argv, envp, SignalSet::from_bits(mask)) };
    hupwrap::run(startup)
}
