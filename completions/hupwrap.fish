# fish completion for hupwrap(1)

# Reads the line up to the cursor: sets $used, hupwrap's options, and $rest, the wrapped command's line as far as it is
# typed. It is false while the cursor is among hupwrap's options.
function __hupwrap_read -S
    set -l words (commandline -opc)
    set -e words[1]
    set -l current (commandline -ct)
    set -l begun 0
    while test $begun = 0; and set -q words[1]
        switch $words[1]
            case --on --on-hup --check --check-timeout --listen --ready --ready-timeout --overlap --child-pidfile \
                    --env-file --workdir --stop-signal --stop-timeout --kill-mode --group --parent-death --map-status \
                    --restart --restart-delay --restart-max-delay --restart-reset --restart-limit --no-restart-on \
                    --watch --max-age --pidfile --status-file --log-format --reload --stop --status --wait-ready --timeout
                # While its value is typed, the option is not yet used.
                set -q words[2]; or return 1
                set -a used $words[1]
                set -e words[1..2]
            case --
                set begun 1
                set -e words[1]
            case -
                set begun 1
            case '-*'
                set -a used (string replace -r '=.*' '' -- $words[1])
                set -e words[1]
            case '*'
                set begun 1
        end
    end
    if test $begun = 0; and string match -q -- '-*' $current
        return 1
    end
    set rest (string join ' ' -- (string escape -- $words) $current)
    return 0
end

# What the wrapped command's own completion offers; behind an option that needs no COMMAND, what else stands there.
function __hupwrap_command
    set -l used
    set -l rest
    __hupwrap_read; or return
    for option in $used
        switch $option
            case --reload --stop --status --wait-ready --timeout
                test -z "$rest"; and complete -C (commandline -cp)-
                return
        end
    end
    complete -C "$rest"
end

# OPTION...: whether the first of these is offered: none of them was used, and none that excludes it.
function __hupwrap_can
    set -l used
    set -l rest
    __hupwrap_read; and return 1
    for option in $used
        switch $option
            case -h --help -V --version $argv
                return 1
            case --reload --stop --status --wait-ready
                test "$argv[1]" = --timeout; or return 1
            case --timeout
                contains -- "$argv[1]" --reload --stop --status --wait-ready; or return 1
            case '*'
                contains -- "$argv[1]" --reload --stop --status --wait-ready --timeout; and return 1
        end
    end
    return 0
end

# What is typed of an option's value.
function __hupwrap_typed
    commandline -ct | string replace -r '^--[a-z-]+=' ''
end

# The signals, each with $argv[1] in front and $argv[2] behind.
function __hupwrap_signals
    set -l front $argv[1]
    string match -q -- "$front"'SIG*' (__hupwrap_typed); and set front "$front"SIG
    set -l names HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT TSTP TTIN TTOU \
        URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS RTMIN RTMAX
    # Those that no program can catch are not for --on SIGNAL=.
    test "$argv[3]" = catchable; or set -a names KILL STOP
    printf '%s\n' $front$names$argv[2]
end

# The actions, with $argv[1] in front.
function __hupwrap_actions
    set -l with (__hupwrap_typed | string match -r '^(?:[^=]*=)?(?:forward|stop):')
    if set -q with[1]
        __hupwrap_signals $with ''
        return
    end
    printf '%s\t%s\n' \
        $argv[1]restart 'stop the child, then start it again' \
        $argv[1]reexec 're-execute hupwrap, then restart the child' \
        $argv[1]replace 'start a new child; when it is ready, stop the old one' \
        $argv[1]upgrade 're-execute hupwrap; the child keeps running' \
        $argv[1]upgrade+replace 're-execute hupwrap, then replace the child' \
        $argv[1]forward 'send the signal to the child' \
        $argv[1]forward: 'send another signal to the child' \
        $argv[1]stop 'stop the child and exit as it exits' \
        $argv[1]stop: 'stop the child with another signal' \
        $argv[1]ignore 'do nothing'
end

# SIGNAL=, then SIGNAL=ACTION.
function __hupwrap_on
    set -l signal (__hupwrap_typed | string match -r '^[^=]*=')
    if set -q signal[1]
        __hupwrap_actions $signal
    else
        __hupwrap_signals '' = catchable
    end
end

# NAME= may stand in front.
function __hupwrap_listen
    set -l name (__hupwrap_typed | string match -r '^[^=:]*='); or set name ''
    set -l path (__hupwrap_typed | string match -r '^(?:[^=:]*=)?unix:(.*)')[2]
    and printf '%s\n' $name"unix:"(complete -C "'' $path" | string replace -r '\t.*' '')
    or printf '%s\n' $name{tcp,udp,unix}:
end

function __hupwrap_kill_mode
    printf '%s\t%s\n' \
        mixed 'the child, then every process that descends from the child' \
        process 'only the child' \
        group 'the process group of the child'
end

function __hupwrap_ready
    printf '%s\t%s\n' \
        exec 'the program was executed' \
        notify 'the child sends READY=1 to NOTIFY_SOCKET' \
        fd: 'the child writes a newline to this descriptor' \
        delay: 'the child has stayed alive for this long' \
        tcp: 'a connection to this address is accepted' \
        cmd: 'this command exits with 0'
end

# FROM=; TO is a number.
function __hupwrap_map_status
    string match -q '*=*' -- (__hupwrap_typed); or __hupwrap_signals '' =
end

# Statuses and signals, with commas between; what stands before the last comma stays.
function __hupwrap_statuses
    set -l before (__hupwrap_typed | string match -r '^.*,'); or set before ''
    __hupwrap_signals $before ''
end

