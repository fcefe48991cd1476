//! The completions, each in its own shell: what is offered for a line as it is typed, TAB at its end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "these are tests: they run shells and read the environment, and fail by panicking"
)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use hupwrap::cli::Args;

use crate::support::{installed, skipped};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/completions");

/// Far beyond what a shell needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The long flags, and whether a value follows.
fn flags() -> Vec<(String, bool)> {
    let flag = |arg: &clap::Arg| Some((format!("--{}", arg.get_long()?), arg.get_action().takes_values()));
    Args::command().get_arguments().filter_map(flag).collect()
}

/// What must be offered.
enum Want {
    /// These and nothing else, in any order.
    Just(Vec<String>),
    /// Names of programs, the toy's among them, and no option.
    Programs,
}

fn just(offers: &str) -> Want {
    Want::Just(offers.split_whitespace().map(str::to_owned).collect())
}

/// What each line must offer, whatever the shell: what can stand behind the last `=` or `:` of the word.
/// The wrapped command is `toyexample`, whose own completion offers `--sum` and `su.N.WORD`: the number of words it was
/// given, and the last but one.
fn cases() -> Vec<(String, Want)> {
    let flags = flags().into_iter().map(|(flag, _)| flag).collect::<Vec<_>>().join(" ");
    let actions = "restart reexec replace upgrade upgrade+replace forward forward: stop stop: ignore";
    let samples = "never 5s 10s 30s 1m";
    let kinds = "exec notify fd: delay: tcp: cmd:";
    let toy = "su.2.toyexample";
    let forms = "--reload --stop --status --wait-ready --timeout";
    let unused = |used: &str| {
        let used: Vec<&str> = used.split(' ').chain(forms.split(' ')).collect();
        flags.split(' ').filter(|flag| !used.contains(flag)).collect::<Vec<_>>().join(" ")
    };
    let mut cases = vec![
        // The flags before the command.
        ("hupwrap --", just(&flags)),
        ("hupwrap -", just(&format!("{flags} -v -q -h -V"))),
        ("hupwrap --no-tether --g", just("--group")),
        ("hupwrap --on USR1=stop --on=HUP=stop --on", just("--on --on-hup")),
        // Once, unless they are repeatable.
        ("hupwrap --on-hup stop --on", just("--on")),
        ("hupwrap --on-hup=stop --on", just("--on")),
        ("hupwrap --pidfile x --status-file y --p", just("--parent-death")),
        ("hupwrap --env-file x --listen tcp::1 --env-file y --l", just("--listen --log-format")),
        ("hupwrap -v --no-tether --", just(&unused("--no-tether --verbose --quiet"))),
        ("hupwrap --quiet -", just(&format!("{} -h -V", unused("--quiet --verbose")))),
        // What needs no command stands alone.
        ("hupwrap --workdir toydirectory --s", just("--stop-signal --stop-timeout --status-file")),
        ("hupwrap --reload toyexample -", just("--timeout")),
        ("hupwrap --stop=toyexample --timeout 5 -", just("")),
        ("hupwrap --timeout 5 -", just("--reload --stop --status --wait-ready")),
        ("hupwrap --timeout 5 ", just("--reload --stop --status --wait-ready")),
        ("hupwrap --reload toyexample ", just("--timeout")),
        ("hupwrap --reload toyexample --timeout 5 ", just("")),
        ("hupwrap --wait-ready toyexample toyex", just("")),
        ("hupwrap --help -", just("")),
        ("hupwrap --group own --stop-", just("--stop-signal --stop-timeout")),
        // Their values.
        ("hupwrap --kill-mode ", just("mixed process group")),
        ("hupwrap --kill-mode=", just("mixed process group")),
        ("hupwrap --kill-mode=mi", just("mixed")),
        ("hupwrap --group ", just("own shared")),
        ("hupwrap --group=s", just("shared")),
        ("hupwrap --stop-timeout ", just(samples)),
        ("hupwrap --stop-timeout=", just(samples)),
        ("hupwrap --check-timeout ", just(samples)),
        ("hupwrap --ready-timeout=", just(samples)),
        ("hupwrap --overlap 1", just("10s 1m")),
        ("hupwrap --check toyex", just("")),
        ("hupwrap --ready ", just(kinds)),
        ("hupwrap --ready=", just(kinds)),
        ("hupwrap --ready=d", just("delay:")),
        ("hupwrap --listen ", just("tcp: udp: unix:")),
        ("hupwrap --listen=u", just("udp: unix:")),
        ("hupwrap --listen web=", just("tcp: udp: unix:")),
        ("hupwrap --listen=web=t", just("tcp:")),
        ("hupwrap --listen unix:toyex", just("toyexample")),
        ("hupwrap --listen=web=unix:toy", just("toydirectory toyexample")),
        ("hupwrap --child-pidfile toyex", just("toyexample")),
        ("hupwrap --child-pidfile=toy", just("toydirectory toyexample")),
        ("hupwrap --env-file toy", just("toydirectory toyexample")),
        ("hupwrap --env-file=toyex", just("toyexample")),
        ("hupwrap --workdir toy", just("toydirectory")),
        ("hupwrap --workdir=toy", just("toydirectory")),
        ("hupwrap --restart ", just("no on-failure always")),
        ("hupwrap --restart=on", just("on-failure")),
        ("hupwrap --restart-delay 1", just("10s 1m")),
        ("hupwrap --restart-limit ", just("5 5/1m")),
        ("hupwrap --no-restart-on TER", just("TERM")),
        ("hupwrap --no-restart-on=SIGTER", just("SIGTERM")),
        ("hupwrap --watch toy", just("toydirectory toyexample")),
        ("hupwrap --watch=toyex", just("toyexample")),
        ("hupwrap --max-age 1", just("1h 12h")),
        ("hupwrap --log-format ", just("text json")),
        ("hupwrap --log-format=j", just("json")),
        ("hupwrap --pidfile toy", just("toydirectory toyexample")),
        ("hupwrap --status-file=toyex", just("toyexample")),
        ("hupwrap --reload toyex", just("toyexample")),
        ("hupwrap --stop=toyex", just("toyexample")),
        ("hupwrap --status toyex", just("toyexample")),
        ("hupwrap --wait-ready toyex", just("toyexample")),
        ("hupwrap --reload toyexample --time", just("--timeout")),
        ("hupwrap --timeout ", just(samples)),
        // Actions.
        ("hupwrap --on-hup ", just(actions)),
        ("hupwrap --on-hup=", just(actions)),
        ("hupwrap --on-hup up", just("upgrade upgrade+replace")),
        ("hupwrap --on USR1=", just(actions)),
        ("hupwrap --on=USR1=", just(actions)),
        ("hupwrap --on USR1=re", just("restart reexec replace")),
        ("hupwrap --on=USR1=re", just("restart reexec replace")),
        ("hupwrap --on USR1=stop --on=USR2=ig", just("ignore")),
        // Signals.
        ("hupwrap --on US", just("USR1= USR2=")),
        ("hupwrap --on=US", just("USR1= USR2=")),
        ("hupwrap --on SIGUS", just("SIGUSR1= SIGUSR2=")),
        ("hupwrap --on KIL", just("")),
        ("hupwrap --stop-signal KIL", just("KILL")),
        ("hupwrap --stop-signal=SIGKIL", just("SIGKILL")),
        ("hupwrap --parent-death TER", just("TERM")),
        ("hupwrap --parent-death=RTM", just("RTMIN RTMAX")),
        ("hupwrap --map-status TER", just("TERM=")),
        ("hupwrap --map-status=TER", just("TERM=")),
        ("hupwrap --map-status TERM=", just("")),
        ("hupwrap --on-hup forward:T", just("TRAP TERM TSTP TTIN TTOU")),
        ("hupwrap --on-hup=stop:KIL", just("KILL")),
        ("hupwrap --on USR1=forward:T", just("TRAP TERM TSTP TTIN TTOU")),
        ("hupwrap --on=USR1=stop:SIGQ", just("SIGQUIT")),
        ("hupwrap --on-hup restart:T", just("")),
        // The command.
        ("hupwrap ", Want::Programs),
        ("hupwrap -- ", Want::Programs),
        ("hupwrap --group own ", Want::Programs),
        ("hupwrap --on USR1=stop --no-tether -- ", Want::Programs),
        ("hupwrap toyex", just("toyexample")),
        ("hupwrap ./toyex", just("toyexample")),
        ("hupwrap -- toyex", just("toyexample")),
        ("hupwrap --on=USR1=forward:TERM toyex", just("toyexample")),
        // Behind the command, its own completion.
        ("hupwrap toyexample su", just(toy)),
        ("hupwrap -- toyexample su", just(toy)),
        ("hupwrap --group own -- toyexample su", just(toy)),
        ("hupwrap --on USR1=stop toyexample su", just(toy)),
        ("hupwrap --on=USR1=stop:TERM --on USR2=forward:INT toyexample su", just(toy)),
        ("hupwrap --no-tether -- toyexample su", just(toy)),
        ("hupwrap ./toyexample su", just("su.2../toyexample")),
        ("hupwrap toyexample a -- su", just("su.4.--")),
        ("hupwrap -- toyexample -- su", just("su.3.--")),
        ("hupwrap --group own toyexample --group su", just("su.3.--group")),
        // hupwrap's own options mean nothing there.
        ("hupwrap toyexample --", just("--sum")),
        ("hupwrap -- toyexample --", just("--sum")),
        ("hupwrap --group own toyexample a -", just("--sum")),
        ("hupwrap toyexample --on US", just("")),
        ("hupwrap toyexample --group s", just("su.3.--group")),
        ("hupwrap toyexample --group=own sh", just("")),
    ]
    .into_iter()
    .map(|(line, want)| (line.to_owned(), want))
    .collect::<Vec<_>>();
    for (flag, has_value) in self::flags() {
        match flag.as_str() {
            "--help" | "--version" => {}
            "--reload" | "--stop" | "--status" | "--wait-ready" | "--timeout" => {
                cases.push((format!("hupwrap {flag} value toyexample su"), just("")));
                cases.push((format!("hupwrap {flag}=value -- toyexample su"), just("")));
            }
            _ if has_value => {
                cases.push((format!("hupwrap {flag} value toyexample su"), just(toy)));
                cases.push((format!("hupwrap {flag}=value -- toyexample su"), just(toy)));
            }
            _ => cases.push((format!("hupwrap {flag} toyexample su"), just(toy))),
        }
    }
    cases
}

