//! The only table of events, each with its level and the names of its facts. docs/events.md is compared with it. Pure.

use crate::config::Level;

/// A kind of event.
#[derive(PartialEq, Eq, Debug)]
pub struct MessageKind {
    /// Its name.
    pub name: &'static str,
    /// Its level.
    pub level: Level,
    /// The names of its facts.
    pub facts: &'static [&'static str],
}

macro_rules! events {
    ($($name:ident $level:ident $text:literal [$($fact:literal)*])*) => {
        $(
            #[doc = concat!("The event `", $text, "`.")]
            pub const $name: MessageKind = MessageKind { name: $text, level: Level::$level, facts: &[$($fact),*] };
        )*
        /// Every kind of event.
        pub const EVENTS: &[MessageKind] = &[$($name),*];
    };
}

events! {
    LISTENING Info "listening" ["name" "address"]
    SIGNAL Debug "signal" ["signal"]
    STARTED Debug "started" ["generation" "pid"]
    READY Debug "ready" ["generation" "pid"]
    ENDED Debug "ended" ["generation" "pid" "exit"]
    REQUESTED Debug "requested" ["action"]
    SETTLED Debug "settled" ["action"]
    REFUSED Error "refused" ["action" "reason"]
    FAILED Error "failed" ["action" "reason"]
    CHANGED Info "changed" ["path"]
    WATCHING_LATE Info "watching-late" ["reason"]
    GROWN_OLD Info "grown-old" ["generation" "pid" "age"]
    RESTARTING Info "restarting" ["generation" "pid"]
    REPLACING Info "replacing" ["generation" "pid"]
    REPLACED Info "replaced" ["generation" "pid" "old_generation" "old_pid"]
    REEXECUTED Info "reexecuted" ["before" "version"]
    ENDED_EARLY Info "ended-early" ["exit"]
    STARTING_SOON Info "starting-soon" []
    BACKGROUNDED Info "backgrounded" ["generation" "pid"]
    MAIN_PROCESS Info "main-process" ["generation" "pid" "old_pid" "exit"]
    NO_MAIN_PROCESS Error "no-main-process" ["generation" "pid" "exit" "reason"]
    TRIED Debug "tried" ["generation" "pid" "reason"]
    NOT_READY Error "not-ready" ["generation" "pid" "timeout" "reason"]
    RESTARTING_LATER Info "restarting-later" ["generation" "pid" "exit" "ran" "delay" "attempt"]
    STARTING_LATER Error "starting-later" ["reason" "delay"]
    CANNOT_START Error "cannot-start" ["reason"]
    GAVE_UP Error "gave-up" ["restarts"]
    STOPPING Debug "stopping" ["signal"]
    KILLING Info "killing" ["generation" "pid" "timeout"]
    KILLING_REST Info "killing-rest" ["timeout"]
    UNKILLABLE Error "unkillable" ["timeout"]
    NOT_SENT Error "not-sent" ["signal" "pid" "reason"]
    NOT_FORWARDED Info "not-forwarded" ["signal"]
    HANG_UP_IGNORED Info "hang-up-ignored" []
    STATUS_FILE_FAILED Error "status-file-failed" ["reason"]
    RESTORED Info "restored" ["path"]
    NOT_RESTORED Error "not-restored" ["path" "reason"]
    ERROR Error "error" []
}
