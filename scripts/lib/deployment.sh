# Sourced by scripts/device and its like: where the system runs, and how its data is reached from here.
#   compose   docker compose in this folder          systemd   what scripts/install has installed
#   run       scripts/run in this folder, its data in ./data

# choose_system "$@": sets SYSTEM, and REST to the arguments without --system.
choose_system() {
    local found=() refused="" containers
    REST=("$@") SYSTEM=""
    if [ "${1:-}" = --system ]; then
        SYSTEM=${2:-} REST=("${@:3}")
        [[ $SYSTEM =~ ^(compose|systemd|run)$ ]] || die "--system is compose, systemd or run"
        return
    fi
    [ -d data/secrets ] && found+=(run)
    [ -e /etc/systemd/system/emotion-daemon.service ] && found+=(systemd)
    if command -v docker >/dev/null; then
        if containers=$(docker compose ps --all --quiet 2>/dev/null); then
            [ -z "$containers" ] || found+=(compose)
        else
            refused=$(docker compose ps 2>&1) || true
        fi
    fi
    case ${#found[@]} in
        1) SYSTEM=${found[0]} ;;
        0) die "no system runs in this folder: start one with docker compose up -d, sudo scripts/install or scripts/run." \
            "For a stopped one, make --system the first argument, as in  scripts/device --system compose list${refused:+ (docker: $refused)}" ;;
        *) die "there are several systems here (${found[*]}): choose one with the first argument, as in  scripts/device --system ${found[0]} list" ;;
    esac
}

# need_own_python: beside scripts/run this system's programs are in .venv.
need_own_python() {
    [ -x .venv/bin/python ] || die "there is no .venv in $PWD: run scripts/run once, which creates it"
}

# from_caller FILE: its path, relative to the folder in which the script was called.
from_caller() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$OLDPWD/$1" ;;
    esac
}

# admin ARGUMENT…: python -m emotion_admin where the data lies. Its standard input is what is given with `<`, and never
# that of a loop which calls these scripts.
admin() { admin_with_input "$@" </dev/null; }

admin_with_input() {
    case $SYSTEM in
        compose) docker compose --progress quiet run --rm --no-deps --no-TTY --quiet-pull admin "$@" ;;
        systemd)
            [ "$(id -u)" -eq 0 ] || die "this needs root: sudo $0 …"
            # As root, since the secrets belong to several users, but as one that can write nowhere else: the daemon's
            # user could have put a link into the database's folder. systemd reads the settings as it does for the
            # daemon; it would take $ in an argument for a variable.
            systemd-run --quiet --pipe --wait --collect --working-directory=/opt/emotion-analytics \
                --property=EnvironmentFile=/etc/emotion-analytics/settings --setenv=PYTHONDONTWRITEBYTECODE=1 \
                --property=CapabilityBoundingSet="CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER" \
                --property=NoNewPrivileges=yes --property=PrivateTmp=yes --property=ProtectSystem=strict \
                --property=ReadWritePaths="/etc/emotion-analytics/secrets /var/lib/emotion-analytics" \
                /opt/emotion-analytics/.venv/bin/python -m emotion_admin --secrets /etc/emotion-analytics/secrets \
                --broker 127.0.0.1:1883 "${@//\$/\$\$}" ;;
        run)
            need_own_python
            local broker=()
            # Another broker may listen on the port while scripts/run's does not run.
            [ "$(cat "/proc/$(cat data/broker.pid 2>/dev/null)/comm" 2>/dev/null)" != mosquitto ] ||
                broker=(--broker "127.0.0.1:$(sed -n 's/^listener \([0-9]*\) .*/\1/p' data/broker.conf)")
            EMOTION_DATABASE_URL="${EMOTION_DATABASE_URL:-sqlite:///$PWD/data/emotion.db}" \
                .venv/bin/python -m emotion_admin --secrets data/secrets "${broker[@]}" "$@" ;;
    esac
}

# services_like NAME: the services NAME, or NAME-1, NAME-2 and so on in deploy/cluster and deploy/rabbitmq.
services_like() { docker compose config --services 2>/dev/null | grep -E "^$1(-[0-9]+)?$" | sort; }

# tls_service: the service of docker compose at which the devices' TLS ends: Mosquitto, or the gate in front of RabbitMQ.
tls_service() { [ -n "$(services_like rabbitmq)" ] && echo gate || echo mosquitto; }

