//! A life, drawn from its seed before anything starts: the options, the steps, and how it ends.

use std::fmt::{self, Display, Formatter};

/// splitmix64: small, and the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }
}

/// How hupwrap is started.
pub struct Options {
    /// As pid 1 of a namespace.
    pub init: bool,
    pub on_hup: &'static str,
    pub on_usr2: Option<&'static str>,
    /// `exec`, `notify`, `fd`, `delay`, `cmd`, or nothing.
    pub ready: &'static str,
    /// In milliseconds, like every time here.
    pub ready_timeout: u64,
    pub overlap: Option<u64>,
    pub check: bool,
    pub restart: &'static str,
    pub limit: Option<u64>,
    /// Whether 3 is final.
    pub no_restart_on: bool,
    /// Whether 42 is mapped to 17, and a death by TERM to 18.
    pub map_status: bool,
    pub stop_signal: &'static str,
    pub stop_timeout: Option<u64>,
    pub kill_mode: &'static str,
    /// Nothing, `tcp` or `unix`.
    pub listen: &'static str,
    pub max_age: Option<u64>,
    pub watch: bool,
    pub env_file: bool,
    pub workdir: bool,
    pub child_pidfile: bool,
    pub pidfile: bool,
    pub status_file: bool,
    /// What else does not change what happens.
    pub others: Vec<&'static str>,
    /// An outer NOTIFY_SOCKET: nothing, one that somebody reads, one that nobody reads.
    pub above: &'static str,
}

/// The delay of `--ready delay`, and the time between tries of `--restart`.
pub const DELAY: u64 = 60;

impl Options {
    fn draw(rng: &mut Rng) -> Self {
        let renewals = ["restart", "reexec", "replace", "upgrade+replace"];
        let on_hup = match rng.percent(75) {
            true => rng.pick(&renewals),
            false => rng.pick(&["upgrade", "forward", "ignore"]),
        };
        let renews = renewals.contains(&on_hup);
        let on_usr2 =
            rng.percent(50).then(|| rng.pick(&["restart", "reexec", "replace", "upgrade", "upgrade+replace"]));
        let mut others = Vec::new();
        let unseen = [&["--log-format=json"][..], &["--group=shared"], &["--group=own"], &["--no-tether"]];
        unseen.iter().filter(|_| rng.percent(25)).for_each(|option| others.extend(*option));
        others.extend(rng.pick(&[None, Some("-v"), Some("-q")]));
        let ready = rng.pick(&["", "exec", "notify", "notify", "fd", "delay", "cmd"]);
        let mut options = Self {
            init: rng.percent(35),
            on_hup,
            on_usr2,
            ready,
            ready_timeout: rng.pick(&[1000, 2000]),
            overlap: None,
            check: rng.percent(25) && (on_hup != "ignore" || on_usr2.is_some()),
            restart: rng.pick(&["no", "on-failure", "always", "always"]),
            limit: rng.percent(15).then_some(6),
            no_restart_on: rng.percent(15),
            map_status: rng.percent(20),
            stop_signal: rng.pick(&["TERM", "TERM", "INT", "QUIT"]),
            stop_timeout: rng.percent(85).then(|| rng.pick(&[0, 50, 300, 1000])),
            kill_mode: rng.pick(&["mixed", "mixed", "process", "group"]),
            listen: rng.pick(&["", "tcp", "unix"]),
            max_age: (renews && rng.percent(10)).then_some(3000),
            watch: renews && rng.percent(30),
            env_file: rng.percent(40),
            workdir: rng.percent(25),
            child_pidfile: rng.percent(25),
            pidfile: rng.percent(50),
            status_file: rng.percent(85),
            others,
            above: rng.pick(&["", "", "read", "unread"]),
        };
        options.overlap = (options.replaces() && rng.percent(40)).then(|| rng.pick(&[20, 200]));
        options
    }

    fn actions(&self) -> impl Iterator<Item = &'static str> {
        [self.on_hup].into_iter().chain(self.on_usr2)
    }

    /// Whether there can be two generations.
    pub fn replaces(&self) -> bool {
        self.actions().any(|action| action.contains("replace"))
    }

    /// Whether HUP brings a new child.
    pub fn hup_renews(&self) -> bool {
        wants_new_child(self.on_hup)
    }
}

pub fn wants_new_child(action: &str) -> bool {
    ["restart", "reexec", "replace", "upgrade+replace"].contains(&action)
}

/// What the next children do.
#[derive(Clone)]
pub struct Plan(pub String);

impl Plan {
    /// Whether a child passes on to hupwrap what it got when it was stopped.
    pub fn echoes(&self) -> bool {
        self.0.contains("stop=echo")
    }

