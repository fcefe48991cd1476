//! What a child will see: its environment and its working directory, read again at every start.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{AccessFlags, access, getcwd};

use crate::exit::OWN_FAILURE;
use crate::facts::StartError;
use crate::sys::fd::same_file;
use crate::sys::start_error::{describe, is_transient, workdir_error};
use crate::text::env_file;

/// The longest env file: no environment holds more than an `execve(2)` takes by default.
const LONGEST_FILE: u64 = 1 << 20;

/// The variable that names the working directory, as a user would (POSIX, `cd`).
const PWD: &[u8] = b"PWD";

/// What a start sees. Without `--env-file` and `--workdir` reading it costs no system call and copies no variable.
/// It is not `Debug`: a file may hold secrets.
pub(crate) struct ChildEnv {
    /// The variables that hupwrap was given itself, but for those that stand in `own`.
    pub inherited: Vec<&'static CStr>,
    /// Those of env files and of hupwrap: `NAME=VALUE`, each name once.
    pub own: Vec<CString>,
    /// The working directory, where it is not hupwrap's.
    pub workdir: Option<CString>,
}

impl ChildEnv {
    /// Reads the env files, of which the last one counts, and looks whether the working directory is there. All are
    /// relative to hupwrap's own working directory.
    ///
    /// # Errors
    /// What is wrong, with the option; no part of a file's content. The code is 125.
    pub(crate) fn read<F: AsRef<OsStr>>(
        inherited: &[&'static CStr],
        env_files: &[F],
        workdir: Option<&OsStr>,
    ) -> Result<Self, StartError> {
        let mut child_env = Self { inherited: inherited.to_vec(), own: Vec::new(), workdir: None };
        // One map for all files: 80,000 variables are no reason to search the list 80,000 times.
        let mut variables = BTreeMap::new();
        for file in env_files {
            let file = file.as_ref();
            let wrong = |transient, what: &str| StartError {
                code: OWN_FAILURE,
                transient,
                reason: format!("--env-file '{}': {what}", file.to_string_lossy()),
            };
            let text = read_file(file).map_err(|error| match error {
                Unread::Failed(error) => wrong(is_transient(error), &format!("cannot be read: {}", describe(error))),
                Unread::Unfit(what) => wrong(false, what),
            })?;
            variables.extend(env_file::parse(&text).map_err(|error| wrong(false, &error))?);
        }
        if !variables.is_empty() {
            child_env.inherited.retain(|variable| !variables.contains_key(name(variable)));
            let variables = variables.into_iter().map(|(name, value)| [name, value].join(&b'='));
            child_env.own.extend(variables.filter_map(|variable| CString::new(variable).ok()));
        }
        if let Some(workdir) = workdir {
            let directory = CString::new(workdir.as_bytes()).unwrap_or_default();
            look_at(&directory).map_err(|error| workdir_error(&directory, error))?;
            child_env.enter(directory.as_bytes());
            child_env.workdir = Some(directory);
        }
        Ok(child_env)
    }

    /// Has PWD name the working directory, as `cd` would have: hupwrap's own PWD would be wrong there, and by its name
    /// a program that restarts itself finds where a link leads by then. A file that sets PWD knows better.
    fn enter(&mut self, directory: &[u8]) {
        if self.own.iter().any(|variable| value(variable, PWD).is_some()) {
            return;
        }
        let here = self.inherited.iter().find_map(|variable| value(variable, PWD));
        let here = match here.filter(|here| here.starts_with(b"/") && same_file(here, b".")) {
            Some(here) => Some(here.to_owned()),
            None => getcwd().ok().map(|here| here.into_os_string().into_vec()),
        };
        let named = here.map(|here| without_dots(&here, directory)).filter(|named| same_file(named, directory));
        // `..` behind a link leads elsewhere than its name says.
        let path = || fs::canonicalize(OsStr::from_bytes(directory)).ok().map(|path| path.into_os_string().into_vec());
        match named.or_else(path) {
            Some(path) => self.set(PWD, &path),
            None => self.remove(PWD),
        }
    }

    /// Sets a variable, and replaces a value that it has. A value that no variable can have sets nothing.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.own.extend(CString::new([name, b"=", value].concat()));
    }

