#!/bin/sh
# Makes this machine a device: enrols it, installs callboard-launcher and callboard-agent, its configuration and its systemd
# unit, starts it.
#
# Needs the enrolment bundle and, beside this script, both programs. The launcher starts the agent, the one that is installed
# here or a later one to which the agent has updated itself; it is never updated but by this script. May be run again at any time:
# what is there already stays, a newer program replaces the older one, an enrolled device stays enrolled and needs no
# bundle. If a step fails, what ran before keeps running. A failed enrolment leaves nothing behind but the device's
# key, so that a repeated one is the same device's.
set -eu

usage() {
    cat <<'END'
usage: install-agent.sh --bundle FILE [options]
       install-agent.sh --root DIR [options]
       install-agent.sh --uninstall [--root DIR]

  --bundle FILE        the enrolment bundle (callboard token create --bundle FILE); not for a device that is enrolled.
                       With --root each copy of the image enrols with it at its first start
  --name NAME          the name the device would like to have
  --product NAME=DIR   a product to be updated and its directory; may be repeated; used for a new agent.toml only, but
                       the unit may write there from then on
  --health NAME=COMMAND
                       what exits 0 when the product is well, in its new directory: pos-app='bin/health --quick'. No
                       shell: words are split at spaces. For a --product, and like it
  --service NAME=UNIT  the systemd unit that runs the product: pos-app=pos-app.service. For a --product, and like it
  --hw MODEL           the hardware model; used for a new agent.toml only
  --config FILE        an agent.toml to install instead of a generated one; used if there is none yet
  --program FILE       the agent's program (default: callboard-agent beside this script)
  --launcher FILE      the launcher (default: callboard-launcher beside this script)
  --no-self-update     do not make the agent a product of its own in agent.toml; one that is there stays
  --uninstall          stop the service and remove programs, units and the agent's versions; the configuration, the
                       device's key and certificate, and the products stay
  --root DIR           install below DIR, as into an image: nothing is enrolled or started now
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

own_dir=/opt/callboard-agent
here=$(cd "$(dirname "$0")" && pwd)
bundle='' name='' hw='' config='' program="$here/callboard-agent" launcher="$here/callboard-launcher" root='' start=yes self_update=yes uninstall=no products='' health='' service=''
newline='
'

while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --no-start) start=no; shift; continue ;;
        --no-self-update) self_update=no; shift; continue ;;
        --uninstall) uninstall=yes; shift; continue ;;
        --bundle | --name | --hw | --product | --health | --service | --config | --program | --launcher | --root)
            [ $# -ge 2 ] || bad "$1 needs a value; see --help" ;;
        *) bad "unknown argument: $1; see --help" ;;
    esac
    case $1 in
        --bundle) bundle=$2 ;;
        --name) name=$2 ;;
        --hw) hw=$2 ;;
        --config) config=$2 ;;
        --program) program=$2 ;;
        --launcher) launcher=$2 ;;
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
        --health | --service)
            case $2 in
                [A-Za-z0-9]*=[!=]*) ;;
                *) bad "$1 $2: wanted is NAME=${1#--}, with the NAME of a --product" ;;
            esac
            case $2 in
                *[!A-Za-z0-9._/=:@,+%\ -]*) bad "$1 $2: only letters, digits, spaces and . _ - / = : @ , + % are allowed" ;;
            esac
            case $1 in
                --health) health="$health$2$newline" ;;
                --service) service="$service$2$newline" ;;
            esac ;;
    esac
    shift 2
done

bin=$root/usr/local/bin/callboard-agent
launch=$root/usr/local/bin/callboard-launcher
etc=$root/etc/callboard
unit=$root/etc/systemd/system/callboard-agent.service
dropin=$unit.d/directories.conf
enrol=$root/etc/systemd/system/callboard-enrol.service
recover=$root/etc/systemd/system/callboard-recover.service

has_systemd() {
    command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]
}

