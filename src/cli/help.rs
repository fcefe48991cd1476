//! What `-h` and `--help` print, and how it fits a terminal. The texts are only touched when they are asked for.

/// What `-h` prints: what people use first.
const SUMMARY: &str = "\
Supervise one command: forward signals, exit as it exits, restart it on HUP.

Usage: hupwrap [OPTIONS] [--] COMMAND [ARG]...
       hupwrap --reload|--stop|--status|--wait-ready FILE [--timeout T]

Options:
      --on-hup ACTION       Change the action of HUP
      --on SIGNAL=ACTION    Change the action of a signal
      --check CMD           Refuse a request unless a command exits with 0
      --listen ADDRESS      Keep a socket open across restarts
      --ready HOW           Choose when the child counts as ready
      --env-file FILE       Add variables from a file to the environment
      --stop-signal SIG     Choose the signal that asks the child to end
      --stop-timeout T      Send KILL to a child that does not end in time
      --map-status FROM=TO  Exit with another status than the child
      --restart WHEN        Restart the child automatically: on-failure, always
      --watch PATH          Act as on HUP when a file or directory changes
      --status-file FILE    Write the current state to a file, as JSON
  -v, --verbose             Report starts, exits and signals too

With the --status-file of a running hupwrap:
      --reload FILE         Send HUP to a running hupwrap; wait for the outcome
      --stop FILE           Stop a running hupwrap; wait for the end
      --status FILE         Show the state of a running hupwrap
      --wait-ready FILE     Wait until the child of a running hupwrap is ready

ACTION       restart (default of HUP), reexec, replace, upgrade, forward, ignore
ADDRESS      tcp:HOST:PORT, udp:HOST:PORT or unix:PATH
HOW          exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD
Exit status  that of COMMAND, 128+N if signal N killed it; 124 timeout; 125 error
             in hupwrap; 126 COMMAND not executable; 127 COMMAND not found

Examples:
  $ hupwrap -- php app.php
  $ hupwrap --on-hup replace --listen 'tcp:*:8080' --ready notify -- ./server
  $ hupwrap --restart on-failure --status-file app.json -- ./app
  $ hupwrap --reload app.json

'hupwrap --help' shows every option; 'man hupwrap' explains all of it.
";

/// What `--help` prints.
const HELP: &str = "\
Supervise one command: forward signals, exit as it exits, restart it on HUP.

Usage: hupwrap [OPTIONS] [--] COMMAND [ARG]...
       hupwrap --reload|--stop|--status|--wait-ready FILE [--timeout T]

hupwrap starts COMMAND as its child. Options end at the first word that is not an option: in 'hupwrap ls -l', the -l
belongs to ls. If an option that is not repeatable is given twice, the last one counts. An option that can have no
effect is an error.

Signals:
  --on SIGNAL=ACTION
      Change the action of a signal. The actions are listed below. Repeatable.
  --on-hup ACTION
      Change the action of HUP. This is the same as --on HUP=ACTION. Default: restart.
  --check CMD
      Refuse a request unless a command exits with 0. hupwrap runs CMD before it acts on a signal; if CMD fails, the
      child is not touched. hupwrap splits CMD into words as a shell does, and runs it without a shell. For shell
      syntax, use sh -c '...'.
  --check-timeout T
      Limit how long the check may take. After T, the check is killed and the request is refused. Default: 30s.

Child:
  --listen [NAME=]ADDRESS
      Keep a socket open across restarts. hupwrap opens the socket before the first start. The child receives the
      sockets from descriptor 3 up, in the given order, with LISTEN_FDS. Repeatable.
  --ready HOW
      Choose when the child counts as ready. Default: exec; delay:1s for the new child of a replace.
  --ready-timeout T
      Stop a child that is not ready in time. In a replace, the old child then continues to serve. Default: 60s.
  --overlap T
      Run the old and the new child together for a time. This applies to a replace, after the new child is ready. If
      the new child ends within T, the replace has failed and the old child stays. Default: 0.
  --child-pidfile FILE
      Follow the main process that a file names. When the process that hupwrap started ends, the process whose pid is
      in FILE becomes the child, if it descends from that process. For commands that replace their main process or run
      in the background.
  --env-file FILE
      Add variables from a file to the environment. FILE has lines of the form NAME=VALUE, and is read again at every
      start. Repeatable; a later file overrides an earlier one.
  --workdir DIR
      Run the child in another directory. DIR is looked up again at every start, so a symbolic link that was moved
      takes effect.
  --group WHICH
      Choose the process group of the child: own or shared. Default: shared with hupwrap if hupwrap is in the
      foreground of a terminal, otherwise own.

