//! Containers of images that hold two static programs and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A podman that knows only the images and containers of one test.
pub struct Podman(Dir);

impl Podman {
    /// None, and a word about it, where podman cannot run a container.
    pub fn new(test: &str) -> Option<Self> {
        for tool in ["podman", "runc", "rustc"] {
            if installed(tool).is_none() && !Path::new("/usr/sbin").join(tool).exists() {
                skipped(test, tool);
                return None;
            }
        }
        if !Command::new("rustc").arg("--version").output().is_ok_and(|done| done.status.success()) {
            skipped(test, "a rustc that works");
            return None;
        }
        if std::env::var_os("HUPWRAP_CONTAINER_TEST").is_some_and(|value| value == "1") {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo).arg("static").current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.expect("cargo").success());
        }
        let Some(program) = static_build() else {
            skipped(test, "a static build (cargo static)");
            return None;
        };

        let podman = Self(Dir::new());
        // The default of podman may be more than this process has.
        let limits = r#"default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]"#;
        podman.0.file("containers.conf", format!("[containers]\n{limits}\n"), 0o644);
        fs::create_dir(podman.programs()).expect("a directory");
        fs::copy(program, podman.programs().join("hupwrap")).expect("a copy");
        let built = Command::new("rustc")
            .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Copt-level=1", "-o"])
            .arg(podman.programs().join("server"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/litter.rs"))
            .output()
            .expect("rustc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let plain = podman.0.file("Containerfile", "FROM scratch\nCOPY hupwrap server /\n", 0o644);
        podman.build("plain", &plain);
        if podman.run("first", &["plain", "/hupwrap", "--version"]).end().shell() != 0 {
            skipped(test, "the right to run a container");
            return None;
        }
        Some(podman)
    }

    /// What an image is built from: `hupwrap`, and `server`, which is tests/fixtures/litter.rs.
    pub fn programs(&self) -> PathBuf {
        self.0.path().join("programs")
    }

    /// What a container has at a path of one of its volumes.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.0.path().join("root/volumes").join(name).join("_data")
    }

    pub fn build(&self, image: &str, file: &Path) {
        let (file, context) = (file.display().to_string(), self.programs().display().to_string());
        // Only this format has health checks.
        self.does(&[
            "build",
            "--quiet",
            "--format=docker",
            "--network=none",
            "--tag",
            image,
            "--file",
            &file,
            &context,
        ]);
    }

    /// Starts a container in the foreground.
    pub fn run(&self, name: &str, words: &[&str]) -> Run {
        self.start(&[&["run", "--rm", "--network=none", "--name", name], words].concat())
    }

    #[track_caller]
    pub fn does(&self, words: &[&str]) {
        let ended = self.start(words).end();
        assert_eq!(ended.shell(), 0, "podman {words:?}: {}", ended.stderr);
    }

    pub fn start(&self, words: &[&str]) -> Run {
        let at = |option: &str, name: &str| format!("--{option}={}", self.0.path().join(name).display());
        let own = [at("root", "root"), at("runroot", "run"), at("tmpdir", "tmp")];
        let own = own
            .into_iter()
            .chain(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"].map(str::to_owned));
        let limits = self.0.path().join("containers.conf");
        Setup::of("podman", own.chain(words.iter().map(|&word| word.to_owned()))).env("CONTAINERS_CONF", limits).start()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for words in [["pod", "rm", "--all", "--force", "--time=0"].as_slice(), &["rm", "--all", "--force", "--time=0"]]
        {
            self.start(words).end();
        }
    }
}
