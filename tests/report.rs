//! What people are told of a request that failed.

use crate::support::*;

#[test]
fn a_new_child_that_nobody_serves_beside_is_not_said_to_be_beside_one() {
    // The old one ends by itself while the new one is on trial.
    let puppet = puppet();
    let mut run = Setup::new(args([&"--on-hup", &"replace", &"--ready", &"fd:9", &"--", &puppet])).start();
    let (_, old) = run.ready();
    assert!(std::fs::write(format!("/proc/{old}/fd/9"), "\n").is_ok());
    run.kill("HUP");
    let (_, new) = run.ready();
    kill(old, "KILL");
    run.said("puppet ended by itself (KILL) before it was replaced; waiting for the new one\n");
    kill(new, "KILL");
    let ended = run.end();
    assert_eq!(ended.shell(), 137);
    assert!(
        ended.stderr.ends_with("hupwrap: replace failed: the new puppet ended (KILL) before it was ready\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_restart_that_failed_is_not_put_down_to_a_port_that_is_taken() {
    let script = "echo ready $HUPWRAP_GENERATION $$; [ $HUPWRAP_GENERATION = 1 ] || exit 7; echo >&9; exec sleep 1000";
    let mut run = Setup::new(["--ready", "fd:9", "--", "sh", "-c", script]).start();
    run.ready();
    run.kill("HUP");
    let ended = run.end();
    assert_eq!(ended.shell(), 7);
    assert!(
        ended.stderr.ends_with("hupwrap: restart failed: the new sh ended (7) before it was ready\n"),
        "{}",
        ended.stderr
    );
}