if [ "$uninstall" = yes ]; then
    [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || bad 'run this as root, or with --root DIR'
    if [ -z "$root" ] && has_systemd && [ -f "$unit" ]; then
        systemctl disable --quiet --now callboard-agent.service || fail 'the service cannot be stopped; nothing was removed'
        [ ! -f "$recover" ] || systemctl disable --quiet callboard-recover.service || :
    fi
    rm -f "$bin" "$launch" "$unit" "$dropin" "$enrol" "$enrol.d/state.conf" "$etc/bundle.json" "$recover" "$recover.d/before.conf"
    rm -f "$root/etc/systemd/system/multi-user.target.wants/callboard-enrol.service" \
        "$root/etc/systemd/system/multi-user.target.wants/callboard-agent.service" \
        "$root/etc/systemd/system/basic.target.wants/callboard-recover.service"
    rmdir "$unit.d" "$enrol.d" "$recover.d" 2>/dev/null || :
    rm -rf "$root$own_dir"
    if [ -z "$root" ] && has_systemd; then systemctl daemon-reload; fi
    say "removed; $etc, the state directory and the products stay. Installed again, this is the same device"
    exit 0
fi

for given in $(printf '%s' "$health$service" | sed 's/=.*//'); do
    case " $products" in
        *" $given="*) ;;
        *) bad "--health and --service need a --product $given=/DIRECTORY" ;;
    esac
done

case $program in
    /*) ;;
    *) program=$PWD/$program ;;
esac
case $launcher in
    /*) ;;
    *) launcher=$PWD/$launcher ;;
esac
[ -z "$bundle" ] || [ -r "$bundle" ] || bad "cannot read the bundle $bundle"
if [ ! -f "$program" ] || [ ! -x "$program" ]; then
    bad "there is no program at $program; put callboard-agent beside this script or name it with --program"
fi
if [ ! -f "$launcher" ] || [ ! -x "$launcher" ]; then
    bad "there is no launcher at $launcher; put callboard-launcher beside this script or name it with --launcher"
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
# The launcher becomes the agent beside it, or says that there is none.
said=$(cd "$work" && CALLBOARD_AGENT_DIR=/nonexistent "$launcher" --version 2>&1 </dev/null) || :
case $said in
    'callboard-agent '* | 'callboard-launcher: failed to start '*) ;;
    *) fail "$launcher does not run on this machine (another architecture?); nothing was changed" ;;
esac

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
    for file in "$etc/agent.toml" "$bin" "$launch" "$unit" "$dropin" "$enrol" "$enrol.d/state.conf" "$etc/bundle.json" \
        "$recover" "$recover.d/before.conf"; do
        if [ -f "$file.old" ]; then
            mv -f "$file.old" "$file"
        elif [ -f "$work/made.$(basename "$file")" ]; then
            rm -f "$file"
        fi
    done
}

forget() {
    rm -f "$etc/agent.toml.old" "$bin.old" "$launch.old" "$unit.old" "$dropin.old" "$enrol.old" "$enrol.d/state.conf.old" \
        "$etc/bundle.json.old" "$recover.old" "$recover.d/before.conf.old"
}

generated() {
    printf '# Made by install-agent.sh. Every key is explained in the agent.toml of the distribution.\n'
    [ -z "$hw" ] || printf "hw = '%s'\n" "$hw"
    [ "$self_update" = no ] || own_table
    for product in $products; do
        own=${product%%=*} key=${product%%=*}
        case $own in *.*) key="\"$own\"" ;; esac
        printf '\n[products.%s]\ndirectory = "%s"\n' "$key" "${product#*=}"
        of "$own" "$service" | sed 's/.*/service = "&"/'
        of "$own" "$health" | sed 's/   */ /g; s/ *$//; s/ /", "/g; s/.*/health = ["&"]/'
    done
}

# The agent as a product of its own.
own_table() {
    printf '\n[products.callboard-agent]\ndirectory = "%s"\n' "$own_dir"
}

