//! What a file is that is to be executed.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, access};

/// A path of a child's, as it is to be looked at from hupwrap's working directory.
pub(super) fn from_here<'a>(file: &'a CStr, workdir: Option<&CStr>) -> Cow<'a, CStr> {
    let Some(workdir) = workdir.filter(|_| !file.to_bytes().starts_with(b"/")) else { return file.into() };
    CString::new([workdir.to_bytes(), b"/", file.to_bytes()].concat()).map_or(file.into(), Cow::Owned)
}

pub(super) fn is_executable(file: &CStr) -> nix::Result<()> {
    match stat(file)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => access(file, AccessFlags::X_OK),
        libc::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EACCES),
    }
}

/// What a script's first line names.
pub(super) fn interpreter(file: &CStr) -> Option<CString> {
    let mut start = Vec::new();
    File::open(OsStr::from_bytes(file.to_bytes())).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let path = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    CString::new(path).ok()
}
