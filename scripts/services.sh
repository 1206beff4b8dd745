#!/usr/bin/env bash
# Runs a command with what the tests need from outside, and stops it again:
#
#   scripts/services.sh COMMAND [ARGUMENT...]
#
# PostgreSQL runs as a throw-away cluster in a temporary directory, on a free port of 127.0.0.1, never as root; the command finds it in
# PENSTOCK_TEST_POSTGRES. nginx and curl only have to be there. What is absent is installed from the distribution's packages when we are root
# or may use sudo without a password. Whatever cannot be had is said in one line, and the tests that need it skip.
#
# PENSTOCK_TEST_POSTGRES set beforehand: that server is used. PENSTOCK_SERVICES=off: nothing is installed or started.
set -euo pipefail

say() { echo "services: $*" >&2; }

if [ $# -eq 0 ]; then
    say "usage: scripts/services.sh COMMAND [ARGUMENT...]"
    exit 2
fi
if [ "${PENSTOCK_SERVICES:-on}" = off ]; then
    exec "$@"
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    as_root=(false)
fi

# install PACKAGE: quiet where it works, and with apt's own words where it does not.
install_package() {
    command -v apt-get >/dev/null || { say "no $1: this system has no apt-get; install it by hand"; return 1; }
    [ "${as_root[0]:-}" != false ] || { say "no $1: not root, and no sudo without a password"; return 1; }
    local log
    log=$(mktemp)
    say "installing $1"
    if "${as_root[@]}" apt-get update >"$log" 2>&1 \
        && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1" >>"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        tail -5 "$log" >&2
        rm -f "$log"
        say "no $1: apt-get could not install it"
        return 1
    fi
}

# The directory of the newest PostgreSQL's own programs; Debian keeps them out of PATH.
find_postgres() {
    local newest
    newest=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -name initdb 2>/dev/null | sort -V | tail -1)
    if [ -n "$newest" ]; then
        dirname "$newest"
    elif command -v initdb >/dev/null; then
        dirname "$(command -v initdb)"
    else
        return 1
    fi
}

find_nginx() { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; }

home=
child=
as_owner=()
programs=
stop() {
    trap - EXIT
    if [ -n "$home" ]; then
        if [ -s "$home/data/postmaster.pid" ]; then
            "${as_owner[@]}" "$programs/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null 2>&1 || say "PostgreSQL in $home did not stop"
        fi
        rm -rf "$home"
    fi
}
trap stop EXIT
# The command is told first; the EXIT trap stops the rest.
trap '[ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM HUP
trap ':' INT

start_postgres() {
    programs=$(find_postgres) || { install_package postgresql && programs=$(find_postgres); } || return 1
    if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
        id postgres >/dev/null 2>&1 || { say "no PostgreSQL: we are root, and there is no user postgres to run it"; return 1; }
        as_owner=(runuser -u postgres --)
    else
        as_owner=()
    fi
    home=$(mktemp -d "${TMPDIR:-/tmp}/penstock-services.XXXXXX")
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$home"
    fi
    # C.UTF-8 and no sync: what the tests see is the same, and nothing here outlives them.
    if ! (cd "$home" && "${as_owner[@]}" "$programs/initdb" -D "$home/data" -U penstock -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$home/initdb.log" 2>&1); then
        tail -5 "$home/initdb.log" >&2
        say "no PostgreSQL: initdb failed"
        return 1
    fi
    local port attempt
    for attempt in 1 2 3; do # a port that was free may be taken until PostgreSQL binds it
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        if (cd "$home" && "${as_owner[@]}" "$programs/pg_ctl" -D "$home/data" -l "$home/data/server.log" -w -t 60 \
            -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='$home' -c fsync=off -c synchronous_commit=off -c full_page_writes=off" start >/dev/null 2>&1); then
            PENSTOCK_TEST_POSTGRES="postgresql+psycopg://penstock@127.0.0.1:$port/postgres"
            export PENSTOCK_TEST_POSTGRES
            return 0
        fi
    done
    tail -5 "$home/data/server.log" >&2 || true
    say "no PostgreSQL: it did not start (attempt $attempt)"
    return 1
}

if [ -z "${PENSTOCK_TEST_POSTGRES:-}" ]; then
    start_postgres || true
fi
find_nginx || install_package nginx-light || true
command -v curl >/dev/null || install_package curl || true

# In the background, so that the traps above run while it does; with its own standard input, which bash would take away.
"$@" <&0 &
child=$!
code=0
while true; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break # `wait` also returns when a signal came
done
exit "$code"
