#!/bin/sh
# Deploys a release without a gap, and goes back to the one before if the new one does not become ready.
#
#   deploy.sh DIRECTORY        DIRECTORY holds the new release, ready to run
#
# It copies DIRECTORY to /srv/app/releases/TIME, moves the link /srv/app/current there, and has hupwrap replace the
# program. hupwrap was started with a readiness that proves something (systemd/app.service):
#
#   hupwrap --status-file /run/app/status.json --on-hup replace --ready notify --workdir /srv/app/current -- ./server
#
# It exits with 0 if the new release serves, with 1 if the old one continues to serve, and with 2 if nothing was done.
# With any other status the outcome is not known: the reload may still be under way, so the link is not moved back.
set -eu

root=${APP_ROOT:-/srv/app}
status=${APP_STATUS:-/run/app/status.json}
timeout=${APP_TIMEOUT:-110s}

say() { echo "deploy: $*" >&2; }
give_up() { say "$*"; exit 2; }

# Moves the link in one step: nobody finds it missing.
point_to() {
    ln -sfn -- "$1" "$root/current.new"
    mv -T -- "$root/current.new" "$root/current"
}

if [ $# != 1 ] || [ ! -d "$1" ]; then give_up "want the directory of the new release"; fi
mkdir -p -- "$root/releases"
exec 9>"$root/deploy.lock"
flock -n 9 || give_up "another deploy is under way"

release=releases/$(date -u +%Y%m%dT%H%M%S)-$$
cp -R -- "$1" "$root/$release"

if ! old=$(readlink -- "$root/current"); then
    point_to "$release"
    say "$release is the first release; start hupwrap now"
    exit 0
fi

point_to "$release"
# Ctrl-C ends only the waiting of --reload; this script goes on.
trap : INT
code=0
hupwrap --reload "$status" --timeout "$timeout" || code=$?
case $code in
    0) say "$release serves" ;;
    1) point_to "$old"; say "$release was refused or has failed; $old continues to serve" ;;
    124) say "$release is not ready after $timeout; see hupwrap --status $status" ;;
    125) say "no hupwrap answers at $status; the next start takes $release" ;;
    *) say "the waiting for $release was interrupted; see hupwrap --status $status" ;;
esac
exit $code
