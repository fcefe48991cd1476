# fish completion for hupwrap(1)

# The wrapped command's line, as far as it is typed; false while the cursor is among hupwrap's options.
function __hupwrap_rest
    set -l words (commandline -opc)
    set -e words[1]
    set -l current (commandline -ct)
    set -l begun 0
    while test $begun = 0; and set -q words[1]
        switch $words[1]
            case --on --on-hup --check --check-timeout --listen --ready --ready-timeout --overlap --env-file --workdir \
                    --stop-signal --stop-timeout --kill-mode --group --parent-death --map-status --restart --restart-delay \
                    --restart-max-delay --restart-reset --restart-limit --no-restart-on --watch --max-age --pidfile \
                    --status-file --log-format --reload --stop --status --wait-ready --timeout
                set -q words[2]; or return 1
                set -e words[1..2]
            case --
                set begun 1
                set -e words[1]
            case -
                set begun 1
            case '-*'
                set -e words[1]
            case '*'
                set begun 1
        end
    end
    if test $begun = 0; and string match -q -- '-*' $current
        return 1
    end
    string join ' ' -- (string escape -- $words) $current
    # string join is false where there was but one word.
    return 0
end

# What the wrapped command's own completion offers.
function __hupwrap_command
    set -l rest (__hupwrap_rest); and complete -C "$rest"
end

function __hupwrap_options
    not __hupwrap_rest >/dev/null
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
        $argv[1]stop: 'the same, by this signal' \
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
    printf '%s\n' $name{tcp,udp,unix}:
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
complete -c hupwrap -n __hupwrap_options -l on -x -a '(__hupwrap_on)' -d 'Change the action of a signal'
complete -c hupwrap -n __hupwrap_options -l on-hup -x -a '(__hupwrap_actions "")' -d 'Change the action of HUP'
complete -c hupwrap -n __hupwrap_options -l check -x \
    -d 'Refuse a request unless this command exits with 0'
complete -c hupwrap -n __hupwrap_options -l check-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'How long the command of --check may take'
complete -c hupwrap -n __hupwrap_options -l listen -x -a '(__hupwrap_listen)' \
    -d 'Keep a listening socket open across restarts of the child'
complete -c hupwrap -n __hupwrap_options -l ready -x -a '(__hupwrap_ready)' -d 'When the child is ready'
complete -c hupwrap -n __hupwrap_options -l ready-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Stop a child that is not ready after this time'
complete -c hupwrap -n __hupwrap_options -l overlap -x -a '5s 10s 30s 1m' \
    -d 'How long the old and the new child both run in a replace'
complete -c hupwrap -n __hupwrap_options -l env-file -r -F \
    -d 'Add variables from a file to the environment of the child'
complete -c hupwrap -n __hupwrap_options -l workdir -x -a '(__fish_complete_directories (__hupwrap_typed))' \
    -d 'Run the child in this directory'
complete -c hupwrap -n __hupwrap_options -l stop-signal -x -a '(__hupwrap_signals "" "")' \
    -d 'The signal that asks the child to end'
complete -c hupwrap -n __hupwrap_options -l stop-timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'Send KILL to the child after this time'
complete -c hupwrap -n __hupwrap_options -l kill-mode -x -a 'mixed process group' \
    -d 'Which processes receive the stop signal'
complete -c hupwrap -n __hupwrap_options -l group -x -a 'own shared' -d 'The process group of the child'
complete -c hupwrap -n __hupwrap_options -l no-tether -d 'Keep the child running if hupwrap is killed'
complete -c hupwrap -n __hupwrap_options -l parent-death -x -a '(__hupwrap_signals "" "")' \
    -d 'The signal that hupwrap receives when the parent of hupwrap ends'
complete -c hupwrap -n __hupwrap_options -l map-status -x -a '(__hupwrap_map_status)' \
    -d 'Exit with another status than the child'
complete -c hupwrap -n __hupwrap_options -l restart -x -a 'no on-failure always' \
    -d 'When to restart the child automatically'
complete -c hupwrap -n __hupwrap_options -l restart-delay -x -a '5s 10s 30s 1m' \
    -d 'The delay before an automatic restart'
complete -c hupwrap -n __hupwrap_options -l restart-max-delay -x -a '5s 10s 30s 1m' \
    -d 'The longest delay before an automatic restart'
complete -c hupwrap -n __hupwrap_options -l restart-reset -x -a '5s 10s 30s 1m' \
    -d 'How long a child must be ready to reset the restart count'
complete -c hupwrap -n __hupwrap_options -l restart-limit -x -d 'Give up after this many automatic restarts'
complete -c hupwrap -n __hupwrap_options -l no-restart-on -x -a '(__hupwrap_statuses)' \
    -d 'Statuses and signals after which the child is never restarted'
complete -c hupwrap -n __hupwrap_options -l watch -r -F -d 'Act as on HUP when this file or directory changes'
complete -c hupwrap -n __hupwrap_options -l max-age -x -a '1h 12h 24h 7d' \
    -d 'Act as on HUP when the child was ready for this long'
complete -c hupwrap -n __hupwrap_options -l pidfile -r -F -d 'Write the pid of hupwrap to a file, and lock the file'
complete -c hupwrap -n __hupwrap_options -l status-file -r -F -d 'Write the current state to a file, as JSON'
complete -c hupwrap -n __hupwrap_options -l log-format -x -a 'text json' -d 'The format of the messages of hupwrap'
complete -c hupwrap -n __hupwrap_options -s v -l verbose -d 'Report starts, exits and signals too'
complete -c hupwrap -n __hupwrap_options -s q -l quiet -d 'Report errors only'
complete -c hupwrap -n __hupwrap_options -l reload -r -F \
    -d 'Send HUP to the hupwrap of this status file, and wait for the outcome'
complete -c hupwrap -n __hupwrap_options -l stop -r -F \
    -d 'Stop the hupwrap of this status file, and wait for the end'
complete -c hupwrap -n __hupwrap_options -l status -r -F -d 'Show the state of the hupwrap of this status file'
complete -c hupwrap -n __hupwrap_options -l wait-ready -r -F \
    -d 'Wait until the child of the hupwrap of this status file is ready'
complete -c hupwrap -n __hupwrap_options -l timeout -x -a 'never 5s 10s 30s 1m' \
    -d 'How long --reload, --stop, --status and --wait-ready wait'
complete -c hupwrap -n __hupwrap_options -s h -l help -d 'Print the help'
complete -c hupwrap -n __hupwrap_options -s V -l version -d 'Print the version'