Stopping and exit status:
  --stop-signal SIG
      Choose the signal that asks the child to end. CONT follows, so that a stopped child can react. Default: TERM.
  --stop-timeout T
      Send KILL to a child that does not end in time. 0 sends KILL at once. Default: 10s when hupwrap restarts or
      replaces the child; never when hupwrap itself is told to stop. A given T applies to both.
  --kill-mode MODE
      Choose which processes are stopped. With mixed, the child, and then every process that descends from the child.
      With process, only the child. With group, the whole process group of the child. Default: mixed.
  --no-tether
      Keep the child running if hupwrap is killed. By default, the kernel then sends TERM to the child.
  --parent-death SIG
      Send hupwrap a signal when the parent of hupwrap ends. Default: none.
  --map-status FROM=TO
      Exit with another status than the child. FROM is a status or a signal, TO is a status: 143=0, TERM=0.
      Repeatable.

Automatic restart:
  --restart WHEN
      Restart the child automatically: no, on-failure or always. A failure is a status other than 0, or death by a
      signal other than HUP, INT, TERM and PIPE. Default: no.
  --restart-delay T
      Set the delay before an automatic restart. The delay doubles with each consecutive restart, and up to 25 % is
      added at random. Default: 100ms.
  --restart-max-delay T
      Limit the delay before an automatic restart. Default: 1m.
  --restart-reset T
      Reset the count of restarts when a child stays ready for T. Needs --restart. Default: 1m.
  --restart-limit N[/T]
      Give up after a number of automatic restarts: N consecutive ones, or N within the last T. hupwrap then exits as
      the last child did. Needs --restart. Default: no limit.
  --no-restart-on LIST
      Never restart the child after some statuses or signals, such as 0,64,TERM. Needs --restart. Repeatable.
  --watch PATH
      Act as on HUP when a file or directory changes. hupwrap acts when nothing has changed for 200 ms. Repeatable.
  --max-age T
      Act as on HUP when the child reaches an age. The age is counted from when the child became ready; up to 10 % is
      added at random.

Monitoring:
  --pidfile FILE
      Write the pid of hupwrap to a file, and lock the file. A second hupwrap with the same FILE is an error.
  --status-file FILE
      Write the current state to a file, as JSON. hupwrap replaces FILE on every change.
  --log-format FORMAT
      Choose the format of messages: text or json. Default: text.
  -v, --verbose
      Report starts, exits and signals too.
  -q, --quiet
      Report errors only.

Without a COMMAND, with the --status-file of a running hupwrap:
  --reload FILE
      Send HUP to a running hupwrap; wait for the outcome. The exit status is 0 if the new child is ready, and 1 if
      the request was refused or has failed.
  --stop FILE
      Stop a running hupwrap; wait for the end.
  --status FILE
      Show the state of a running hupwrap. The exit status is 0 if a child is ready, and 1 if not.
  --wait-ready FILE
      Wait until the child of a running hupwrap is ready. This also waits for FILE, and for a hupwrap behind FILE.
  --timeout T
      Limit how long these four options wait. Default: 60s.

Help:
  -h
      Show the options that people use first.
  --help
      Show every option.
  -V, --version
      Show the version.

Actions (ACTION):
  restart          Stop the child, then start it again.
  reexec           Re-execute hupwrap from its program file, then restart the child.
  replace          Start a new child; when it is ready, stop the old child.
  upgrade          Re-execute hupwrap; the child keeps running.
  upgrade+replace  Re-execute hupwrap, then replace the child.
  forward[:SIG]    Send the signal, or SIG, to the child.
  stop[:SIG]       Stop the child, with SIG if given, and exit as the child exits.
  ignore           Do nothing.

