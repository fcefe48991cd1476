//! What must hold in every status file that anybody reads.

use serde_json::Value;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// `before`: the one that was read before; null for the first.
pub fn check(seen: &Value, before: &Value) {
    let is = |holds: bool, what: &str| assert!(holds, "{what}; status file: {seen}; before: {before}");
    crate::status::KEYS.iter().for_each(|key| is(seen.get(key).is_some(), &format!("no key {key}")));
    let state = seen["state"].as_str().expect("a state");
    let states = ["starting", "running", "checking", "replacing", "stopping", "waiting", "ended"];
    is(states.contains(&state), "an unknown state");
    let (child, old, reload) = (&seen["child"], &seen["old_child"], &seen["reload"]);
    is(state != "running" || child["ready"] == true, "running, and the child is not ready");
    is(state != "running" || old.is_null(), "running, and there is an old child");
    is(state != "running" || reload.is_null() || !reload["outcome"].is_null(), "running, and a request is under way");
    is(state != "waiting" || child.is_null(), "waiting, with a child");
    is(state != "ended" || (child.is_null() && old.is_null()), "ended, with a child");
    is(old.is_null() || number(&old["generation"]) < number(&seen["generation"]), "the old child is not older");
    let all =
        seen["settled"].as_array().into_iter().flatten().chain([reload].into_iter().filter(|reload| !reload.is_null()));
    for request in all {
        is(request["ended"].is_null() == request["outcome"].is_null(), "an outcome without an end");
        is(
            request["ended"].is_null() || request["ended"].as_u64() >= request["began"].as_u64(),
            "ended before it began",
        );
        let has_reason = request["reason"].as_str().is_some_and(|reason| !reason.is_empty());
        is(["refused", "failed"].contains(&request["outcome"].as_str().unwrap_or("")) == has_reason, "a reason");
    }
    if before.is_null() {
        return;
    }
    for key in ["pid", "pid_start", "on_hup", "listen", "version"] {
        is(seen[key] == before[key], &format!("{key} changes"));
    }
    is(before["state"] != "ended", "a change after the end");
    is(number(&seen["generation"]) >= number(&before["generation"]), "the generation goes back");
    for count in ["asked", "failed"] {
        is(number(&seen["restarts"][count]) >= number(&before["restarts"][count]), "a number of restarts goes back");
    }
}
