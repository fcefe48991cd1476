//! Names that nobody can guess.

use std::fmt::Write as _;

use nix::errno::Errno;
use nix::libc;

/// This many random bytes, in hexadecimal.
///
/// # Errors
/// Those of `getrandom(2)`.
pub(super) fn random<const LENGTH: usize>() -> nix::Result<String> {
    let mut bytes = [0_u8; LENGTH];
    // SAFETY: the buffer is ours, and as long as is said. So few bytes come whole (getrandom(2)).
    Errno::result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), LENGTH, 0) })?;
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
