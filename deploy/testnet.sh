#!/usr/bin/env bash
# A testnet of containers: one server and two clients that talk, through a crash of the server.
# docs/operate/testnet.md says what it shows. Needs Docker, docker-compose and a Rust toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
usage: deploy/testnet.sh [--release] [COMMAND]
  (none)  up, talk, down; takes everything down again however it ends
  up      build, start a new server, register alice and bob (an older testnet is removed first)
  talk    let both send, kill the server in between, check that every message came once, in order
  down    remove containers, volumes, network and image
END
}

# The user of the containers is a stranger to these files.
umask 022
LINES_EACH=20
# Seconds. A client hears from the restarted server that its connection is gone when it next sends,
# within 20 s; should that get lost, silence tells it after 80 s.
PATIENCE=120
SECRET_WORD=samphire
WORK=target/testnet
LOG=$WORK/log
flawless=true

say() { printf 'testnet: %s\n' "$*"; }

die() {
    printf 'testnet: %s\n' "$*" >&2
    exit 1
}

compose() { "${compose_program[@]}" --project-name quicprochat-testnet "$@" 2>>"$LOG"; }

# client NAME WORD...: one qpc command of alice or bob, in a container of its own.
client() {
    local name=$1
    shift
    compose run --rm -T "$name" --json "$@"
}

check_tools() {
    if docker-compose version >/dev/null 2>&1; then
        compose_program=(docker-compose)
    elif docker compose version >/dev/null 2>&1; then
        compose_program=(docker compose)
    else
        die "docker-compose is not installed"
    fi
    docker info >/dev/null 2>&1 || die "no docker daemon answers"
    mkdir -p "$WORK"
    : >"$LOG"
}

# The image is the programs, what `ldd` says they load, and an empty folder for data.
lay_out_image() {
    local image=$WORK/image built=${CARGO_TARGET_DIR:-target}/$profile program library
    rm -rf "$image"
    mkdir -p "$image/root/bin" "$image/owned"
    mkdir -m 700 "$image/owned/data"
    for program in qpc-server qpc; do
        strip -o "$image/root/bin/$program" "$built/$program"
        chmod 755 "$image/root/bin/$program"
        ldd "$built/$program"
    done | grep -o '/[^ ]*' | sort -u | while read -r library; do
        install -D "$library" "$image/root$library"
        # Before glibc 2.34 these plug-ins look names up, which `ldd` cannot know.
        if [ "${library##*/}" = libc.so.6 ]; then
            for library in "${library%/*}"/libnss_{dns,files}.so.2; do
                [ ! -e "$library" ] || install -D "$library" "$image/root$library"
            done
        fi
    done
}

build() {
    local flags=()
    [ "$profile" = debug ] || flags=(--release)
    cargo build --locked --workspace --bins "${flags[@]}"
    lay_out_image
    # The classic builder needs no plug-in; nothing here wants the new one.
    DOCKER_BUILDKIT=0 compose build server >>"$LOG"
}

