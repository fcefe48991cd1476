//! Containers for the pages: a podman that needs no settings of this machine, and keeps its images in one directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::*;

/// The variables with which podman runs containers below a directory.
fn settings(dir: &Path) -> [(&'static str, std::path::PathBuf); 2] {
    [("CONTAINERS_CONF", dir.join("containers.conf")), ("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))]
}

/// Lets a shell use podman. Its files are in this directory.
pub fn allow(shell: Setup, dir: &Path) -> Setup {
    fs::create_dir(dir).expect("a new directory");
    let at = dir.display();
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
    let containers = format!(
        "[containers]\nnetns = \"none\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n\
         tmp_dir = \"{at}/tmp\"\nstatic_dir = \"{at}/static\"\nvolume_path = \"{at}/volumes\"\n"
    );
    let [(first, containers_conf), (second, storage_conf)] = settings(dir);
    fs::write(&containers_conf, containers).expect("a file");
    fs::write(&storage_conf, storage).expect("a file");
    shell.env(first, containers_conf).env(second, storage_conf)
}

/// Ends the containers of a directory.
pub fn end(dir: &Path) {
    if dir.join("root").exists() {
        let _ = Command::new("podman").envs(settings(dir)).args(["rm", "--all", "--force", "--time=0"]).output();
    }
}

/// What a container needs and this machine does not have.
pub fn missing() -> Option<String> {
    let Some(program) = static_build() else { return Some("no static build; see `cargo static`".to_owned()) };
    if !["/usr/bin/runc", "/usr/sbin/runc"].iter().any(|runc| Path::new(runc).exists()) {
        return Some("no runc".to_owned());
    }
    let dir = Dir::new();
    fs::copy(program, dir.path().join("hupwrap")).expect("a copy");
    dir.file("Containerfile", "FROM scratch\nCOPY hupwrap /\n", 0o644);
    let podman = dir.path().join("podman");
    let script = "podman build -q -t try . && podman run --rm try /hupwrap --version";
    let tried = allow(Setup::of("sh", ["-c", script]), &podman).dir(dir.path()).end();
    end(&podman);
    (tried.shell() != 0).then(|| format!("no right to run a container: {}", tried.stderr))
}
