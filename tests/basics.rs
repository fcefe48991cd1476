//! The plainest things.

use crate::support::*;

#[test]
fn it_ends_as_the_child_ends() {
    let ended = Setup::new(["--", "sh", "-c", "echo out; echo err >&2; exit 7"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn a_hup_restarts_and_a_term_ends() {
    let mut run = Setup::new(args([&"--", &puppet()])).start();
    let (first, old) = run.ready();
    run.kill("HUP");
    run.line("got TERM");
    let (second, new) = run.ready();
    assert_eq!((first, second), (1, 2));
    assert_ne!(old, new);
    let ended = run.stop();
    assert_eq!(ended.shell(), 0);
    assert_eq!(ended.stderr, format!("hupwrap: restarting puppet[{old}]\n"));
}
