#!/bin/sh
# Makes this machine a device: enrols it, installs callboard-agent, its configuration and its systemd unit, starts it.
#
# Needs the enrolment bundle and, beside this script, the program callboard-agent. May be run again at any time:
# what is there already stays, a newer program replaces the older one, an enrolled device stays enrolled and needs no
# bundle. If a step fails, what ran before keeps running. A failed enrolment leaves nothing behind but the device's
# key, so that a repeated one is the same device's.
set -eu

usage() {
    cat <<'END'
usage: install-agent.sh --bundle FILE [options]
       install-agent.sh --root DIR [options]

  --bundle FILE        the enrolment bundle (callboard token create --bundle FILE); not for a device that is enrolled
  --name NAME          the name the device would like to have
  --product NAME=DIR   a product to be updated and its directory; may be repeated; used for a new agent.toml only, but
                       the unit may write there from then on
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

case $program in
    /*) ;;
    *) program=$PWD/$program ;;
esac
[ -z "$bundle" ] || [ -r "$bundle" ] || bad "cannot read the bundle $bundle"
if [ ! -f "$program" ] || [ ! -x "$program" ]; then
    bad "there is no program at $program; put callboard-agent beside this script or name it with --program"
fi
[ -z "$config" ] || [ -r "$config" ] || bad "cannot read the configuration $config"
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    bad 'run this as root, or with --root DIR'
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Shells take a program of another architecture for a script, so it is tried where it can do no harm.
version=$(cd "$work" && "$program" --version 2>/dev/null </dev/null) || version=
case $version in
    'callboard-agent '*) ;;
    *) fail "$program does not run on this machine (another architecture?); nothing was changed" ;;
esac

bin=$root/usr/local/bin/callboard-agent
etc=$root/etc/callboard
unit=$root/etc/systemd/system/callboard-agent.service
dropin=$unit.d/products.conf
state=$root/var/lib/callboard

# Puts a file in place by one rename: there is never none and never half of it. An earlier one is kept until all is well.
put() { # FROM TO MODE
    if [ -f "$2" ] && cmp -s "$1" "$2"; then
        chmod "$3" "$2"
        return
    fi
    if ! { mkdir -p "$(dirname "$2")" && cp "$1" "$2.new" && chmod "$3" "$2.new" && written "$2.new" && keep "$2"; }; then
        rm -f "$2.new"
        undo
        fail "cannot write $2; nothing was installed. Run this again when there is space, and a right to write there"
    fi
    mv -f "$2.new" "$2"
    changed=yes
    say "installed $2"
}

written() {
    sync "$1" 2>/dev/null || sync
}

keep() {
    if [ -f "$1" ]; then
        ln -f "$1" "$1.old" 2>/dev/null || cp -p "$1" "$1.old"
    else
        : >"$work/made.$(basename "$1")"
    fi
}

# Takes back what `put` has done.
undo() {
    for file in "$etc/agent.toml" "$bin" "$unit" "$dropin"; do
        if [ -f "$file.old" ]; then
            mv -f "$file.old" "$file"
        elif [ -f "$work/made.$(basename "$file")" ]; then
            rm -f "$file"
        fi
    done
}

forget() {
    rm -f "$bin.old" "$unit.old" "$dropin.old"
}

generated() {
    printf '# Made by install-agent.sh. Every key is explained in the agent.toml of the distribution.\n'
    [ -z "$hw" ] || printf "hw = '%s'\n" "$hw"
    for product in $products; do
        printf '\n[products.%s]\ndirectory = "%s"\n' "${product%%=*}" "${product#*=}"
    done
}

changed=no

# The configuration first: a program that cannot read its configuration must never replace one that can.
if [ -f "$etc/agent.toml" ]; then
    cp "$etc/agent.toml" "$work/agent.toml"
elif [ -n "$config" ]; then
    cp "$config" "$work/agent.toml"
else
    generated >"$work/agent.toml"
fi
"$program" config check --config "$work/agent.toml" >/dev/null || fail 'the configuration is not valid; nothing was changed'

# Then the enrolment: what is not enrolled is not installed either.
if [ -n "$root" ]; then
    say "nothing is enrolled below $root; on the device itself: callboard-agent enrol --bundle FILE"
elif known=$("$program" status --config "$work/agent.toml" 2>/dev/null); then
    say "enrolled already: $(printf '%s\n' "$known" | sed -n -e 's/^device  *//p' -e 's/^server  *//p' | paste -s -d ' ' -)"
else
    [ -n "$bundle" ] || bad 'this device is not enrolled, and the enrolment bundle is missing; see --help'
    "$program" enrol --config "$work/agent.toml" --bundle "$bundle" ${name:+--name "$name"} ||
        fail 'enrolment failed, see above; nothing was installed. Run this again when the cause is gone'
fi

forget
if [ ! -f "$etc/agent.toml" ]; then
    put "$work/agent.toml" "$etc/agent.toml" 0644
fi
put "$program" "$bin" 0755
if [ -f "$here/callboard-agent.service" ]; then
    put "$here/callboard-agent.service" "$unit" 0644
fi
# The unit may write below /opt only; products elsewhere need a word of their own.
if [ -n "$products" ]; then
    {
        if [ -f "$dropin" ]; then cat "$dropin"; else printf '[Service]\n'; fi
        for product in $products; do
            line="ReadWritePaths=-${product#*=}"
            grep -q -x -F "$line" "$dropin" 2>/dev/null || printf '%s\n' "$line"
        done
    } >"$work/products.conf"
    put "$work/products.conf" "$dropin" 0644
fi
mkdir -p "$state"
chmod 0700 "$state"

if [ -n "$root" ] || [ "$start" = no ]; then
    forget
    exit 0
fi
if ! command -v systemctl >/dev/null 2>&1 || [ ! -d /run/systemd/system ]; then
    forget
    say "systemd does not run here; start it yourself: callboard-agent run --config $etc/agent.toml"
    exit 0
fi
systemctl daemon-reload
systemctl enable --quiet callboard-agent.service
if [ "$changed" = no ]; then
    systemctl start callboard-agent.service
elif ! systemctl restart callboard-agent.service; then
    if [ -f "$bin.old" ] || [ -f "$unit.old" ]; then
        undo
        systemctl daemon-reload
        systemctl restart callboard-agent.service ||
            fail 'neither the new agent starts nor the earlier one, which is back; journalctl -u callboard-agent says why'
        fail 'the new agent does not start (journalctl -u callboard-agent says why); the earlier one runs again'
    fi
    fail 'the agent does not start; journalctl -u callboard-agent says why'
fi
forget
say 'the agent runs; see: callboard-agent status'
