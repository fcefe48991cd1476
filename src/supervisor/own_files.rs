//! The files that hupwrap or its child makes: each needs a path of its own, and no change of them counts for `--watch`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::sys::trust;
use crate::text::listen::Address;

/// A file as the command line names it.
struct Named<'a> {
    option: &'static str,
    said: Cow<'a, str>,
    path: &'a Path,
}

impl<'a> Named<'a> {
    fn new(option: &'static str, path: &'a OsString) -> Self {
        Self { option, said: path.to_string_lossy(), path: Path::new(path) }
    }
}

fn all(config: &Config) -> Vec<Named<'_>> {
    let files = [
        ("--pidfile", &config.pidfile),
        ("--status-file", &config.status_file),
        ("--child-pidfile", &config.child_pidfile),
    ];
    let sockets = config.listen.iter().filter_map(|listen| match &listen.address {
        Address::Unix { path, .. } => {
            Some(Named { option: "--listen", said: (&listen.option).into(), path: path.as_ref() })
        }
        _ => None,
    });
    let files = files.into_iter().filter_map(|(option, path)| path.as_ref().map(|path| Named::new(option, path)));
    files.chain(sockets).collect()
}

/// Their paths.
pub(super) fn paths(config: &Config) -> Vec<PathBuf> {
    all(config).into_iter().map(|file| file.path.to_owned()).collect()
}

/// Checks that no two of them are one file, and that none of them is a file that another option reads.
///
/// # Errors
/// One line that names both options and their values.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let own = all(config);
    let read = [("--env-file", &config.env_files), ("--watch", &config.watch)];
    let read = read.iter().flat_map(|(option, paths)| paths.iter().map(|path| Named::new(option, path)));
    for (before, file) in all(config).into_iter().chain(read).enumerate() {
        // Two sockets at one path are found out where they are bound.
        let is_same = |other: &&Named| other.option != file.option && trust::is_same(other.path, file.path);
        if let Some(other) = own.iter().take(before).find(is_same) {
            return Err(format!(
                "{} '{}': that file is made for {} '{}'; want another path",
                file.option, file.said, other.option, other.said
            ));
        }
    }
    Ok(())
}