complete -c hupwrap -f -a '(__hupwrap_command)'
complete -c hupwrap -n __hupwrap_can -l on -x -a '(__hupwrap_on)' -d 'Change the action of a signal'
complete -c hupwrap -n '__hupwrap_can --on-hup' -l on-hup -x -a '(__hupwrap_actions "")' -d 'Change the action of HUP'
complete -c hupwrap -n '__hupwrap_can --check' -l check -x -d 'Refuse a request unless a command exits with 0'
complete -c hupwrap -n '__hupwrap_can --check-timeout' -l check-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Limit how long the check may take'
complete -c hupwrap -n __hupwrap_can -l listen -x -a '(__hupwrap_listen)' \
    -d 'Keep a socket open across restarts'
complete -c hupwrap -n '__hupwrap_can --ready' -l ready -x -a '(__hupwrap_ready)' \
    -d 'Choose when the child counts as ready'
complete -c hupwrap -n '__hupwrap_can --ready-timeout' -l ready-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Stop a child that is not ready in time'
complete -c hupwrap -n '__hupwrap_can --overlap' -l overlap -x -a '5s 10s 30s 1m' \
    -d 'Run the old and the new child together for a time'
complete -c hupwrap -n '__hupwrap_can --child-pidfile' -l child-pidfile -r -F \
    -d 'Follow the main process that a file names'
complete -c hupwrap -n __hupwrap_can -l env-file -r -F -d 'Add variables from a file to the environment'
complete -c hupwrap -n '__hupwrap_can --workdir' -l workdir -x -a '(__fish_complete_directories (__hupwrap_typed))' \
    -d 'Run the child in another directory'
complete -c hupwrap -n '__hupwrap_can --group' -l group -x -a 'own shared' -d 'Choose the process group of the child'
complete -c hupwrap -n '__hupwrap_can --stop-signal' -l stop-signal -x -a '(__hupwrap_signals "" "")' \
    -d 'Choose the signal that asks the child to end'
complete -c hupwrap -n '__hupwrap_can --stop-timeout' -l stop-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Send KILL to a child that does not end in time'
complete -c hupwrap -n '__hupwrap_can --kill-mode' -l kill-mode -x -a '(__hupwrap_kill_mode)' \
    -d 'Choose which processes are stopped'
complete -c hupwrap -n '__hupwrap_can --no-tether' -l no-tether -d 'Keep the child running if hupwrap is killed'
complete -c hupwrap -n '__hupwrap_can --parent-death' -l parent-death -x -a '(__hupwrap_signals "" "")' \
    -d 'Send hupwrap a signal when the parent of hupwrap ends'
complete -c hupwrap -n __hupwrap_can -l map-status -x -a '(__hupwrap_map_status)' \
    -d 'Exit with another status than the child'
complete -c hupwrap -n '__hupwrap_can --restart' -l restart -x -a 'no on-failure always' \
    -d 'Restart the child automatically'
complete -c hupwrap -n '__hupwrap_can --restart-delay' -l restart-delay -x -a '5s 10s 30s 1m' \
    -d 'Set the delay before an automatic restart'
complete -c hupwrap -n '__hupwrap_can --restart-max-delay' -l restart-max-delay -x -a '5s 10s 30s 1m' \
    -d 'Limit the delay before an automatic restart'
complete -c hupwrap -n '__hupwrap_can --restart-reset' -l restart-reset -x -a '5s 10s 30s 1m' \
    -d 'Reset the count of restarts when a child stays ready'
complete -c hupwrap -n '__hupwrap_can --restart-limit' -l restart-limit -x -a '5 5/1m' \
    -d 'Give up after a number of automatic restarts'
complete -c hupwrap -n __hupwrap_can -l no-restart-on -x -a '(__hupwrap_statuses)' \
    -d 'Never restart the child after some statuses or signals'
complete -c hupwrap -n __hupwrap_can -l watch -r -F -d 'Act as on HUP when a file or directory changes'
complete -c hupwrap -n '__hupwrap_can --max-age' -l max-age -x -a '1h 12h 24h 7d' \
    -d 'Act as on HUP when the child reaches an age'
complete -c hupwrap -n '__hupwrap_can --pidfile' -l pidfile -r -F \
    -d 'Write the pid of hupwrap to a file, and lock the file'
complete -c hupwrap -n '__hupwrap_can --status-file' -l status-file -r -F \
    -d 'Write the current state to a file, as JSON'
complete -c hupwrap -n '__hupwrap_can --log-format' -l log-format -x -a 'text json' -d 'Choose the format of messages'
complete -c hupwrap -n '__hupwrap_can -v --verbose -q --quiet' -s v -l verbose \
    -d 'Report starts, exits and signals too'
complete -c hupwrap -n '__hupwrap_can -q -v --verbose --quiet' -s q -l quiet -d 'Report errors only'
complete -c hupwrap -n '__hupwrap_can --reload' -l reload -r -F \
    -d 'Send HUP to a running hupwrap; wait for the outcome'
complete -c hupwrap -n '__hupwrap_can --stop' -l stop -r -F -d 'Stop a running hupwrap; wait for the end'
complete -c hupwrap -n '__hupwrap_can --status' -l status -r -F -d 'Show the state of a running hupwrap'
complete -c hupwrap -n '__hupwrap_can --wait-ready' -l wait-ready -r -F \
    -d 'Wait until the child of a running hupwrap is ready'
complete -c hupwrap -n '__hupwrap_can --timeout' -l timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Limit how long --reload, --stop, --status and --wait-ready wait'
complete -c hupwrap -n '__hupwrap_can -h' -s h -d 'Show the options that people use first'
complete -c hupwrap -n '__hupwrap_can --help' -l help -d 'Show every option'
complete -c hupwrap -n '__hupwrap_can --version' -s V -l version -d 'Show the version'
