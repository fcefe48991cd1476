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

    local repeatable="--on --listen --env-file --map-status --no-restart-on --watch"
    local once="--on-hup --check --check-timeout --ready --ready-timeout --overlap --child-pidfile --workdir --group
        --stop-signal --stop-timeout --kill-mode --parent-death --restart --restart-delay --restart-max-delay
        --restart-reset --restart-limit --max-age --pidfile --status-file --log-format"
    local switches="--no-tether -v --verbose -q --quiet" help="-h --help -V --version"
    local forms="--reload --stop --status --wait-ready"
    local valued=" ${once//$'\n'/ } $repeatable $forms --timeout "

    # `used` has the options in front of the cursor; `alone` has one that needs no COMMAND.
    local last=$((${#typed[@]} - 1)) used=" " alone= word
    for ((i = 1; i <= last; i++)); do
        word=${typed[i]}
        case $word in
            --)
                ((++i > last)) || [[ $alone ]] && break
                _hupwrap_command "${starts[i]}" "${typed[last]}"
                return
                ;;
            -?*)
                ((i < last)) && used+="${word%%=*} "
                [[ " $forms --timeout " == *" ${word%%=*} "* ]] && alone=$word
                if [[ $valued == *" $word "* ]] && ((++i == last)); then
                    _hupwrap_value "$word" "${typed[i]}"
                    return
                fi
                ;;
            -)
                # An option begins here, if the cursor is behind it; otherwise it is the name of a program.
                ((i == last)) && break
                ;;&
            *)
                [[ $alone ]] && break
                _hupwrap_command "${starts[i]}" "${typed[last]}"
                return
                ;;
        esac
    done

    if [[ ${typed[last]} == --*=* ]]; then
        _hupwrap_value "${typed[last]%%=*}" "${typed[last]#*=}"
        return
    fi
    local offers=
    case $used in
        " ") offers="$repeatable $once $switches $forms --timeout $help" ;;
        *" -h "* | *" --help "* | *" -V "* | *" --version "*) ;;
        *" --reload "* | *" --stop "* | *" --status "* | *" --wait-ready "*) offers=--timeout ;;
        *" --timeout "*) offers=$forms ;;
        *) offers="$repeatable $once $switches $help" ;;
    esac
    # One of these excludes the others.
    case $used in *" -v "* | *" --verbose "* | *" -q "* | *" --quiet "*) used+="-v --verbose -q --quiet " ;; esac
    for word in $offers; do
        [[ $used == *" $word "* && " $repeatable " != *" $word "* ]] && continue
        [[ $word == "${typed[last]}"* ]] && COMPREPLY+=("$word")
    done
    return 0
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
            if [[ $value == unix:* ]]; then
                _hupwrap_files -f "${value#unix:}"
                return
            fi
            offers="tcp: udp: unix:"
            ;;
        --ready=*) offers="exec notify fd: delay: tcp: cmd:" ;;
        --child-pidfile=* | --env-file=* | --watch=* | --pidfile=* | --status-file=* | \
            --reload=* | --stop=* | --status=* | --wait-ready=*)
            _hupwrap_files -f "$value"
            return
            ;;
        --workdir=*)
            _hupwrap_files -d "$value"
            return
            ;;
        --kill-mode=*) offers="mixed process group" ;;
        --group=*) offers="own shared" ;;
        --restart-limit=*) offers="5 5/1m" ;;
    esac
    local head=${typed[last]%"$value"} breaks=${COMP_WORDBREAKS//[^=:]/}
    [[ $breaks ]] && head=${head##*[$breaks]}
    [[ $value == SIG* && $offers == HUP* ]] && offers=$(printf 'SIG%s ' $offers)
    # None of the words that end with a break goes on behind it.
    [[ $value == *: ]] && return
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
