//! What a file is that is to be executed, and why the kernel would not execute it.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, access};

use crate::sys::fd::names;

/// More of a file than its ELF header, its program headers and the name of its loader usually take; more than the
/// kernel reads of a script's first line as well.
const START: u64 = 4096;
/// How long a script's first line is, at most (`execve(2)`).
const LINE: usize = 255;
/// How often a script may be the interpreter of a script (`execve(2)`).
const DEPTH: u8 = 4;
/// What an ELF file begins with.
const ELF: &[u8] = b"\x7fELF";
/// Where the kernel tells what else it executes (`binfmt_misc`).
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// Why a file is not executed though it may be.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Defect {
    /// It is a script, and this is wrong with its interpreter.
    Interpreter(CString, Errno),
    /// It is a program, and this is wrong with its loader.
    Loader(CString, Errno),
    /// It is neither a program for this machine nor a script.
    Alien,
    /// There is nothing in it.
    Empty,
}

impl Defect {
    /// What the kernel would answer.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::Interpreter(_, error) | Self::Loader(_, error) => *error,
            Self::Alien | Self::Empty => Errno::ENOEXEC,
        }
    }
}

/// A path of a child's, as it is to be looked at from hupwrap's working directory.
pub(super) fn from_here<'a>(file: &'a CStr, workdir: Option<&CStr>) -> Cow<'a, CStr> {
    let Some(workdir) = workdir.filter(|_| !file.to_bytes().starts_with(b"/")) else { return file.into() };
    CString::new([workdir.to_bytes(), b"/", file.to_bytes()].concat()).map_or(file.into(), Cow::Owned)
}

/// Whether a file is one that may be executed.
pub(super) fn is_executable(file: &CStr) -> nix::Result<()> {
    match stat(file)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => access(file, AccessFlags::X_OK),
        libc::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EACCES),
    }
}

/// Looks for what keeps a file from being executed that may be executed, as by [`is_executable`]. `file` is a path of a
/// child's. A file that cannot be read can be executed all the same: of that nothing is known.
pub(super) fn defect(file: &CStr, workdir: Option<&CStr>) -> Option<Defect> {
    find_defect(file, workdir, DEPTH)
}

fn find_defect(file: &CStr, workdir: Option<&CStr>, depth: u8) -> Option<Defect> {
    let image = Image::open(&from_here(file, workdir)).ok()?;
    if image.start.is_empty() {
        return Some(Defect::Empty);
    }
    let found = if let Some(interpreter) = image.interpreter() {
        let wrong = is_executable(&from_here(&interpreter, workdir)).err();
        match (wrong, depth.checked_sub(1)) {
            (Some(error), _) => Some(Defect::Interpreter(interpreter, error)),
            // A text without `#!` as an interpreter: then a shell is tried on the script.
            (None, Some(depth)) => find_defect(&interpreter, workdir, depth).filter(|defect| *defect != Defect::Empty),
            (None, None) => Some(Defect::Interpreter(interpreter, Errno::ELOOP)),
        }
    } else if image.start.starts_with(ELF) {
        match image.loader() {
            Some(Some(loader)) => {
                is_executable(&from_here(&loader, workdir)).err().map(|error| Defect::Loader(loader, error))
            }
            Some(None) => None,
            None => Some(Defect::Alien),
        }
    } else {
        // A shell takes it if its first line is text.
        let line = image.start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.contains(&0).then_some(Defect::Alien)
    };
    found.filter(|defect| *defect != Defect::Alien || !image.is_handled(file))
}

/// A file, and its first bytes.
struct Image {
    file: File,
    start: Vec<u8>,
}

impl Image {
    /// Opens a regular file. To open something else may block (a FIFO), or do something (a device).
    fn open(path: &CStr) -> std::io::Result<Self> {
        let path = OsStr::from_bytes(path.to_bytes());
        if !fs::metadata(path)?.is_file() {
            return Err(Errno::EACCES.into());
        }
        // It may be another one by now.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let mut start = Vec::new();
        (&file).take(START).read_to_end(&mut start)?;
        Ok(Self { file, start })
    }

    /// The path that a script's first line names.
    fn interpreter(&self) -> Option<CString> {
        let line = self.start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let line = line.get(..LINE).unwrap_or(line);
        let path = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
        CString::new(path).ok()
    }