/// Compares every line before it complains.
fn check(cases: &[(String, Want)], offered: &[BTreeSet<String>]) {
    assert_eq!(cases.len(), offered.len(), "the shell did not come to its end: {offered:?}");
    let mut wrong = String::new();
    for ((line, want), offers) in cases.iter().zip(offered) {
        let (right, wanted) = match want {
            Want::Just(wanted) => (*offers == wanted.iter().cloned().collect(), format!("{wanted:?}")),
            Want::Programs => {
                let options = offers.iter().any(|offer| offer.starts_with("--"));
                (offers.contains("toyexample") && !options, "programs, toyexample among them".to_owned())
            }
        };
        if !right {
            wrong += &format!("'{line}': want {wanted}, got {:?}\n", offers.iter().take(20).collect::<Vec<_>>());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A directory with a program `toyexample` and a directory `toydirectory` in it, which is also the home of the shell;
/// it goes with its value.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let room = Self(std::env::temp_dir().join(format!("hupwrap-completions-{}-{count}", std::process::id())));
        fs::create_dir_all(room.0.join("toydirectory")).unwrap();
        let toy = room.write("toyexample", "#!/bin/sh\n");
        fs::set_permissions(toy, fs::Permissions::from_mode(0o755)).unwrap();
        room
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs a shell here, away from the user's own files, and returns what it wrote on stdout.
    fn run(&self, shell: &str, args: &[&str]) -> String {
        let mut path = OsString::from(&self.0);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(shell);
        command.args(args).current_dir(&self.0).env_clear().env("PATH", path).env("LC_ALL", "C").env("TERM", "dumb");
        for home in ["HOME", "ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(home, &self.0);
        }
        output(command)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with its value, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command until it has closed its stdout and stderr, and returns its stdout.
fn output(mut command: Command) -> String {
    let deadline = Instant::now().checked_add(LIMIT).unwrap();
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(pipes.spawn().unwrap());
    let (stdout, stderr) = (running.0.stdout.take().unwrap(), running.0.stderr.take().unwrap());
    let (stdout, stderr) = (read(stdout), read(stderr));
    let left = || deadline.saturating_duration_since(Instant::now());
    let Ok(text) = stdout.recv_timeout(left()) else { panic!("{command:?} is not done after {LIMIT:?}") };
    let Ok(errors) = stderr.recv_timeout(left()) else { panic!("{command:?} is not done after {LIMIT:?}") };
    assert_eq!(errors, "", "{command:?} complains; its stdout: {text}");
    text
}

/// Reads it to its end, aside.
fn read(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}

/// Whether a program is missing, so that its test is skipped; says so.
fn is_missing(program: &str) -> bool {
    let is_missing = installed(program).is_none();
    if is_missing {
        skipped("completions", &format!("{program} is not installed"));
    }
    is_missing
}

/// In quotes that all three shells understand; no case has quotes or backslashes of its own.
fn quoted(word: &str) -> String {
    format!("'{word}'")
}

/// The scripts write each offer as a line, and the record separator behind each case's.
fn records(text: &str) -> Vec<BTreeSet<String>> {
    let mut records = text.split("\x1e\n").map(offers).collect::<Vec<_>>();
    // What stands behind the last one.
    records.pop();
    records
}

fn offers(text: &str) -> BTreeSet<String> {
    // Some put the slash behind a directory, some leave that to the line editor.
    text.lines().filter(|line| !line.is_empty()).map(|line| line.strip_suffix('/').unwrap_or(line).to_owned()).collect()
}

/// Cuts off what was typed, up to the last `=` or `:` or a `./`, where the shell repeats it.
fn without_head(line: &str, offers: &BTreeSet<String>) -> BTreeSet<String> {
    let word = line.rsplit(' ').next().unwrap_or_default();
    let head = match word.rfind(['=', ':']) {
        Some(end) => word.get(..=end).unwrap_or_default(),
        None if word.starts_with("./") => "./",
        None => "",
    };
    offers.iter().map(|offer| offer.strip_prefix(head).unwrap_or(offer).to_owned()).collect()
}

/// The words of a line as bash puts them into COMP_WORDS: runs of word breaks are words of their own.
fn bash_words(line: &str, breaks: &[char]) -> Vec<String> {
    let mut words = Vec::new();
    for typed in line.split(' ') {
        let mut word = String::new();
        for c in typed.chars() {
            let was_break = word.chars().next().map(|first| breaks.contains(&first));
            if was_break.is_some_and(|was_break| was_break != breaks.contains(&c)) {
                words.push(std::mem::take(&mut word));
            }
            word.push(c);
        }
        words.push(word);
    }
    words
}

const BASH: &str = r#"
source "$1"
# The real one works only while a key is being handled.
compopt() {
    local IFS=' '
    options+="compopt $*"$'\n'
}
_toyexample() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=($(compgen -W "su.${#COMP_WORDS[@]}.${COMP_WORDS[COMP_CWORD - 1]} --sum" -- "$cur"))
}
complete -F _toyexample toyexample
try() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMPREPLY=() options=
    _hupwrap hupwrap "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}" "$options" $'\x1e'
}
"#;

/// What bash offers, and the `compopt` calls; begun by these lines.
fn bash(begin: &str, breaks: &[char], lines: &[&str]) -> Vec<BTreeSet<String>> {
    let room = Room::new();
    let mut script =
        format!("{begin}\n{BASH}COMP_WORDBREAKS=$' \\t\\n\"><;|&('{}\n", quoted(&breaks.iter().collect::<String>()));
    for line in lines {
        let words = bash_words(line, breaks).iter().map(|word| quoted(word)).collect::<Vec<_>>();
        script += &format!("try {} {}\n", quoted(line), words.join(" "));
    }
    let script = room.write("script", &script);
    records(&room.run("bash", &[&script.to_string_lossy(), &format!("{SCRIPTS}/hupwrap.bash")]))
}

/// The line that loads bash-completion; none where it is missing, which is said.
fn bash_completion() -> Option<String> {
    let places = ["/usr/share", "/usr/local/share"].map(|place| format!("{place}/bash-completion/bash_completion"));
    let found = places.iter().find(|place| Path::new(place).is_file());
    if found.is_none() {
        skipped("completions", "bash-completion is not installed");
    }
    found.map(|place| format!("shopt -s extglob progcomp; source {}", quoted(place)))
}

#[test]
fn in_bash() {
    if is_missing("bash") {
        return;
    }
    let Some(begin) = bash_completion() else { return };
    let cases = cases();
    let lines = cases.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>();
    let offered = bash(&begin, &['=', ':'], &lines);
    let offered = lines.iter().zip(offered).map(|(line, mut offers)| {
        offers.retain(|offer| !offer.starts_with("compopt "));
        if line.contains("./") { without_head(line, &offers) } else { offers }
    });
    check(&cases, &offered.collect::<Vec<_>>());
}

#[test]
fn in_bash_without_bash_completion() {
    if is_missing("bash") {
        return;
    }
    let lines = [
        "hupwrap --on USR1=re",
        "hupwrap toyex",
        "hupwrap -- toyexample su",
        "hupwrap toyexample --",
        "hupwrap --on US",
        // Bash replaces only what stands behind the colon: the word is not repeated.
        "hupwrap --listen tcp:",
        "hupwrap --ready=cmd:",
    ];
    let wanted = [
        "restart\nreexec\nreplace",
        "compopt -o filenames\ntoyexample",
        "compopt -o bashdefault -o default",
        "compopt -o bashdefault -o default",
        "compopt -o nospace\nUSR1=\nUSR2=",
        "",
        "",
    ];
    assert_eq!(bash("", &['=', ':'], &lines), wanted.map(offers));
}

/// Some people take `:` or `=` out of COMP_WORDBREAKS; then bash wants the word from its beginning.
#[test]
fn in_bash_with_other_word_breaks() {
    if is_missing("bash") {
        return;
    }
    let lines =
        ["hupwrap --on=USR1=forward:TE", "hupwrap --on USR1=ign", "hupwrap --kill-mode=mi", "hupwrap --on-hup=stop:TE"];
    let cases: [(&[char], [&str; 4]); 4] = [
        (&[], ["--on=USR1=forward:TERM", "USR1=ignore", "--kill-mode=mixed", "--on-hup=stop:TERM"]),
        (&['='], ["forward:TERM", "ignore", "mixed", "stop:TERM"]),
        (&[':'], ["TERM", "USR1=ignore", "--kill-mode=mixed", "TERM"]),
        (&[':', '='], ["TERM", "ignore", "mixed", "TERM"]),
    ];
    for (breaks, wanted) in cases {
        assert_eq!(bash("", breaks, &lines), wanted.map(offers), "{breaks:?}");
    }
}

const FISH: &str = r#"
complete -c toyexample -f -a '(echo su.(count (commandline -opc) x).(commandline -opc)[-1])'
complete -c toyexample -l sum
function try
    complete -C $argv[1] | string replace -r '\t.*' ''
    printf '\x1e\n'
end
"#;

#[test]
fn in_fish() {
    if is_missing("fish") {
        return;
    }
    let (cases, room) = (cases(), Room::new());
    let mut script = format!("source {}\n{FISH}", quoted(&format!("{SCRIPTS}/hupwrap.fish")));
    for (line, _) in &cases {
        script += &format!("try {}\n", quoted(line));
    }
    let script = room.write("script", &script);
    let offered = records(&room.run("fish", &["--no-config", &script.to_string_lossy()]));
    let offered = cases.iter().zip(offered).map(|((line, _), offers)| without_head(line, &offers));
    check(&cases, &offered.collect::<Vec<_>>());
}

/// zsh completes only in its line editor, which wants a terminal: a zsh that holds one (zsh/zpty) runs another in it.
/// That tries all lines when its editor begins the first, notes what `compadd` is given, and ends.
const ZSH: &str = r#"
autoload -Uz compinit
compinit -D -u
_toyexample() { compadd -- su.$CURRENT.$words[CURRENT-1] --sum }
compdef _toyexample toyexample
compadd() {
    # With -O, -A or -D it adds nothing.
    if [[ -z ${(M)@[1,(i)(-|--)]:#-[OAD]*} ]]; then
        local -a hits
        builtin compadd -A hits "$@"
        found+=("$hits[@]")
    fi
    builtin compadd "$@"
}
_find() {
    found=()
    _main_complete
    compstate[insert]= compstate[list]=
}
zle -C find complete-word _find
zle-line-init() {
    for BUFFER in "$lines[@]"; do
        CURSOR=$#BUFFER
        zle find
        print -rl -- "$found[@]" $'\x1e'
    done >offers
    exit
}
zle -N zle-line-init
"#;

const ZSH_TERMINAL: &str = r"
zmodload zsh/zpty || exit
zpty inner 'exec zsh -d -i'
# Until it has ended.
while zpty -r inner text; do :; done
";

#[test]
fn in_zsh() {
    if is_missing("zsh") {
        return;
    }
    let (cases, room) = (cases(), Room::new());
    let lines = cases.iter().map(|(line, _)| quoted(line)).collect::<Vec<_>>();
    room.write(".zshrc", &format!("fpath=({} $fpath)\nlines=({})\n{ZSH}", quoted(SCRIPTS), lines.join("\n")));
    let terminal = room.write("terminal", ZSH_TERMINAL);
    room.run("zsh", &["-f", &terminal.to_string_lossy()]);
    check(&cases, &records(&fs::read_to_string(room.0.join("offers")).unwrap_or_default()));
}
