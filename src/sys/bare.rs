//! System calls without libc, and what a child does with them before it executes. Nothing in here touches anything of
//! libc's: the child may share hupwrap's memory, errno included.

use std::ffi::c_char;
use std::os::fd::RawFd;

use nix::libc;

/// A system call as the kernel knows it: what it returns is negative on an error, and errno stays untouched.
///
/// # Safety
/// As the call itself.
pub(super) unsafe fn bare(number: libc::c_long, args: [usize; 4]) -> isize {
    let [a, b, c, d] = args;
    let returned: isize;
    // SAFETY: the kernel's calling convention; the caller answers for the call.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "svc #0",
            in("x8") number as isize,
            inlateout("x0") a as isize => returned,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    returned
}

/// The digits of the longest pid, and a NUL.
pub(super) const PID_ROOM: [u8; 11] = [0; 11];

/// Gives descriptors the numbers they are to have after the exec. What stands in the way of one, and is none of them,
/// is closed. Negative on an error.
///
/// # Safety
/// As that of closing those.
pub(super) unsafe fn place_descriptors(fds: &mut [(RawFd, RawFd)], report: &mut RawFd) -> isize {
    let above = fds.iter().fold(0, |above, (_, to)| above.max(to.saturating_add(1)));
    // SAFETY: (all that follow) there are no pointers, and the caller answers for what is closed.
    unsafe {
        // First out of each other's way: what one is to become another may be now. The copies end with the exec.
        for fd in fds.iter_mut().map(|(from, _)| from).chain([report]) {
            let moved = bare(libc::SYS_fcntl, [*fd as usize, libc::F_DUPFD_CLOEXEC as usize, above as usize, 0]);
            if moved < 0 {
                return moved;
            }
            *fd = moved as RawFd;
        }
        for (from, to) in fds {
            let placed = bare(libc::SYS_dup3, [*from as usize, *to as usize, 0, 0]);
            if placed < 0 {
                return placed;
            }
        }
    }
    0
}

/// Writes a number over the NULs that end `text`, without leading zeros, for which `sd_listen_fds(3)` would take it as
/// octal. At least one NUL stays.
pub(super) fn append_number(text: &mut [u8], mut number: isize) {
    let mut digits = PID_ROOM;
    for digit in digits.iter_mut().skip(1) {
        *digit = b'0' | (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let room = text.iter_mut().skip_while(|byte| **byte != 0);
    for (byte, digit) in room.zip(digits.iter().rev().filter(|digit| **digit != 0)) {
        *byte = *digit;
    }
}

/// Whether a shell may be tried: the first line holds no NUL byte (POSIX, `sh`, 2.9.1.1; bash does the same).
///
/// # Safety
/// The path ends with NUL.
pub(super) unsafe fn looks_like_text(path: *const c_char) -> bool {
    let mut start = [0_u8; 128];
    // SAFETY: the path is the caller's promise, the buffer is ours.
    let read = unsafe {
        let at = libc::AT_FDCWD as usize;
        let fd = bare(libc::SYS_openat, [at, path as usize, (libc::O_RDONLY | libc::O_CLOEXEC) as usize, 0]);
        if fd < 0 {
            return false;
        }
        let read = bare(libc::SYS_read, [fd as usize, start.as_mut_ptr() as usize, start.len(), 0]);
        bare(libc::SYS_close, [fd as usize, 0, 0, 0]);
        read
    };
    for byte in start.iter().take(usize::try_from(read).unwrap_or(0)) {
        match byte {
            0 => return false,
            b'\n' => return true,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn numbers() {
        for (number, want) in [(0, "0"), (1, "1"), (10, "10"), (4_194_304, "4194304"), (2_147_483_647, "2147483647")] {
            let mut text = [b"A=", &PID_ROOM[..]].concat();
            append_number(&mut text, number);
            assert_eq!(CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap(), format!("A={want}"));
        }
    }
}
