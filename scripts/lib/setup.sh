# Sourced by scripts/run and its like: Python, system packages, the virtual environment. Debian or Ubuntu.
# DEBIANS_BROKER: set by scripts/install, which wants the broker that the package starts.

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# need_packages COMMAND=PACKAGE … : install through apt what is missing, or say how to get it.
need_packages() {
    local missing=() pair
    for pair in "$@"; do
        PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

apt_install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || die "needs $*: run  sudo apt-get install $*  (and, where that has started a broker" \
            "or Prometheus of its own,  sudo systemctl disable --now mosquitto prometheus ) and start again"
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null || die "needs $*: install them with this system's package manager and start again"
    say "installing $* through apt"
    "${as_root[@]}" apt-get update -qq >/dev/null
    # A package that starts its own server would take the port that ours is meant to have.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null </dev/null ||
        die "apt could not install $*: see above"
    local server
    for server in mosquitto prometheus nginx-light apache2 haproxy caddy pgbouncer; do
        [[ " $* " == *" $server "* ]] && [ -d /run/systemd/system ] || continue
        [ "$server" = "${DEBIANS_BROKER:+mosquitto}" ] || "${as_root[@]}" systemctl disable --quiet --now "${server%-light}"
    done
}

# dynamic_security_plugin: the path of the broker's plugin; Debian's folder is named after the processor.
dynamic_security_plugin() {
    local path
    for path in /usr/lib/{,*/,*/mosquitto/}mosquitto_dynamic_security.so; do
        if [ -e "$path" ]; then echo "$path"; return; fi
    done
    die "this Mosquitto has no plugin mosquitto_dynamic_security.so: install Debian's mosquitto, 2.0.11 or newer"
}

# need_venv EXTRAS: .venv with this project and its extras, made anew only when pyproject.toml has changed.
need_venv() {
    local extras=$1 python stamp
    python=$(find_python)
    if [ ! -x .venv/bin/pip ]; then
        say "making the virtual environment .venv with $("$python" --version)"
        "$python" -c 'import ensurepip' 2>/dev/null ||
            apt_install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        "$python" -m venv .venv
    fi
    stamp=".venv/installed-$extras"
    if ! cmp -s pyproject.toml "$stamp"; then
        say "installing Python packages: $extras"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" ||
            die "pip could not install the packages: see above"
        cp pyproject.toml "$stamp"
    fi
}

# need_node_modules FOLDER: what FOLDER/package-lock.json names, from the npm registry.
need_node_modules() {
    local stamp=$1/node_modules/installed
    cmp -s "$1/package-lock.json" "$stamp" && return
    say "installing Node.js packages: $1"
    PATH="$PWD/.venv/bin:$PATH" npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
        die "npm could not install the packages: see above"
    cp "$1/package-lock.json" "$stamp"
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; sys.exit(sys.maxsize < 2**32)' ||
                die "needs a 64-bit system, and this one is 32-bit ($("$candidate" -c 'import platform; print(platform.machine())')):" \
                    "gevent, msgspec and psycopg have no packages for it. Install the 64-bit edition, such as Raspberry Pi OS (64-bit)"
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or newer as python3"
}