# The broker reads its certificate again.
reload_broker() {
    case $SYSTEM in
        compose)
            if [ -n "$(docker compose ps --quiet --status running mosquitto)" ]; then
                docker compose exec --no-TTY mosquitto sh /mosquitto/config/start reload </dev/null
            else
                say "the broker is not running: it reads the certificate at its next start"
            fi ;;
        systemd)
            if systemctl --quiet is-active mosquitto; then systemctl reload mosquitto; else
                say "the broker is not running: it reads the certificate at its next start"
            fi ;;
    esac
}

TLS_LISTENER=/etc/mosquitto/conf.d/emotion-analytics-tls.conf

# restart_broker [--without-tls]: under systemd, with the TLS listener if there is a certificate.
restart_broker() {
    if [ $# -eq 0 ] && [ -e /etc/emotion-analytics/secrets/broker/server.crt ]; then
        install -m 644 deploy/systemd/mosquitto-tls.conf "$TLS_LISTENER"
    else
        rm -f "$TLS_LISTENER"
    fi
    systemctl restart mosquitto || die "the broker does not start; see  journalctl -u mosquitto -n 30"
}

# Where gunicorn's master is the process $1: new workers, which read the tokens again, and the end of the old ones, which
# still answer by the old tokens while they finish their requests (10 s at most).
GUNICORN_RELOAD='
old=$(cat "/proc/$1/task/$1/children")
kill -HUP "$1"
for _ in $(seq 150); do
    left=
    for worker in $old; do [ ! -e "/proc/$worker" ] || left=yes; done
    [ -n "$left" ] || exit 0
    sleep 0.1
done
echo "a worker of the API has not ended after 15 s, and still answers by the old tokens: restart the API" >&2
exit 1'

# The API reads its tokens again, without losing a request; when this returns, they count.
reload_api() {
    case $SYSTEM in
        compose) # not `docker compose kill`: Docker would take the container for stopped by hand, and not start it again
            local api
            for api in $(services_like api); do
                [ -z "$(docker compose ps --quiet --status running "$api")" ] ||
                    docker compose exec --no-TTY "$api" sh -c "$GUNICORN_RELOAD" reload 1 </dev/null
            done ;;
        systemd)
            ! systemctl --quiet is-active emotion-api ||
                sh -c "$GUNICORN_RELOAD" reload "$(systemctl show --property MainPID --value emotion-api)" ;;
        run) say "run scripts/run again: the change takes effect then" ;;
    esac
}

# up [OPTION…] [SERVICE…]: docker compose up with the images that are here. Without --no-build each `up` asks the registry,
# and a script that has stopped something must not depend on that.
up() { docker compose --progress quiet up --detach --wait --no-build --pull never "$@"; }

# need_images: ends with a sentence, before the caller stops anything, if `up` would lack an image.
need_images() {
    local images image
    images=$(docker compose config --images) || die "docker compose cannot read its configuration: see above"
    for image in $images; do
        docker image inspect "$image" >/dev/null 2>&1 || die "the image $image is not on this machine, and nothing was changed:" \
            "run  docker compose pull --ignore-buildable; docker compose build  and then this command again"
    done
}

# value_in_env NAME: its value as docker compose reads it, from the environment or .env. Compose itself answers: its rules for
# quotes, comments, export and line ends are stated once.
value_in_env() {
    local shown
    shown=$(docker compose --project-directory . --file - config --images <<<"services: {x: {image: \"x:\${$1:-}\"}}") ||
        die "docker compose cannot read .env: see above"
    echo "${shown#x:}"
}

# set_in_env NAME VALUE: in .env, which docker compose reads; without VALUE the line goes. The last line of a name counts.
set_in_env() {
    touch .env
    [ -z "$(tail -c 1 .env)" ] || echo >>.env
    LC_ALL=C sed -i --follow-symlinks -E "/^(\xEF\xBB\xBF)?[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*[=:]/d" .env
    [ -z "${2:-}" ] || echo "$1=$2" >>.env
}

# devices_port 8883|1883: the port of this machine that leads to that listener. A port of the operator's own stays.
devices_port() {
    local port
    port=$(value_in_env MQTT_PORT)
    case $port in "" | $((8883 + 1883 - $1))) port=$1 ;; esac
    echo "$port"
}

