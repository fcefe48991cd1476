# bash completion for hupwrap(1)

_hupwrap()
{
    # Bash splits at = and : as well. `typed` has the words as they were typed, up to the cursor;
    # `starts` has the place of each in COMP_WORDS.
    local rest=${COMP_LINE:0:COMP_POINT} typed=() starts=() part i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ $i == 0 || $rest == [[:space:]]* ]]; then
            typed+=("")
            starts+=("$i")
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        part=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && part=$rest
        typed[-1]+=$part
        rest=${rest#"$part"}
    done

    local last=$((${#typed[@]} - 1))
    for ((i = 1; i <= last; i++)); do
        case ${typed[i]} in
            --on | --on-hup | --check | --check-timeout | --listen | --ready | --ready-timeout | --overlap | --env-file | \
                --workdir | --stop-signal | --stop-timeout | --kill-mode | --group | --parent-death | --map-status | \
                --restart | --restart-delay | --restart-max-delay | --restart-reset | --restart-limit | --no-restart-on | \
                --watch | --max-age | --pidfile | --status-file | --log-format | --reload | --stop | --status | --wait-ready | --timeout)
                if ((++i == last)); then
                    _hupwrap_value "${typed[i - 1]}" "${typed[i]}"
                    return
                fi
                ;;
            --)
                if ((++i <= last)); then
                    _hupwrap_command "${starts[i]}" "${typed[last]}"
                    return
                fi
                ;;
            -?*) ;;
            -)
                # An option begins here, if the cursor is behind it; otherwise it is the name of a program.
                ((i == last)) && break
                ;;&
            *)
                _hupwrap_command "${starts[i]}" "${typed[last]}"
                return
                ;;
        esac
    done

    case ${typed[last]} in
        --*=*) _hupwrap_value "${typed[last]%%=*}" "${typed[last]#*=}" ;;
        *)
            COMPREPLY=($(compgen -W "--on --on-hup --check --check-timeout --listen --ready --ready-timeout --overlap
                --env-file --workdir --group --stop-signal --stop-timeout --kill-mode --no-tether --parent-death
                --map-status --restart --restart-delay --restart-max-delay --restart-reset --restart-limit
                --no-restart-on --watch --max-age --pidfile --status-file --log-format -v --verbose -q --quiet --reload
                --stop --status --wait-ready --timeout -h --help -V --version" -- "${typed[last]}"))
            ;;
    esac
}

# OPTION VALUE: what VALUE can become. Bash replaces what stands behind the last = or : (if they are among its word
# breaks), and wants just that.
_hupwrap_value()
{
    local value=$2 signals="HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT TSTP
        TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS RTMIN RTMAX KILL STOP" offers=
    case $1=$2 in
        --map-status=*=*) ;;
        --map-status=*) offers=$(printf '%s= ' $signals) ;;
        --on=*=forward:* | --on=*=stop:* | --on-hup=forward:* | --on-hup=stop:*)
            value=${value##*:}
            offers=$signals
            ;;
        --on=*=* | --on-hup=*)
            value=${value#*=}
            offers="restart reexec replace upgrade upgrade+replace forward forward: stop stop: ignore"
            ;;
        --on=*) offers=$(printf '%s= ' ${signals% KILL*}) ;;
        --stop-signal=* | --parent-death=*) offers=$signals ;;
        --stop-timeout=* | --check-timeout=* | --ready-timeout=* | --timeout=*) offers="never 5s 10s 30s 1m" ;;
        --overlap=* | --restart-delay=* | --restart-max-delay=* | --restart-reset=*) offers="5s 10s 30s 1m" ;;
        --max-age=*) offers="1h 12h 24h 7d" ;;
        --restart=*) offers="no on-failure always" ;;
        --no-restart-on=*)
            value=${value##*,}
            offers=$signals
            ;;
        --log-format=*) offers="text json" ;;
        --listen=*)
            value=${value#*=}
            offers="tcp: udp: unix:"
            ;;
        --ready=*) offers="exec notify fd: delay: tcp: cmd:" ;;
        --env-file=* | --watch=* | --pidfile=* | --status-file=* | --reload=* | --stop=* | --status=* | --wait-ready=*)
            _hupwrap_files -f "$value"
            return
            ;;
        --workdir=*)
            _hupwrap_files -d "$value"
            return
            ;;
        --kill-mode=*) offers="mixed process group" ;;
        --group=*) offers="own shared" ;;
    esac
    local head=${typed[last]%"$value"} breaks=${COMP_WORDBREAKS//[^=:]/}
    [[ $breaks ]] && head=${head##*[$breaks]}
    [[ $value == SIG* && $offers == HUP* ]] && offers=$(printf 'SIG%s ' $offers)
    COMPREPLY=($(compgen -P "$head" -W "$offers" -- "$value"))
    [[ ${COMPREPLY[0]-} == *[=:] ]] && compopt -o nospace
    return 0
}

# TYPE VALUE: the files (-f) or directories (-d) that VALUE can become.
_hupwrap_files()
{
    local head=${typed[last]%"$2"} breaks=${COMP_WORDBREAKS//[^=:]/} cut=
    [[ $breaks && ${typed[last]} == *[$breaks]* ]] && cut=${typed[last]%"${typed[last]##*[$breaks]}"}
    mapfile -t COMPREPLY < <(compgen "$1" -P "$head" -- "$2")
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    compopt -o filenames
}

# INDEX CURRENT: completes as if the line began at COMP_WORDS[INDEX]; CURRENT is the word at the cursor.
_hupwrap_command()
{
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif (($1 == starts[last])); then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -c -d -- "$2")
    else
        compopt -o bashdefault -o default
    fi
}

complete -F _hupwrap hupwrap
