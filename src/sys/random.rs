//! Names that nobody can guess.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::libc;

use crate::sys::errno;

/// This many random bytes, in hexadecimal. It never waits: before the kernel has collected enough randomness, in the
/// first moments of a boot, it takes what /dev/urandom makes of that. It does the same if a sandbox refuses
/// getrandom(2).
///
/// # Errors
/// Those of `open(2)` and `read(2)`.
pub(super) fn random<const LENGTH: usize>() -> nix::Result<String> {
    let mut bytes = [0_u8; LENGTH];
    // SAFETY: the buffer is ours, and as long as is said. So few bytes come whole (getrandom(2)).
    let filled = Errno::result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), LENGTH, libc::GRND_NONBLOCK) });
    if filled.is_err() {
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).map_err(errno)?;
    }
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