# need_devices_port 8883|1883: ends with a sentence if another program has that port.
need_devices_port() {
    local port=$1 address=localhost now other=""
    case $SYSTEM in
        compose)
            port=$(devices_port "$1")
            now=$(docker compose port gate $((8883 + 1883 - $1)) 2>/dev/null || docker compose port gate "$1" 2>/dev/null) || now=""
            [ "${now##*:}" != "$port" ] || return 0 # the gate has it
            address=$(value_in_env BIND_ADDRESS)
            address=$(reachable "${address:-127.0.0.1}" localhost)
            other=", or set another MQTT_PORT in .env" ;;
        systemd) [ "$1" = 8883 ] && [ ! -e "$TLS_LISTENER" ] || return 0 ;; # otherwise the broker has it
    esac
    ! timeout 3 bash -c ": <>/dev/tcp/$address/$port" 2>/dev/null ||
        die "port $port, for the devices, is taken, and nothing was changed: stop what uses it (see  ss -ltnp 'sport = :$port')$other"
}

# publish_listener 8883|1883: .env says so.
publish_listener() {
    local port
    port=$(devices_port "$1")
    set_in_env MQTT_LISTENER "$1"
    [ "$(value_in_env MQTT_PORT)" = "$port" ] || set_in_env MQTT_PORT "$port"
}

# reachable HOST NAME: the host that a client uses for a server that is bound to HOST; NAME if that means every address.
reachable() {
    case $1 in
        127.0.0.1 | ::1 | '[::1]') echo localhost ;;
        0.0.0.0 | :: | '[::]') echo "$2" ;;
        '['*']') echo "${1:1:-1}" ;;
        *) echo "$1" ;;
    esac
}

# certificate_name HOST PORT: the first name in the certificate that the broker shows there; devices must call it by one.
certificate_name() {
    timeout 5 openssl s_client -host "$1" -port "$2" </dev/null 2>/dev/null |
        openssl x509 -noout -ext subjectAltName 2>/dev/null | grep -o 'DNS:[^,* ]*' | head -n 1 | cut -c 5-
}

# gate_address 8883|1883: HOST:PORT at which the gate has that listener; fails if it does not run, or has the other one.
gate_address() {
    local published # of a stopped container, some versions of docker compose say port 0
    published=$(docker compose port gate "$1" 2>/dev/null) && [[ $published =~ :[1-9][0-9]*$ ]] && echo "$published"
}

