//! The pidfile that the child writes, or a daemon that it has started.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::Pid;
use crate::sys::trust::{open_regular, why};
use crate::text::main_process::Written;

/// More than is read of any such file, in bytes.
const LONGEST: u64 = 64;

/// When a file was written, if there is one.
pub(crate) fn written(path: &OsStr) -> Option<Written> {
    fs::metadata(path).ok().map(|seen| when(&seen))
}

fn when(seen: &Metadata) -> Written {
    Written { inode: seen.ino(), seconds: seen.mtime(), nanoseconds: seen.mtime_nsec() }
}

/// Reads the pid in the first line of a file, and when that was written. None if there is no such file, or nothing in
/// it yet.
///
/// # Errors
/// Says what is wrong with the file.
pub(crate) fn read(path: &OsStr) -> Result<Option<(Pid, Written)>, String> {
    let file = match open_regular(Path::new(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(why)?.ok_or("it is not a regular file")?,
    };
    let written = when(&file.metadata().map_err(why)?);
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(why)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let digits = std::str::from_utf8(line).ok().filter(|_| line.iter().all(u8::is_ascii_digit));
    let pid = digits.and_then(|digits| digits.parse().ok()).filter(|pid| *pid > 0);
    pid.map(|pid| Some((pid, written))).ok_or_else(|| "it holds no pid".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_line_is_a_pid() {
        let path = std::env::temp_dir().join(format!("hupwrap-child-pidfile-{}", std::process::id()));
        let no_pid = || Err("it holds no pid".to_owned());
        for (text, found) in [
            (&b"4711\n"[..], Ok(Some(4711))),
            (b"4711", Ok(Some(4711))),
            (b" 4711 \r\n", Ok(Some(4711))),
            (b"4711\n/var/lib/db\n5432\n", Ok(Some(4711))),
            (b"", Ok(None)),
            (b"\n", Ok(None)),
            (b"0\n", no_pid()),
            (b"-1\n", no_pid()),
            (b"+1\n", no_pid()),
            (b"4711 4712\n", no_pid()),
            (b"2147483648\n", no_pid()),
            (b"\xff\n", no_pid()),
            (&[b'1'; 100], no_pid()),
        ] {
            fs::write(&path, text).unwrap();
            let read = read(path.as_os_str()).map(|named| named.map(|(pid, _)| pid));
            assert_eq!(read, found, "{}", text.escape_ascii());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(path.as_os_str()), Ok(None));
        assert_eq!(read(OsStr::new("/dev/zero")), Err("it is not a regular file".to_owned()));
        assert!(read(OsStr::new("/")).is_err());
    }
}