    /// Removes a variable.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        self.inherited.retain(|variable| value(variable, name).is_none());
        self.own.retain(|variable| value(variable, name).is_none());
    }

    /// The value of a variable, as bytes.
    pub(crate) fn var(&self, name: &str) -> Option<&[u8]> {
        let all = self.own.iter().map(CString::as_c_str).chain(self.inherited.iter().copied());
        all.into_iter().find_map(|variable| value(variable, name.as_bytes()))
    }
}

/// A path in the directory `here`, absolute and without `.` and `..` (POSIX, `cd`, step 8).
fn without_dots(here: &[u8], path: &[u8]) -> Vec<u8> {
    let here = if path.starts_with(b"/") { &[] } else { here };
    let mut parts = Vec::new();
    for part in [here, path].into_iter().flat_map(|path| path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    [b"/", &*parts.join(&b'/')].concat()
}

/// What stands before the first `=`.
fn name(variable: &CStr) -> &[u8] {
    variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn value<'a>(variable: &'a CStr, name: &[u8]) -> Option<&'a [u8]> {
    variable.to_bytes().strip_prefix(name)?.strip_prefix(b"=")
}

/// Why an env file is not read.
enum Unread {
    Failed(Errno),
    Unfit(&'static str),
}

/// Reads a file, if it is one: of a pipe nothing would be left for the next start, and a device may never end.
fn read_file(file: &OsStr) -> Result<Vec<u8>, Unread> {
    // A pipe without a writer, or a device that waits for a carrier, would hold hupwrap up.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = open(file, flags, Mode::empty()).map_err(Unread::Failed)?;
    let stat = fstat(&opened).map_err(Unread::Failed)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        // The usual way to name an empty file.
        libc::S_IFCHR if stat.st_rdev == libc::makedev(1, 3) => return Ok(Vec::new()),
        libc::S_IFDIR => return Err(Unread::Unfit("it is a directory; want a file")),
        libc::S_IFIFO => {
            return Err(Unread::Unfit(
                "it is a pipe, which cannot be read again at the next start; want a regular file",
            ));
        }
        _ => return Err(Unread::Unfit("it is no regular file")),
    }
    let mut text = Vec::new();
    let read = File::from(opened).take(LONGEST_FILE.saturating_add(1)).read_to_end(&mut text);
    read.map_err(|error| match (error.raw_os_error(), error.kind()) {
        (Some(error), _) => Unread::Failed(Errno::from_raw(error)),
        // The file fits into the limit, and not into memory: no system call has failed.
        (None, ErrorKind::OutOfMemory) => Unread::Failed(Errno::ENOMEM),
        (None, _) => Unread::Failed(Errno::EIO),
    })?;
    match u64::try_from(text.len()) {
        Ok(..=LONGEST_FILE) => Ok(text),
        _ => Err(Unread::Unfit("it is longer than 1 MiB, more than an environment can hold")),
    }
}

