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
        0) die "nothing is up here: docker compose up -d, sudo scripts/install, or scripts/run; for what is down, put" \
            "--system compose, systemd or run  before the command${refused:+ (docker: $refused)}" ;;
        *) die "there is more than one system here: put  --system ${found[0]}  (or ${found[*]:1}) before the command" ;;
    esac
}

# need_own_python: beside scripts/run this system's programs are in .venv.
need_own_python() {
    [ -x .venv/bin/python ] || die "there is no .venv in $PWD, which scripts/run makes: start that once"
}

# from_caller FILE: its path, as whoever called this script meant it before the script changed the folder.
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
                "${@//\$/\$\$}" ;;
        run)
            need_own_python
            EMOTION_DATABASE_URL="${EMOTION_DATABASE_URL:-sqlite:///$PWD/data/emotion.db}" \
                .venv/bin/python -m emotion_admin --secrets data/secrets "$@" ;;
    esac
}

# The broker reads its logins and its certificate again; connections without a valid login end.
reload_broker() {
    case $SYSTEM in
        compose)
            if [ -n "$(docker compose ps --quiet --status running mosquitto)" ]; then
                docker compose exec --no-TTY mosquitto sh /mosquitto/config/start reload </dev/null
            else
                say "the broker is not running: it counts from its next start"
            fi ;;
        systemd)
            if systemctl --quiet is-active mosquitto; then systemctl reload mosquitto; else
                say "the broker is not running: it counts from its next start"
            fi ;;
        run)
            if [ "$(cat "/proc/$(cat data/broker.pid 2>/dev/null)/comm" 2>/dev/null)" = mosquitto ]; then
                kill -HUP "$(cat data/broker.pid)"
            else
                say "scripts/run is not running: it counts from its next start"
            fi ;;
    esac
}

TLS_LISTENER=/etc/mosquitto/conf.d/emotion-analytics-tls.conf

# restart_broker: under systemd, with the TLS listener if there is a certificate, and without it if there is none.
restart_broker() {
    if [ -e /etc/emotion-analytics/secrets/broker/server.crt ]; then
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
            [ -z "$(docker compose ps --quiet --status running api)" ] ||
                docker compose exec --no-TTY api sh -c "$GUNICORN_RELOAD" reload 1 </dev/null ;;
        systemd)
            ! systemctl --quiet is-active emotion-api ||
                sh -c "$GUNICORN_RELOAD" reload "$(systemctl show --property MainPID --value emotion-api)" ;;
        run) say "it counts once scripts/run is started again" ;;
    esac
}

# set_in_env NAME VALUE: in .env, which docker compose reads; without VALUE the line goes.
set_in_env() {
    touch .env
    [ -z "$(tail -c 1 .env)" ] || echo >>.env
    sed -i "/^$1=/d" .env
    [ -z "${2:-}" ] || echo "$1=$2" >>.env
}

# publish_listener 8883|1883: .env says that MQTT_PORT leads there; a port of the operator's own stays.
publish_listener() {
    local other=$((8883 + 1883 - $1))
    set_in_env MQTT_LISTENER "$1"
    if ! grep -q '^MQTT_PORT=' .env || grep -q "^MQTT_PORT=$other\$" .env; then set_in_env MQTT_PORT "$1"; fi
}

# certificate_name PORT: the first name in the certificate that the broker shows there; devices must call it by one.
certificate_name() {
    timeout 5 openssl s_client -connect "localhost:$1" </dev/null 2>/dev/null |
        openssl x509 -noout -ext subjectAltName 2>/dev/null | grep -o 'DNS:[^,* ]*' | head -n 1 | cut -c 5-
}