# wait_ready N: until the server has said for the Nth time that it serves.
wait_ready() {
    local deadline=$((SECONDS + PATIENCE))
    until [ "$(compose logs --no-color server | grep -c 'ready qpc://server:4810/')" -ge "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || die "the server does not get ready"
        sleep 0.2
    done
}

start_server() {
    compose up -d --no-deps --no-build server >>"$LOG"
    wait_ready "$1"
}

up() {
    say "building ($profile)"
    build
    remove
    say "starting the server, registering alice and bob by invite"
    compose run --rm -T --no-deps server init --data-dir /data --host server >>"$LOG"
    start_server 1
    local name invite
    for name in alice bob; do
        invite=$(compose exec -T server /bin/qpc-server invite --data-dir /data)
        client "$name" register "$name" --server "$invite" >>"$LOG"
    done
    client alice dm bob >>"$LOG"
}

crash_server() {
    local starts
    starts=$(compose logs --no-color server | grep -c 'ready qpc://')
    say "the server is killed and started again"
    compose kill -s KILL server
    start_server $((starts + 1))
}

# write_lines FD FILE: the file's lines as input of a running `send`.
write_lines() { cat "$2" >&"$1"; }

# read_accepted FD N: until `send` has told that N more messages are on the server's disk.
read_accepted() {
    local left=$2 line
    while [ "$left" -gt 0 ]; do
        read -r -t "$PATIENCE" line <&"$1" || die "$left messages were not accepted"
        [[ $line != *'"state":"accepted"'* ]] || left=$((left - 1))
    done
}

# exchange FROM TO HALF_WAY: a sender and a listening receiver; after half of the messages are
# accepted, HALF_WAY is run while both go on.
exchange() {
    local from=$1 to=$2 half_way=$3 half=$((LINES_EACH / 2)) dir=$WORK/$1-$2
    local input output i receiver sender
    rm -rf "$dir"
    mkdir "$dir"
    for ((i = 1; i <= LINES_EACH; i++)); do
        echo "$from $i: grüße, $SECRET_WORD $RANDOM$RANDOM"
    done >"$dir/sent"
    head -n "$half" "$dir/sent" >"$dir/first"
    tail -n +$((half + 1)) "$dir/sent" >"$dir/second"
    mkfifo "$dir/input" "$dir/output"
    say "$from sends $LINES_EACH messages to $to"
    client "$to" recv --count "$LINES_EACH" --timeout "$PATIENCE" \
        </dev/null >"$dir/received.json" &
    receiver=$!
    client "$from" send "$to" --lines --timeout "$PATIENCE" <"$dir/input" >"$dir/output" &
    sender=$!
    exec {input}>"$dir/input" {output}<"$dir/output"
    write_lines "$input" "$dir/first"
    read_accepted "$output" "$half"
    "$half_way"
    write_lines "$input" "$dir/second"
    exec {input}>&-
    read_accepted "$output" $((LINES_EACH - half))
    exec {output}<&-
    wait "$sender" || die "$from's send failed"
    wait "$receiver" || flawless=false
    # What comes after the last one asked for is a double.
    client "$to" recv </dev/null >>"$dir/received.json"
    grep '"state":"received"' "$dir/received.json" |
        sed 's/.*"text":"\([^"]*\)".*/\1/' >"$dir/received" || true
}

# The server's files and log hold no word of what was said.
check_opaque() {
    local stored=$WORK/server.tar
    docker cp "$(compose ps -q server):/data" - >"$stored"
    compose logs --no-color server >>"$stored"
    grep -aq 'server\.db' "$stored" || die "the server's files could not be read"
    ! grep -aq "$SECRET_WORD" "$stored" || die "the server stored or logged plaintext"
    rm "$stored"
}

talk() {
    [ -n "$(compose ps -q server)" ] || die "none is up: deploy/testnet.sh up"
    exchange alice bob crash_server
    exchange bob alice true
    check_opaque
    count
}

# What arrived against what was sent, as figures.
count() {
    local sent=0 received=0 lost=0 doubled=0 pair dir distinct
    for pair in alice-bob bob-alice; do
        dir=$WORK/$pair
        distinct=$(sort -u "$dir/received" | wc -l)
        sent=$((sent + $(wc -l <"$dir/sent")))
        received=$((received + $(wc -l <"$dir/received")))
        lost=$((lost + $(comm -23 <(sort "$dir/sent") <(sort "$dir/received") | wc -l)))
        doubled=$((doubled + $(wc -l <"$dir/received") - distinct))
        cmp -s "$dir/sent" "$dir/received" || flawless=false
    done
    say "$sent sent, $received received, $lost lost, $doubled doubled"
    "$flawless" || die "FAILED: not exactly what was sent, in order and in time; see $WORK"
}

# remove FLAG...: containers, also of clients that still run, volumes, network and old images.
remove() {
    compose down --volumes --remove-orphans --timeout 5 "$@" >>"$LOG"
    docker image prune --force --filter label=org.quicprochat.image=testnet >>"$LOG"
}

down() {
    remove --rmi all
    rm -rf "$WORK/image"
}

# shellcheck disable=SC2317 # Called by the trap.
finish() {
    local status=$?
    trap - EXIT
    jobs -p | xargs -r kill 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        compose logs --no-color --tail 20 server >>"$LOG" || true
        printf 'testnet: failed; the end of %s:\n' "$LOG" >&2
        tail -n 40 "$LOG" >&2
    fi
    if [ "$command" = all ] || { [ "$command" = up ] && [ "$status" -ne 0 ]; }; then
        down || say "something is left: see $LOG"
    fi
    exit "$status"
}

profile=debug
if [ "${1-}" = --release ]; then
    profile=release
    shift
fi
command=${1-all}
case $command in
all | up | talk | down) ;;
*)
    usage >&2
    exit 2
    ;;
esac
check_tools
trap finish EXIT
trap 'exit 130' INT TERM
case $command in
all)
    up
    talk
    ;;
*) "$command" ;;
esac
