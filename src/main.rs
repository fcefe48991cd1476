//! The program: blocks all signals with its first instruction, and calls the library.
//!
//! There is no `fn main` of Rust, because the runtime in front of it opens /dev/null for a standard descriptor that is
//! closed and ignores SIGPIPE; the child must see neither.

#![no_main]
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

// As pid 1 a signal that is neither blocked nor handled is lost, and libc needs a while before it calls main: so the
// mask is set before libc begins. `_start` finds the registers and the stack as the kernel, or ld.so, left them.
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

/// What `hupwrap_entry` blocks.
static WANTED: u64 = hupwrap::BLOCKED_AT_STARTUP.bits();
/// What was blocked before.
static mut BEFORE: u64 = 0;

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: written once, before this, by hupwrap_entry; there is one thread.
    let mask = unsafe { BEFORE };
    // SAFETY: these are what libc hands to main: argc strings, and an environment that ends with a null.
    unsafe { hupwrap::run(argc, argv, envp, mask) }
}