# broker_address: sets BROKER to the options that tell `device add` where a device reaches the broker.
broker_address() {
    local address="" port="" tls=()
    case $SYSTEM in
        compose)
            if address=$(gate_address 8883); then tls=(--tls)
            elif ! address=$(gate_address 1883); then # the gate does not run: its next start is as .env says
                address=$(value_in_env BIND_ADDRESS) port=$(value_in_env MQTT_PORT)
                address=${address:-127.0.0.1}:${port:-1883}
                [ "$(value_in_env MQTT_LISTENER)" != 8883 ] || tls=(--tls)
            fi ;;
        systemd)
            if [ -e "$TLS_LISTENER" ]; then address=0.0.0.0:8883 tls=(--tls)
            else address=127.0.0.1:1883; fi ;;
        run) address=127.0.0.1:$(sed -n 's/^listener \([0-9]*\) .*/\1/p' data/broker.conf 2>/dev/null || echo 1883) ;;
    esac
    local host name=""
    host=$(reachable "${address%:*}" "$(hostname)")
    if [ ${#tls[@]} -gt 0 ]; then
        name=$(certificate_name "$(reachable "${address%:*}" localhost)" "${address##*:}") ||
            say "add --host with the name in the broker's certificate, which the device must use"
    fi
    [ -z "$name" ] || host=$name
    BROKER=(--host "$host" --port "${address##*:}" "${tls[@]}")
}

# service_addresses [FOLDER PYTHON SETTINGS]: where daemon and API answer under systemd, a line each: `daemon URL`, `api URL`.
# systemd reads the settings, gunicorn its own configuration. The arguments name code that is not installed yet.
service_addresses() {
    local folder=${1:-/opt/emotion-analytics} python=${2:-/opt/emotion-analytics/.venv/bin/python} line given=()
    local settings=${3:-/etc/emotion-analytics/settings}
    while read -r line; do given+=("--setenv=$line"); done < <(
        systemctl show --property Environment --value emotion-daemon emotion-api | xargs -rn 1 |
            grep -E '^(EMOTION_DAEMON_HTTP_ADDRESS|GUNICORN_CMD_ARGS)=')
    systemd-run --quiet --pipe --wait --collect --working-directory="$folder" --property=EnvironmentFile="$settings" \
        "${given[@]}" --setenv=PYTHONDONTWRITEBYTECODE=1 "$python" -m emotion_admin.addresses </dev/null
}

# page_addresses URL: the lines that tell a person where the API at that URL of service_addresses has its pages.
page_addresses() {
    local socket=${1#http+unix://}
    if [ "$socket" = "$1" ]; then
        echo "  live page   $1/dashboard"
        echo "  summary     $1/api/dashboard/summary?device_id=jetson_1"
    else # no browser opens a socket; its path is quoted as %2F…
        printf '  API         on the socket %b\n' "${socket//%/\\x}"
        echo "  live page   /dashboard behind your proxy: see docs/operate/proxies.md"
    fi
}

# certificate_chain HOST PORT: the certificates that the broker sends there, on one line; "" if it sends none.
certificate_chain() {
    timeout 5 openssl s_client -host "$1" -port "$2" -showcerts </dev/null 2>/dev/null |
        sed -n '/^-----BEGIN CERTIFICATE-----$/,/^-----END CERTIFICATE-----$/p' | tr '\n' ' ' || true
}

# unread_in_env: the names in .env that start with EMOTION_ and that no compose file in this folder uses, one a line. doctor
# runs in a container, which does not have them. If a file has env_file, all names may be in use.
unread_in_env() {
    local name
    [ -e .env ] || return 0
    ! grep -Eqs "^[[:space:]]*[\"']?env_file" ./*.yml ./*.yaml || return 0
    sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)[[:space:]]*[=:].*/\2/p' .env | sort -u |
        while read -r name; do
            case $name in EMOTION_*) ;; *) continue ;; esac
            # As ${NAME…} or $NAME, or passed on by its name alone, as in a docker-compose.override.yml.
            local used="[$][{]?$name([^A-Za-z0-9_]|$)" alone="(^|[^A-Za-z0-9_])$name[\"']?:?[[:space:]]*([],}#]|$)"
            grep -Eqs "$used|$alone" ./*.yml ./*.yaml || echo "$name"
        done
}

# service_states: NAME STATE RESTARTS EXIT_CODE of each service, as Docker or systemd has them, one a line.
service_states() {
    local unit containers
    case $SYSTEM in
        compose)
            containers=$(docker compose ps --all --quiet 2>/dev/null) || return 0
            [ -z "$containers" ] ||
                # shellcheck disable=SC2086 # each id is a word
                docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}}{{with .State.Health}}/{{.Status}}{{end}} {{.RestartCount}} {{.State.ExitCode}}' \
                    $containers 2>/dev/null || true ;;
        systemd)
            for unit in mosquitto emotion-daemon emotion-api; do
                systemctl show "$unit.service" --property=ActiveState,SubState,NRestarts,ExecMainStatus 2>/dev/null |
                    awk -F= -v unit="$unit.service" '{value[$1] = $2} END {
                        print unit, value["ActiveState"] "/" value["SubState"], value["NRestarts"] + 0, value["ExecMainStatus"] + 0}'
            done ;;
    esac
}

# set_aside_by_broker: the damaged files that were set aside at a start of the broker, one a line; ? if it cannot look. A
# broker that is stopped, or starts again and again, needs a container of its own for that.
set_aside_by_broker() {
    case $SYSTEM in
        compose)
            [ -z "$(services_like rabbitmq)" ] || return 0 # RabbitMQ sets no file aside
            local broker
            services_like mosquitto | while read -r broker; do
                [ -n "$(docker compose ps --all --quiet "$broker")" ] && # so its image is here
                    docker compose --progress quiet run --rm --no-deps --no-TTY "$broker" \
                        find /mosquitto/data -maxdepth 1 -name '*.damaged-*Z' </dev/null || exit
            done ;;
        systemd) find /var/lib/mosquitto -maxdepth 1 -name '*.damaged-*Z' ;;
        run) find data/ -maxdepth 2 -path 'data/broker/*.damaged-*Z' ;;
    esac 2>/dev/null || echo '?'
}

# devices_with_login: the ids, separated by spaces; ? if they cannot be read.
devices_with_login() {
    local listed
    if listed=$(admin device list 2>/dev/null); then awk '$2 == "login" {printf "%s ", $1}' <<<"$listed"; else echo '?'; fi
}

# what_doctor_cannot_see: sets LOOK to the options that tell doctor the API's address, the devices' certificates,
# unread names in .env, the states of the services, which devices have a login, and damaged files of the broker.
what_doctor_cannot_see() {
    local tls="" name
    LOOK=()
    case $SYSTEM in
        compose)
            for name in $(unread_in_env); do LOOK+=(--unread "$name"); done
            # In a network that the daemon is in, too.
            for name in $(services_like api); do LOOK+=(--api "http://$name:8000"); done
            tls=$(gate_address 8883) || { tls=""; [ "$(value_in_env MQTT_LISTENER)" != 8883 ] || tls=none; } ;;
        systemd)
            [ "$(id -u)" -eq 0 ] || return 0 # as_daemon says that it has to be root
            # One empty line if gunicorn's configuration cannot work: doctor says so.
            while read -r name; do LOOK+=(--api "$name"); done <<<"$(service_addresses 2>/dev/null | sed -n 's/^api //p')"
            [ ! -e "$TLS_LISTENER" ] || tls=localhost:8883 ;;
        run) [ ! -e data/api-port ] || LOOK+=(--api "http://127.0.0.1:$(cat data/api-port)") ;;
    esac
    [ "$SYSTEM" = run ] || LOOK+=(--logins "$(devices_with_login)") # beside scripts/run no device needs a login
    while read -r name; do LOOK+=(--service "$name"); done < <(service_states)
    while read -r name; do LOOK+=(--set-aside "$name"); done < <(set_aside_by_broker)
    if [ -z "$tls" ]; then return; fi
    if [ "$tls" = none ]; then # the gate does not run
        LOOK+=(--devices-certificate "")
    elif command -v openssl >/dev/null; then
        LOOK+=(--devices-certificate "$(certificate_chain "$(reachable "${tls%:*}" localhost)" "${tls##*:}")")
    else
        say "the certificate of the devices' port is not checked: this needs openssl"
    fi
}

# as_daemon ARGUMENT…: python -m emotion_admin where the daemon is, or would be, with its settings and as its user.
# Standard input is passed on. Does not return.
as_daemon() {
    case $SYSTEM in
        compose)
            local daemon
            daemon=$(services_like daemon | head -n 1)
            if [ -n "$(docker compose ps --quiet --status running "$daemon")" ]; then
                exec docker compose exec --no-TTY "$daemon" python3 -m emotion_admin "$@"
            fi
            exec docker compose --progress quiet run --rm --no-deps --no-TTY --quiet-pull "$daemon" \
                python3 -m emotion_admin "$@" ;;
        systemd)
            [ "$(id -u)" -eq 0 ] || die "this needs root: sudo $0"
            local metrics unit=emotion-command-$$
            metrics=$(systemctl show --property Environment --value emotion-daemon | tr ' ' '\n' |
                grep '^EMOTION_DAEMON_HTTP_ADDRESS=' || true)
            exec systemd-run --quiet --pipe --wait --collect --unit="$unit" \
                --working-directory=/opt/emotion-analytics --property=User=emotion --property=NoNewPrivileges=yes \
                --property=EnvironmentFile=/etc/emotion-analytics/settings --setenv=PYTHONDONTWRITEBYTECODE=1 \
                --property=LoadCredential=mqtt-password:/etc/emotion-analytics/secrets/daemon/password \
                --setenv=EMOTION_MQTT_USERNAME=emotion-daemon \
                --setenv=EMOTION_MQTT_PASSWORD_FILE="/run/credentials/$unit.service/mqtt-password" \
                ${metrics:+"--setenv=$metrics"} \
                /opt/emotion-analytics/.venv/bin/python -m emotion_admin "${@//\$/\$\$}" ;;
        run)
            [ -e data/broker.conf ] || die "run scripts/run once: it creates the files that this command needs"
            need_own_python
            export EMOTION_DATABASE_URL="${EMOTION_DATABASE_URL:-sqlite:///$PWD/data/emotion.db}" EMOTION_MQTT_HOST=127.0.0.1
            EMOTION_MQTT_PORT=$(sed -n 's/^listener \([0-9]*\) .*/\1/p' data/broker.conf)
            export EMOTION_MQTT_PORT
            # A folder that an older version has made has no such file.
            [ ! -e data/metrics-port ] || export EMOTION_DAEMON_HTTP_ADDRESS="127.0.0.1:$(cat data/metrics-port)"
            exec .venv/bin/python -m emotion_admin "$@" ;;
    esac
}