# Adds that to a configuration which lacks it, as that of a till from before there was a launcher.
add_own_table() { # FILE
    if [ "$self_update" = yes ] && ! grep -Eq "^ *\\[ *products\\.[\"']?callboard-agent" "$1"; then
        { printf '\n# The agent updates itself; added by install-agent.sh.'; own_table; } >>"$1"
    fi
}

# What was given for a product, last.
of() { # NAME LINES
    printf '%s' "$2" | while IFS= read -r line; do
        [ "${line%%=*}" != "$1" ] || printf '%s\n' "${line#*=}"
    done | tail -n 1
}

# The unit's own words for the directories of this device: by itself it keeps its state in /var/lib/callboard and may
# write below /opt.
directories() {
    printf '# Made by install-agent.sh, of agent.toml.\n'
    if [ "$state_dir" != /var/lib/callboard ]; then
        printf '[Unit]\nRequiresMountsFor=%s\nConditionPathExists=\nConditionPathExists=%s/device.json\n' "$state_dir" "$state_dir"
    fi
    printf '[Service]\n'
    if [ "$state_dir" != /var/lib/callboard ]; then
        printf 'StateDirectory=\nReadWritePaths=%s\n' "$state_dir"
    fi
    {
        sed -n 's/^ReadWritePaths=-//p' "$dropin" 2>/dev/null || :
        printf '%s\n' "$product_dirs"
        for product in $products; do printf '%s\n' "${product#*=}"; done
    } | {
        seen=$newline
        while IFS= read -r dir; do
            case $newline$seen in *"$newline$dir$newline"*) continue ;; esac
            [ "$dir" != "$own_dir" ] || continue
            seen="$seen$dir$newline"
            printf 'ReadWritePaths=-%s\n' "$dir"
        done
    }
}

changed=no

# The configuration first: a program that cannot read its configuration must never replace one that can.
kept=no
if [ -f "$etc/agent.toml" ]; then
    kept=yes
    cp "$etc/agent.toml" "$work/agent.toml"
elif [ -n "$config" ]; then
    cp "$config" "$work/agent.toml"
else
    generated >"$work/agent.toml"
fi
add_own_table "$work/agent.toml"
checked=$("$program" config check --config "$work/agent.toml") || fail 'the configuration is not valid; nothing was changed'
all_dirs=$("$program" config directories --config "$work/agent.toml")
state_dir=$(printf '%s\n' "$all_dirs" | head -n 1)
product_dirs=$(printf '%s\n' "$all_dirs" | tail -n +2)
state=$root$state_dir
if [ -f "$here/callboard-agent.service" ]; then
    for product in $products; do all_dirs="$all_dirs$newline${product#*=}"; done
    odd=$(printf '%s\n' "$all_dirs" | grep -E '[^A-Za-z0-9._/-]' | head -n 1) || :
    [ -z "$odd" ] || bad "directory $odd: the unit takes only letters, digits and . _ - /; choose another one in agent.toml"
    hidden=$(printf '%s/\n' "$all_dirs" | grep -E '^/(home|root|run|tmp|var/tmp|dev|proc|sys)/' | head -n 1) || :
    [ -z "$hidden" ] || bad "directory ${hidden%/}: the unit sees nothing there, or it is gone after a restart; choose one such as /opt, /srv, /data or /var/lib in agent.toml"
fi

# Then the enrolment: what is not enrolled is not installed either.
if [ -n "$root" ] && [ -n "$bundle" ]; then
    for own in device.json device.key device.key.sealed device.key.next; do
        [ ! -e "$state/$own" ] ||
            bad "$state/$own makes every copy the same device; run callboard-agent prepare-image on that machine first"
    done
    [ -f "$here/callboard-enrol.service" ] || bad 'callboard-enrol.service is missing beside this script'
    "$program" config check --config "$work/agent.toml" --bundle "$bundle" >/dev/null ||
        fail 'the bundle cannot be used, see above; nothing was changed'
    say "each copy of $root enrols with the bundle at its first start"