# broker_address: sets BROKER to the options that tell `device add` where a device reaches the broker.
broker_address() {
    local address="" tls=()
    case $SYSTEM in
        compose)
            if address=$(docker compose port mosquitto 8883 2>/dev/null) && [ -n "$address" ]; then tls=(--tls)
            else address=$(docker compose port mosquitto 1883 2>/dev/null) || address=127.0.0.1:1883; fi ;;
        systemd)
            if [ -e "$TLS_LISTENER" ]; then address=0.0.0.0:8883 tls=(--tls)
            else address=127.0.0.1:1883; fi ;;
        run) address=127.0.0.1:$(sed -n 's/^listener \([0-9]*\) .*/\1/p' data/broker.conf 2>/dev/null || echo 1883) ;;
    esac
    local host=${address%:*} name=""
    case $host in
        127.0.0.1) host=localhost ;;
        0.0.0.0 | '[::]') host=$(hostname) ;;
    esac
    if [ ${#tls[@]} -gt 0 ]; then
        name=$(certificate_name "${address##*:}") || say "tell the device the name in the broker's certificate: --host"
    fi
    [ -z "$name" ] || host=$name
    BROKER=(--host "$host" --port "${address##*:}" "${tls[@]}")
}

# api_address: where gunicorn listens under systemd, as the settings have it.
api_address() {
    local address
    address=$(sed -n "s/^GUNICORN_CMD_ARGS=.*--bind[= ]*\([^ '\"]*\).*/\1/p" /etc/emotion-analytics/settings | tail -n 1)
    echo "${address:-127.0.0.1:8000}"
}

# certificate_end HOST:PORT: when the certificate ends that the broker shows there, "" where it shows none.
certificate_end() {
    timeout 5 openssl s_client -connect "$1" </dev/null 2>/dev/null |
        openssl x509 -noout -enddate 2>/dev/null | sed 's/^notAfter=//' || true
}

# unread_in_env: the names in .env that begin as ours do and that docker compose hands to nobody, one a line: neither it
# nor a file of this folder that it may be told to read has them. In the container, where doctor looks, they are not to
# be seen. Where a file says env_file all of them may be handed over.
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

# what_doctor_cannot_see: sets LOOK to the options that tell doctor where the API is, of the devices' certificate, and of
# what nobody reads.
what_doctor_cannot_see() {
    local api="" tls="" name
    LOOK=()
    case $SYSTEM in
        compose)
            for name in $(unread_in_env); do LOOK+=(--unread "$name"); done
            api=api:8000 # in a network that the daemon is in, too
            tls=$(docker compose port mosquitto 8883 2>/dev/null) || tls="" ;;
        systemd)
            [ "$(id -u)" -eq 0 ] || return 0 # as_daemon says that it has to be root
            api=$(api_address)
            [ ! -e "$TLS_LISTENER" ] || tls=localhost:8883 ;;
        run) [ ! -e data/api-port ] || api=127.0.0.1:$(cat data/api-port) ;;
    esac
    [[ ! $api =~ ^[a-z0-9.-]+:[0-9]+$ ]] || LOOK+=(--api "http://$api")
    tls=${tls/#0.0.0.0:/localhost:} tls=${tls/#'[::]:'/localhost:}
    if [[ $tls =~ :[1-9][0-9]*$ ]] && command -v openssl >/dev/null; then
        LOOK+=(--devices-certificate "$(certificate_end "$tls")")
    fi
}

# as_daemon ARGUMENT…: python -m emotion_admin where the daemon is, or would be, with its settings and as its user.
# Standard input is passed on. Does not return.
as_daemon() {
    case $SYSTEM in
        compose)
            if [ -n "$(docker compose ps --quiet --status running daemon)" ]; then
                exec docker compose exec --no-TTY daemon python3 -m emotion_admin "$@"
            fi
            exec docker compose --progress quiet run --rm --no-deps --no-TTY --quiet-pull daemon \
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
            [ -e data/broker.conf ] || die "start scripts/run once: it sets up what this looks at"
            need_own_python
            export EMOTION_DATABASE_URL="${EMOTION_DATABASE_URL:-sqlite:///$PWD/data/emotion.db}" EMOTION_MQTT_HOST=127.0.0.1
            EMOTION_MQTT_PORT=$(sed -n 's/^listener \([0-9]*\) .*/\1/p' data/broker.conf)
            export EMOTION_MQTT_PORT
            # A folder that an older version has made has no such file.
            [ ! -e data/metrics-port ] || export EMOTION_DAEMON_HTTP_ADDRESS="127.0.0.1:$(cat data/metrics-port)"
            exec .venv/bin/python -m emotion_admin "$@" ;;
    esac
}
