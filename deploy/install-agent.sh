#!/bin/sh
# Makes this machine a device: installs callboard-agent, its configuration and its systemd unit, enrols, starts.
#
# Needs the enrolment bundle and, beside this script, the program callboard-agent. May be run again at any time:
# what is there already stays, a newer program replaces the older one, an enrolled device stays enrolled. If a step
# fails, what ran before keeps running.
set -eu

usage() {
    cat <<'END'
usage: install-agent.sh --bundle FILE [options]

  --bundle FILE        the enrolment bundle (callboard token create --bundle FILE)
  --name NAME          the name the device would like to have
  --product NAME=DIR   a product to be updated and its directory; may be repeated; used for a new agent.toml only
  --hw MODEL           the hardware model; used for a new agent.toml only
  --config FILE        an agent.toml to install instead of a generated one; used if there is none yet
  --program FILE       the agent's program (default: callboard-agent beside this script)
  --root DIR           install below DIR, as into an image: nothing is enrolled or started
  --no-start           enrol, but do not start the service
  --help               this text

exit codes: 0 done, 1 a step failed, 2 wrong arguments
END
}

say() {
    printf '%s\n' "install-agent: $*"
}

bad() {
    printf '%s\n' "install-agent: $*" >&2
    exit 2
}

fail() {
    printf '%s\n' "install-agent: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
bundle='' name='' hw='' config='' program="$here/callboard-agent" root='' start=yes products=''

while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --no-start) start=no; shift; continue ;;
        --bundle | --name | --hw | --product | --config | --program | --root)
            [ $# -ge 2 ] || bad "$1 needs a value; see --help" ;;
        *) bad "unknown argument: $1; see --help" ;;
    esac
    case $1 in
        --bundle) bundle=$2 ;;
        --name) name=$2 ;;
        --hw) hw=$2 ;;
        --config) config=$2 ;;
        --program) program=$2 ;;
        --root) root=${2%/} ;;
        --product)
            case $2 in
                [A-Za-z0-9]*=/*) ;;
                *) bad "--product $2: wanted is NAME=/DIRECTORY" ;;
            esac
            case $2 in
                *[!A-Za-z0-9._/=-]*) bad "--product $2: only letters, digits and . _ - / are allowed" ;;
            esac
            products="$products $2" ;;
    esac
    shift 2
done

[ -n "$bundle" ] || bad 'the enrolment bundle is missing; see --help'
[ -r "$bundle" ] || bad "cannot read the bundle $bundle"
[ -x "$program" ] || bad "there is no program at $program; put callboard-agent beside this script or name it with --program"
[ -z "$config" ] || [ -r "$config" ] || bad "cannot read the configuration $config"
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    bad 'run this as root, or with --root DIR'
fi
"$program" --version >/dev/null 2>&1 || fail "$program does not run on this machine (another architecture?)"

bin=$root/usr/local/bin/callboard-agent
etc=$root/etc/callboard
unit=$root/etc/systemd/system/callboard-agent.service
state=$root/var/lib/callboard

# Puts a file in place by one rename: there is never half of it. Says whether it changed anything.
put() { # FROM TO MODE
    if [ -f "$2" ] && cmp -s "$1" "$2"; then
        return 1
    fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    sync "$2.new" 2>/dev/null || sync
    mv -f "$2.new" "$2"
    say "installed $2"
}

generated() {
    printf '# Made by install-agent.sh. Every key is explained in the agent.toml of the distribution.\n'
    [ -z "$hw" ] || printf "hw = '%s'\n" "$hw"
    for product in $products; do
        printf '\n[products.%s]\ndirectory = "%s"\n' "${product%%=*}" "${product#*=}"
    done
}

changed=no
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The configuration first: a program that cannot read its configuration must never replace one that can.
if [ -f "$etc/agent.toml" ]; then
    cp "$etc/agent.toml" "$work/agent.toml"
elif [ -n "$config" ]; then
    cp "$config" "$work/agent.toml"
else
    generated >"$work/agent.toml"
fi
"$program" config check --config "$work/agent.toml" >/dev/null || fail 'the configuration is not valid; nothing was changed'
mkdir -p "$etc" "$(dirname "$bin")" "$(dirname "$unit")"
if [ ! -f "$etc/agent.toml" ]; then
    put "$work/agent.toml" "$etc/agent.toml" 0644 || true
fi
if put "$program" "$bin" 0755; then changed=yes; fi
if [ -f "$here/callboard-agent.service" ]; then
    if put "$here/callboard-agent.service" "$unit" 0644; then changed=yes; fi
fi
# The unit may write below /opt only; products elsewhere need a word of their own.
dropin=$unit.d/products.conf
if [ -n "$products" ]; then
    {
        printf '[Service]\n'
        for product in $products; do printf 'ReadWritePaths=-%s\n' "${product#*=}"; done
    } >"$work/products.conf"
    if put "$work/products.conf" "$dropin" 0644; then changed=yes; fi
fi
mkdir -p "$state"
chmod 0700 "$state"

if [ -n "$root" ]; then
    say "installed below $root; enrol on the device itself: callboard-agent enrol --bundle FILE"
    exit 0
fi

if [ -f "$state/device.json" ]; then
    say 'enrolled already'
else
    "$bin" enrol --config "$etc/agent.toml" --bundle "$bundle" ${name:+--name "$name"} ||
        fail 'enrolment failed, see above; run this again when the cause is gone'
fi

if [ "$start" = no ]; then
    exit 0
fi
if ! command -v systemctl >/dev/null 2>&1 || [ ! -d /run/systemd/system ]; then
    say "systemd does not run here; start it yourself: callboard-agent run --config $etc/agent.toml"
    exit 0
fi
systemctl daemon-reload
systemctl enable --quiet callboard-agent.service
if [ "$changed" = yes ]; then
    systemctl restart callboard-agent.service
else
    systemctl start callboard-agent.service
fi
say 'the agent runs; see: callboard-agent status'