fn look_at(directory: &CStr) -> nix::Result<()> {
    match stat(directory)?.st_mode & libc::S_IFMT {
        libc::S_IFDIR => access(directory, AccessFlags::X_OK),
        _ => Err(Errno::ENOTDIR),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;
    use std::{env, process};

    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::mkfifo;

    use super::*;

    const STARTUP: &[&CStr] = &[c"A=startup", c"B=startup", c"A=twice", c"AB=startup", c"no sign", c"=odd"];

    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("hupwrap-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn read(files: &[String], workdir: Option<&Path>) -> Result<ChildEnv, StartError> {
        ChildEnv::read(STARTUP, files, workdir.map(Path::as_os_str))
    }

    /// What a file is refused for, without its name.
    fn refusal(file: &str) -> String {
        let error = read(&[file.to_owned()], None).err().unwrap();
        assert_eq!((error.code, error.transient), (125, false));
        error.reason.strip_prefix(&format!("--env-file '{file}': ")).expect(&error.reason).to_owned()
    }

    #[test]
    fn without_options_nothing_is_copied() {
        let child_env = read(&[], None).ok().unwrap();
        let pointers = |all: &[&CStr]| all.iter().map(|var| var.as_ptr()).collect::<Vec<_>>();
        assert_eq!(pointers(&child_env.inherited), pointers(STARTUP));
        assert_eq!((child_env.own.len(), child_env.workdir), (0, None));
    }

    #[test]
    fn a_file_wins_and_a_later_one_more() {
        let dir = Dir::new("env-wins");
        let files = [dir.file("one", "A=1\nC=1\nC=2\nD=1"), dir.file("two", "D='2'\n"), dir.file("none", "")];
        let mut child_env = read(&files, None).ok().unwrap();
        assert_eq!(child_env.inherited, [c"B=startup", c"AB=startup", c"no sign", c"=odd"]);
        assert_eq!(child_env.own, [c"A=1", c"C=2", c"D=2"].map(CStr::to_owned));
        assert_eq!(child_env.var("A"), Some(&b"1"[..]));
        assert_eq!(child_env.var("B"), Some(&b"startup"[..]));
        assert_eq!(child_env.var("no sign"), None);
        child_env.set(b"B", b"set");
        child_env.set(b"A", b"");
        child_env.remove(b"C");
        assert_eq!(child_env.inherited, [c"AB=startup", c"no sign", c"=odd"]);
        assert_eq!(child_env.own, [c"D=2", c"B=set", c"A="].map(CStr::to_owned));
    }

    #[test]
    fn the_time_grows_with_the_number_of_variables_and_not_with_its_square() {
        let dir = Dir::new("env-many");
        let cost = |count: usize| {
            let text: String = (0..count).map(|number| format!("V{number}={}\n", number % 10)).collect();
            let file = [dir.file(&count.to_string(), text)];
            // The time of this thread alone: others use the processors too.
            let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
            let costs = (0..5).map(|_| {
                let before = now();
                assert_eq!(read(&file, None).ok().unwrap().own.len(), count);
                now().saturating_sub(before)
            });
            costs.min().unwrap()
        };
        let (few, many) = (cost(10_000), cost(80_000));
        // 8 times as many. The square would be 64 times as long.
        assert!(many < few * 32, "{few:?} {many:?}");
    }

    #[test]
    fn the_working_directory_is_named() {
        let dir = Dir::new("env-pwd");
        let pwd = |inherited: &[&'static CStr], files: &[String], workdir: &Path| {
            let child_env = ChildEnv::read(inherited, files, Some(workdir.as_os_str())).ok().unwrap();
            child_env.var("PWD").map(|pwd| OsStr::from_bytes(pwd).to_owned())
        };
        let here = env::current_dir().unwrap();
        assert_eq!(pwd(&[c"PWD=/wrong"], &[], &dir.0), Some(dir.0.clone().into()));
        assert_eq!(pwd(&[], &[], &dir.0), Some(dir.0.clone().into()));
        assert_eq!(pwd(&[c"PWD=/wrong"], &[], Path::new("src")), Some(here.join("src").into()));
        assert_eq!(pwd(&[c"PWD=src/.."], &[], Path::new("src")), Some(here.join("src").into()));
        assert_eq!(pwd(&[c"PWD=/proc/self/cwd"], &[], Path::new("src")), Some("/proc/self/cwd/src".into()));
        assert_eq!(pwd(&[c"PWD=/wrong"], &[dir.file("x", "PWD=mine")], &dir.0), Some("mine".into()));
        // Without dots, and where a link leads.
        let (sub, link) = (dir.0.join("a/b"), dir.0.join("link"));
        fs::create_dir_all(&sub).unwrap();
        symlink(&sub, &link).unwrap();
        for (said, want) in [
            ("a/./b/", sub.clone()),
            ("a/b/..", dir.0.join("a")),
            ("link", link.clone()),
            ("link/..", fs::canonicalize(dir.0.join("a")).unwrap()),
            ("link/../b", fs::canonicalize(&sub).unwrap()),
            ("/../..//", "/".into()),
        ] {
            assert_eq!(pwd(&[], &[], &dir.0.join(said)), Some(want.into()), "{said}");
        }
        assert_eq!(pwd(&[c"PWD=/proc/self/cwd"], &[], Path::new("./src/../src")), Some("/proc/self/cwd/src".into()));
        assert_eq!(without_dots(b"/", b"tmp"), b"/tmp");
        assert_eq!(
            ChildEnv::read(&[c"PWD=/wrong"], &[] as &[&str], None).ok().unwrap().var("PWD"),
            Some(&b"/wrong"[..])
        );
    }

    #[test]
    fn it_is_read_again() {
        let dir = Dir::new("env-again");
        let file = [dir.file("x", "A=1")];
        assert_eq!(read(&file, None).ok().unwrap().own, [c"A=1".to_owned()]);
        dir.file("x", "A=2");
        assert_eq!(read(&file, None).ok().unwrap().own, [c"A=2".to_owned()]);
        dir.file("x", "s3cret");
        assert_eq!(refusal(&file[0]), "line 1: it has no '='; want NAME=VALUE, or a comment that begins with '#'");
    }

    #[test]
    fn files_that_are_none() {
        let dir = Dir::new("env-none");
        let path = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
        assert_eq!(refusal(&path("missing")), "cannot be read: no such file or directory");
        assert_eq!(refusal(""), "cannot be read: no such file or directory");
        assert_eq!(refusal(&path("")), "it is a directory; want a file");
        assert_eq!(refusal("/dev/zero"), "it is no regular file");
        assert!(ChildEnv::read(&[], &["/dev/null"], None).is_ok_and(|child_env| child_env.own.is_empty()));
        mkfifo(path("pipe").as_str(), Mode::S_IRWXU).unwrap();
        let pipe = "it is a pipe, which cannot be read again at the next start; want a regular file";
        assert_eq!(refusal(&path("pipe")), pipe);
        symlink("loop", path("loop")).unwrap();
        assert_eq!(refusal(&path("loop")), "cannot be read: too many symbolic links");
        assert_eq!(
            refusal(&dir.file("long", vec![b'#'; (1 << 20) + 1])),
            "it is longer than 1 MiB, more than an environment can hold"
        );
        assert!(read(&[dir.file("full", vec![b'#'; 1 << 20])], None).is_ok());
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(refusal(&path("sparse")).starts_with("it is longer than 1 MiB"));
    }

    #[test]
    fn a_working_directory_is_looked_at() {
        let dir = Dir::new("workdir");
        let file = dir.file("file", "");
        let refusal = |path: &Path| {
            let error = read(&[], Some(path)).err().unwrap();
            assert_eq!((error.code, error.transient), (125, false));
            error.reason.strip_prefix(&format!("--workdir '{}': ", path.display())).expect(&error.reason).to_owned()
        };
        assert_eq!(read(&[], Some(&dir.0)).ok().unwrap().workdir.unwrap().as_bytes(), dir.0.as_os_str().as_bytes());
        assert_eq!(refusal(&dir.0.join("missing")), "no such file or directory");
        assert_eq!(refusal(Path::new("")), "no such file or directory");
        assert_eq!(refusal(Path::new(&file)), "it, or a part of its path, is no directory");
        assert_eq!(refusal(&dir.0.join("file/sub")), "it, or a part of its path, is no directory");
    }
}
