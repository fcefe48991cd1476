//! Containers. Their podman needs no settings of this machine, and keeps its images in one directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// The variables with which podman runs containers below a directory.
fn settings(dir: &Path) -> [(&'static str, PathBuf); 2] {
    [("CONTAINERS_CONF", dir.join("containers.conf")), ("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))]
}

/// Lets a program use podman. Its files are in this directory.
pub fn allow(program: Setup, dir: &Path) -> Setup {
    let [(first, containers_conf), (second, storage_conf)] = settings(dir);
    if !dir.exists() {
        fs::create_dir(dir).expect("a new directory");
        let at = dir.display();
        let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
        let containers = format!(
            "[containers]\nnetns = \"none\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n\
             tmp_dir = \"{at}/tmp\"\nstatic_dir = \"{at}/static\"\nvolume_path = \"{at}/volumes\"\n"
        );
        fs::write(&containers_conf, containers).expect("a file");
        fs::write(&storage_conf, storage).expect("a file");
    }
    program.env(first, containers_conf).env(second, storage_conf)
}

/// Ends the containers of a directory.
pub fn end(dir: &Path) {
    if dir.join("root").exists() {
        for what in [["pod", "rm"].as_slice(), &["rm"]] {
            let mut podman = Command::new("podman");
            let _ = podman.envs(settings(dir)).args(what).args(["--all", "--force", "--time=0"]).output();
        }
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

/// A podman for one test, and what its images are built from: `hupwrap`, and `server`, which is
/// tests/fixtures/litter.rs. Both are static.
pub struct Podman(Dir);

impl Podman {
    /// None, and a word about it, where there are no containers.
    pub fn new(test: &str) -> Option<Self> {
        let works = Command::new("rustc").arg("--version").output().is_ok_and(|done| done.status.success());
        if let Some(missing) = missing().or((!works).then(|| "no rustc".to_owned())) {
            skipped(test, &missing);
            return None;
        }
        let podman = Self(Dir::new());
        fs::create_dir(podman.path("programs")).expect("a directory");
        fs::copy(static_build().expect("not missing"), podman.path("programs/hupwrap")).expect("a copy");
        let built = Command::new("rustc")
            .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Copt-level=1", "-o"])
            .arg(podman.path("programs/server"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/litter.rs"))
            .output()
            .expect("rustc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(podman)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Builds an image.
    #[track_caller]
    pub fn build(&self, image: &str, containerfile: &str) {
        let file = self.0.file("Containerfile", containerfile, 0o644);
        // Only this format has health checks.
        let words = ["build", "--quiet", "--format=docker", "--tag", image, "--file"];
        self.does(&[&words[..], &[utf8(&file), utf8(&self.path("programs"))]].concat());
    }

    /// Starts a container in the foreground.
    pub fn run(&self, name: &str, words: &[&str]) -> Run {
        self.start(&[&["run", "--rm", "--name", name], words].concat())
    }

    #[track_caller]
    pub fn does(&self, words: &[&str]) {
        let ended = self.start(words).end();
        assert_eq!(ended.shell(), 0, "podman {words:?}: {}", ended.stderr);
    }

    pub fn start(&self, words: &[&str]) -> Run {
        allow(Setup::of("podman", words), &self.path("podman")).start()
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Drop for Podman {
    fn drop(&mut self) {
        end(&self.path("podman"));
    }
}