    /// One that gets ready at once, and serves until it is stopped.
    fn good(rng: &mut Rng, options: &Options) -> Self {
        let mut deeds = vec![(0, ready(options))];
        if rng.percent(30) {
            deeds.push((0, ready(options)));
        }
        Self::harmless(rng, options, &mut deeds);
        let stop = rng.pick(&["obey:0", "obey:0", "obey:3", "slow:4", "die", "echo:5"]);
        Self::of(deeds, stop)
    }

    /// What a child does that changes nothing about how it serves.
    fn harmless(rng: &mut Rng, options: &Options, deeds: &mut Vec<(u64, String)>) {
        for _ in 0..rng.below(4) {
            let how = match options.stop_timeout {
                Some(_) => rng.pick(&["", "setsid", "orphan", "setsid,orphan", "deaf", "deaf,setsid,orphan"]),
                None => rng.pick(&["", "setsid", "orphan", "setsid,orphan"]),
            };
            let says = [
                "STATUS~busy",
                "EXTEND_TIMEOUT_USEC~1000",
                "WATCHDOG~1",
                "RELOADING~1",
                "STOPPING~1",
                "BARRIER~1",
                "MAINPID~1",
                "junk_~_~~",
            ];
            let deed = match rng.below(4) {
                0 => format!("fork:{how}"),
                1 => format!("litter:{}", rng.pick(&[1, 5, 40])),
                2 => format!("say:{}", rng.pick(&says)),
                _ => format!("main:{}", rng.pick(&[0, 0, 7])),
            };
            // Without a word of its main process, that would be its end; and what is killed on the way leaves the next
            // main process behind, which nobody looks for under `process`.
            let is_followed = options.child_pidfile || options.ready == "notify";
            let is_lost = options.kill_mode == "process" && options.stop_timeout == Some(0);
            // A later word takes the place of an earlier one, and this one names nobody.
            if options.kill_mode == "process" && deed == "say:MAINPID~1" {
                continue;
            }
            if !deed.starts_with("main") || (is_followed && !is_lost) {
                deeds.push((rng.pick(&[0, 5, 40]), deed));
            }
        }
    }

    /// Any.
    fn draw(rng: &mut Rng, options: &Options) -> Self {
        let mut deeds = Vec::new();
        let late = rng.pick(&[0, 0, 0, 30, 150, 2500]);
        if rng.percent(85) {
            deeds.push((late, ready(options)));
        }
        Self::harmless(rng, options, &mut deeds);
        let at = rng.pick(&[0, 0, 20, 100, 400]);
        match rng.below(6) {
            0 | 1 => deeds.push((at, format!("exit:{}", rng.pick(&[0, 1, 3, 42, 143])))),
            2 => deeds.push((at, format!("die:{}", rng.pick(&[6, 9, 11, 13, 15])))),
            3 => deeds.push((at, "freeze".to_owned())),
            _ => {}
        }
        let stop = match options.stop_timeout {
            Some(_) => rng.pick(&["obey:0", "obey:3", "slow:4", "die", "deaf", "deaf", "echo:5"]),
            // Hupwrap waits for ten seconds, or for ever.
            None if rng.percent(5) => "deaf",
            None => rng.pick(&["obey:0", "obey:3", "slow:4", "die", "echo:5"]),
        };
        Self::of(deeds, stop)
    }

    fn of(mut deeds: Vec<(u64, String)>, stop: &str) -> Self {
        deeds.sort_by_key(|(at, _)| *at);
        let deeds: String = deeds.iter().map(|(at, deed)| format!("{deed}@{at} ")).collect();
        Self(format!("{deeds}stop={stop}"))
    }
}

fn ready(options: &Options) -> String {
    match options.ready {
        "fd" => "ready:9".to_owned(),
        _ => "ready".to_owned(),
    }
}

/// What can be wrong from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Env,
    Workdir,
    Program,
    Hupwrap,
    Check,
}

impl Fault {
    /// Whether it can make a request with this action fail.
    pub fn hinders(self, action: &str, options: &Options) -> bool {
        let new_child = wants_new_child(action);
        match self {
            Self::Env | Self::Workdir => new_child || options.check,
            Self::Program => new_child,
            Self::Hupwrap => action == "reexec" || action.contains("upgrade"),
            Self::Check => options.check,
        }
    }
}