elif [ -n "$root" ]; then
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
elif ! cmp -s "$work/agent.toml" "$etc/agent.toml"; then
    put "$work/agent.toml" "$etc/agent.toml" "$(stat -c %a "$etc/agent.toml")"
fi
put "$program" "$bin" 0755
put "$launcher" "$launch" 0755
if [ -f "$here/callboard-agent.service" ]; then
    put "$here/callboard-agent.service" "$unit" 0644
fi
units=callboard-agent.service
if [ -f "$here/callboard-recover.service" ]; then
    put "$here/callboard-recover.service" "$recover" 0644
    units="$units callboard-recover.service"
    services=$("$program" config services --config "$work/agent.toml" | paste -s -d ' ' -)
    {
        printf '# Made by install-agent.sh, of agent.toml.\n[Unit]\n'
        printf 'RequiresMountsFor=%s\n' "$(printf '%s\n' "$all_dirs" | paste -s -d ' ' -)"
        [ -z "$services" ] || printf 'Before=%s\n' "$services"
        [ "$state_dir" = /var/lib/callboard ] ||
            printf 'ConditionPathExists=\nConditionPathExists=%s/device.json\n' "$state_dir"
    } >"$work/before.conf"
    put "$work/before.conf" "$recover.d/before.conf" 0644
fi
directories >"$work/directories.conf"
if grep -q = "$work/directories.conf"; then
    put "$work/directories.conf" "$dropin" 0644
fi
if [ -n "$root" ] && [ -n "$bundle" ]; then
    put "$here/callboard-enrol.service" "$enrol" 0644
    if [ "$state_dir" != /var/lib/callboard ]; then
        {
            printf '# Made by install-agent.sh, of agent.toml.\n[Unit]\nRequiresMountsFor=%s\n' "$state_dir"
            printf '[Service]\nStateDirectory=\nReadWritePaths=%s\n' "$state_dir"
        } >"$work/state.conf"
        put "$work/state.conf" "$enrol.d/state.conf" 0644
    fi
    put "$bundle" "$etc/bundle.json" 0600
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    for name in callboard-enrol callboard-agent; do
        ln -sf "../$name.service" "$root/etc/systemd/system/multi-user.target.wants/$name.service"
    done
    if [ -f "$recover" ]; then
        mkdir -p "$root/etc/systemd/system/basic.target.wants"
        ln -sf ../callboard-recover.service "$root/etc/systemd/system/basic.target.wants/callboard-recover.service"
    fi
fi
mkdir -p "$state"
chmod 0700 "$state"
[ "$self_update" = no ] || mkdir -p "$root$own_dir"
printf '%s\n' "$checked" | sed -n "s/^note: /install-agent: note: /p"
if [ "$kept" = yes ]; then
    for product in $products; do
        printf '%s\n' "$product_dirs" | sed 's:/*$::' | grep -qxF -e "$(printf '%s\n' "${product#*=}" | sed 's:/*$::')" ||
            say "note: $etc/agent.toml stays as it is, without $product: add [products.${product%%=*}] to it"
    done
    if [ -n "$config" ]; then cp "$config" "$work/wanted.toml"; else generated >"$work/wanted.toml"; fi
    add_own_table "$work/wanted.toml"
    [ -z "$health$service$hw$config" ] || cmp -s "$work/wanted.toml" "$etc/agent.toml" ||
        say "note: $etc/agent.toml stays as it is; --health, --service, --hw and --config are for a new one"
fi

if [ -n "$root" ] || [ "$start" = no ]; then
    forget
    exit 0
fi
if ! has_systemd; then
    forget
    say "systemd does not run here; start it yourself, and again whenever it ends: callboard-launcher run --config $etc/agent.toml"
    exit 0
fi
systemctl daemon-reload
# shellcheck disable=SC2086 # one word for each unit
systemctl enable --quiet $units
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