HUP means restart. TERM, INT and QUIT mean stop. Nearly every other signal means forward. When the terminal is closed,
HUP means stop: a hang-up is not a reload.

Readiness (HOW):
  exec           The program has been executed.
  notify         The child sends READY=1 to NOTIFY_SOCKET, as for systemd.
  fd:N           The child writes a newline to descriptor N.
  delay:T        The child has stayed alive for T.
  tcp:HOST:PORT  A connection to this address is accepted.
  cmd:CMD        CMD exits with 0. hupwrap tries it every 250 ms.

Other values:
  ADDRESS      tcp:HOST:PORT, udp:HOST:PORT or unix:PATH[,mode=0660]
  SIG, SIGNAL  HUP, SIGHUP, hup, 1 or RTMIN+3
  T            10s, 1m30s, 250ms or a number of seconds such as 1.5; for most timeouts also never

Exit status:
  that of COMMAND  The child ended. If signal N killed the child, hupwrap is killed by N too; a shell shows 128+N.
  128+N            Signal N told hupwrap to stop while no child was running.
  124              The child was not ready in time, or --timeout has expired.
  125              hupwrap itself failed: usage, an env file, a socket, a pidfile; or no hupwrap runs behind FILE.
  126              COMMAND was found but cannot be executed.
  127              COMMAND was not found.

Environment:
  The child receives HUPWRAP_PID and HUPWRAP_GENERATION (1, 2, ...); with --listen LISTEN_FDS, LISTEN_PID,
  LISTEN_FDNAMES, SERVER_STARTER_PORT and SERVER_STARTER_GENERATION; with --ready notify NOTIFY_SOCKET. hupwrap reads
  NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, XDG_RUNTIME_DIR and NO_COLOR, and COLUMNS for this text.

Examples:
  Restart a program on HUP:
  $ hupwrap -- php app.php

  Deploy a new release without refusing a connection:
  $ hupwrap --on-hup replace --listen 'tcp:*:8080' --ready notify \\
        --status-file app.json -- ./server
  $ hupwrap --reload app.json && echo deployed

  Restart a program that crashes, and give up after 5 crashes in a minute:
  $ hupwrap --restart on-failure --restart-limit 5/1m -- ./app

  Run a program as the first process of a container:
  $ hupwrap --map-status TERM=0 --stop-timeout 8s -- ./app

'man hupwrap' explains all of it.
";

/// All of the help, or its summary, for a terminal of this many columns, if that is known.
pub(crate) fn text(all: bool, columns: Option<usize>) -> String {
    let (text, widest) = if all { (HELP, 100) } else { (SUMMARY, 80) };
    wrap(text, columns.unwrap_or(80).clamp(40, widest))
}

/// Wraps a text at this width. The lines of a paragraph have one indent. A line with a wide gap is a row of a table:
/// its text goes on below the text behind the gap. A line that begins with `$` is a command, and stays whole.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (head, body) = line.split_at(line.rfind("  ").map_or(0, |gap| gap.saturating_add(2)));
        let mut paragraph = body.to_owned();
        let goes_on = |next: &&str| {
            let same = next.strip_prefix(&*" ".repeat(head.len()));
            same.is_some_and(|next| !next.is_empty() && !next.starts_with(['$', ' ']) && !next.contains("  "))
        };
        while let Some(next) = lines.next_if(|next| !body.is_empty() && !body.starts_with('$') && goes_on(next)) {
            paragraph.push(' ');
            paragraph.push_str(next.trim_start());
        }
        let mut indent = head.len();
        let mut row = head.to_owned();
        if indent > width / 2 && !head.trim().is_empty() {
            wrapped.push_str(head.trim_end());
            wrapped.push('\n');
            indent = 8;
            row = " ".repeat(indent);
        }
        for word in paragraph.split(' ') {
            let is_first = row.len() == indent;
            if !is_first && row.len().saturating_add(word.len()) >= width && !body.starts_with('$') {
                wrapped.push_str(&row);
                wrapped.push('\n');
                row = " ".repeat(indent);
            } else if !is_first {
                row.push(' ');
            }
            row.push_str(word);
        }
        wrapped.push_str(&row);
        wrapped.push('\n');
    }
    wrapped
}