#[derive(Clone)]
pub enum Step {
    Pause(u64),
    /// Signals to hupwrap, one after the other.
    Signals(Vec<&'static str>),
    /// What the next children do.
    Plan(Plan),
    /// Something is wrong from now on, in this way.
    Break(Fault, u64),
    Mend(Fault),
    /// A watched file changes, in this way.
    Touch(u64),
    /// A signal to the child, past hupwrap.
    Child(&'static str),
    /// Hupwrap is stopped by this signal, and continued after a time.
    Suspend(&'static str, u64),
    /// A waiting command with this timeout, which gets this signal after the next step.
    Client(&'static str, u64, Option<&'static str>),
    /// Somebody removes a file of hupwrap's.
    Remove(&'static str),
    /// Everything is mended, and comes to rest; then it is looked at closely, and that long again.
    Calm(Plan, u64),
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Pause(ms) => write!(f, "pause {ms}"),
            Self::Signals(signals) => write!(f, "signals {}", signals.join(" ")),
            Self::Plan(Plan(plan)) => write!(f, "plan {plan}"),
            Self::Break(fault, how) => write!(f, "break {fault:?} {how}"),
            Self::Mend(fault) => write!(f, "mend {fault:?}"),
            Self::Touch(how) => write!(f, "touch {how}"),
            Self::Child(signal) => write!(f, "child gets {signal}"),
            Self::Suspend(signal, ms) => write!(f, "suspend by {signal} for {ms}"),
            Self::Client(form, timeout, killed) => {
                write!(f, "{form} --timeout {timeout}ms, then {killed:?}")
            }
            Self::Remove(file) => write!(f, "remove {file}"),
            Self::Calm(Plan(plan), ms) => write!(f, "calm for {ms}, plan {plan}"),
        }
    }
}

/// How hupwrap is told to end.
pub struct End {
    /// What the last child does, if it is calm.
    pub plan: Plan,
    /// After everything came to rest.
    pub calm: bool,
    pub signal: &'static str,
    /// HUPs before and after it.
    pub hups: u64,
    /// By the waiting command.
    pub client: bool,
}

pub struct Life {
    pub seed: u64,
    pub options: Options,
    /// What the first child does.
    pub plan: Plan,
    pub steps: Vec<Step>,
    pub end: End,
    /// Whether it begins in this trouble.
    pub fault: Option<Fault>,
}

impl Life {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let rng = &mut rng;
        let options = Options::draw(rng);
        let plan = if rng.percent(70) { Plan::good(rng, &options) } else { Plan::draw(rng, &options) };
        let mut steps = Vec::new();
        for _ in 0..5 + rng.below(30) {
            if rng.percent(70) {
                steps.push(Step::Pause(rng.pick(&[0, 2, 10, 50, 150, 300])));
            }
            steps.push(step(rng, &options));
        }
        let end = End {
            plan: Plan::good(rng, &options),
            calm: rng.percent(50),
            signal: rng.pick(&["TERM", "TERM", "INT", "QUIT"]),
            hups: if rng.percent(30) { rng.below(20) } else { 0 },
            client: rng.percent(20) && options.status_file,
        };
        let fault = rng.percent(4).then(|| rng.pick(&[Fault::Env, Fault::Workdir, Fault::Program]));
        Self { seed, options, plan, steps, end, fault }
    }
}

fn step(rng: &mut Rng, options: &Options) -> Step {
    let common = ["HUP", "HUP", "HUP", "USR2", "USR1", "WINCH", "CONT", "ALRM", "URG", "PIPE", "RTMIN+1", "PROF"];
    let breakable = [Fault::Env, Fault::Workdir, Fault::Program, Fault::Hupwrap, Fault::Hupwrap, Fault::Check];
    match rng.below(100) {
        0..=21 => Step::Signals(vec![rng.pick(&["HUP", "HUP", "HUP", "USR2"])]),
        22..=31 => {
            let count = rng.pick(&[2, 3, 10, 60]);
            Step::Signals((0..count).map(|_| rng.pick(&common)).collect())
        }
        32..=49 => Step::Plan(if rng.percent(40) { Plan::good(rng, options) } else { Plan::draw(rng, options) }),
        50..=57 => Step::Break(rng.pick(&breakable), rng.below(4)),
        58..=63 => Step::Mend(rng.pick(&breakable)),
        64..=67 => Step::Touch(rng.below(4)),
        68..=71 => Step::Child(rng.pick(&["KILL", "KILL", "STOP", "CONT"])),
        72..=74 => Step::Suspend(rng.pick(&["STOP", "TSTP"]), rng.pick(&[0, 20, 400])),
        75..=88 => {
            let form = rng.pick(&["--reload", "--reload", "--reload", "--reload", "--wait-ready", "--status"]);
            let timeout = if rng.percent(80) { 90_000 } else { rng.pick(&[1, 50, 300]) };
            Step::Client(form, timeout, rng.percent(15).then(|| rng.pick(&["KILL", "TERM", "INT", "HUP"])))
        }
        89..=91 => Step::Remove(rng.pick(&["status", "pid", "socket"])),
        _ => Step::Calm(Plan::good(rng, options), rng.pick(&[50, 150, 400])),
    }
}