    /// The loader that an ELF file wants, if it wants one. None if the file is not a program for this machine.
    fn loader(&self) -> Option<Option<CString>> {
        let kind = (number(&self.start, 4, 1)?, number(&self.start, 18, 2)?);
        let layout = LAYOUTS.iter().find(|layout| (layout.class, layout.machine) == kind)?;
        if !EXECUTABLE.contains(&number(&self.start, 16, 2)?) {
            return None;
        }
        let first = number(&self.start, layout.first_header, layout.word)?;
        let size = number(&self.start, layout.header_size, 2)?;
        let count = number(&self.start, layout.header_count, 2)?;
        if size != layout.size || count == 0 {
            return None;
        }
        for index in 0..count {
            let header = self.bytes(first.checked_add(index.checked_mul(size)?)?, size)?;
            if number(&header, 0, 4)? == INTERPRETER {
                let at = number(&header, layout.offset, layout.word)?;
                let name = self.bytes(at, number(&header, layout.length, layout.word)?)?;
                return CStr::from_bytes_until_nul(&name).ok().map(|name| Some(name.to_owned()));
            }
        }
        Some(None)
    }

    /// A part of the file; none if it is not there, or longer than anything that is asked for.
    fn bytes(&self, at: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= START)?];
        let start = usize::try_from(at).ok().and_then(|at| self.start.get(at..)?.get(..bytes.len()));
        match start {
            Some(start) => bytes.copy_from_slice(start),
            None => self.file.read_exact_at(&mut bytes, at).ok()?,
        }
        Some(bytes)
    }

    /// Whether the kernel was told how to execute such a file: qemu-user, Java, Wine.
    fn is_handled(&self, file: &CStr) -> bool {
        let directory = Path::new(HANDLERS);
        let handlers = names(directory).into_iter().flatten().map_while(Result::ok);
        let mut handlers = handlers.filter_map(|name| fs::read_to_string(directory.join(name)).ok());
        handlers.any(|handler| handles(&handler, &self.start, file.to_bytes()).unwrap_or(false))
    }
}

/// What a file of `binfmt_misc` says.
fn handles(handler: &str, start: &[u8], file: &[u8]) -> Option<bool> {
    let field = |name: &str| handler.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = |text: &str| -> Option<Vec<u8>> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    };
    if !handler.starts_with("enabled") {
        return Some(false);
    }
    if let Some(extension) = field("extension") {
        return Some(file.ends_with(extension.as_bytes()));
    }
    let magic = hex(field("magic")?)?;
    let mask = field("mask").and_then(hex).unwrap_or_else(|| vec![u8::MAX; magic.len()]);
    let found = start.get(field("offset")?.parse().ok()?..)?.get(..magic.len())?;
    Some(found.iter().zip(&magic).zip(&mask).all(|((found, magic), mask)| (found ^ magic) & mask == 0))
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..)?.get(..size)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// `e_type` of what can be executed: ET_EXEC and ET_DYN.
const EXECUTABLE: [u64; 2] = [2, 3];
/// `PT_INTERP`.
const INTERPRETER: u64 = 3;

/// Where things are in an ELF file (`elf(5)`).
struct Layout {
    class: u64,
    machine: u64,
    /// The size of an offset.
    word: usize,
    first_header: usize,
    header_size: usize,
    header_count: usize,
    /// The size of a program header, and in it the place of the segment's offset and length.
    size: u64,
    offset: usize,
    length: usize,
}

/// What this machine executes: its own programs, and, depending on the kernel, those of its ancestor.
const LAYOUTS: [Layout; 2] = [
    Layout {
        class: 2,
        machine: if cfg!(target_arch = "x86_64") { 62 } else { 183 },
        word: 8,
        first_header: 32,
        header_size: 54,
        header_count: 56,
        size: 56,
        offset: 8,
        length: 32,
    },
    Layout {
        class: 1,
        machine: if cfg!(target_arch = "x86_64") { 3 } else { 40 },
        word: 4,
        first_header: 28,
        header_size: 42,
        header_count: 44,
        size: 32,
        offset: 4,
        length: 16,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers() {
        let arm = "enabled\ninterpreter /usr/bin/qemu-arm\nflags: F\noffset 0\nmagic 7f454c46\nmask ffffff00\n";
        assert_eq!(handles(arm, b"\x7fELx and more", b"x"), Some(true));
        assert_eq!(handles(arm, b"\x7fExx and more", b"x"), Some(false));
        assert_eq!(handles(arm, b"\x7fEL", b"x"), None);
        assert_eq!(handles(&arm.replace("enabled", "disabled"), b"\x7fELF", b"x"), Some(false));
        let jar = "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n";
        assert_eq!(handles(jar, b"PK", b"/a/b.jar"), Some(true));
        assert_eq!(handles(jar, b"PK", b"/a/b.zip"), Some(false));
        assert_eq!(handles("enabled\n", b"PK", b"/a/b.zip"), None);
    }

    #[test]
    fn programs_of_this_machine() {
        for file in [c"/bin/sh", c"/bin/true", c"/proc/self/exe"] {
            assert_eq!(defect(file, None), None, "{file:?}");
        }
    }
}
