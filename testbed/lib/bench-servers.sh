# shellcheck shell=bash
# Who stands beside the pair: kernel TCP with iperf3 and nginx in si-be1, and HAProxy in si-be2 in
# front of them. One worker or thread each, no access log. Sourced after bench.sh, nginx.sh.

SERVERS=$LAB_STATE/servers

serve_all() {
    mkdir -p "$SERVERS"
    local host
    # A machine's default may be another, and the pair has CUBIC. A namespace's default cannot be
    # set to every kind; a route's can.
    for host in client:10 be1:21 be2:22; do
        "$LAB" exec "si-${host%:*}" ip route replace 10.77.0.0/24 dev eth0 proto kernel scope link \
            src "10.77.0.${host#*:}" congctl cubic
    done
    serve_kernel
    nginx_begin be1
    serve_haproxy
}

# All of them end with the lab at the latest.
serve_kernel() {
    ! iperf3_listens || return 0
    "$LAB" exec si-be1 iperf3 --server --daemon --pidfile "$SCENE/iperf3.pid"
    wait_until 5 "iperf3 to listen" iperf3_listens
}

iperf3_listens() { listens si-be1 5201; }

serve_haproxy() {
    # Its default buffer of 16 KiB moves little more than half as much; splice-auto changes nothing.
    cat > "$SERVERS/haproxy.cfg" << END
global
    nbthread 1
    tune.bufsize 65536
    maxconn 4000
    pidfile $SERVERS/haproxy.pid
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend bulk
    mode tcp
    bind :5201
    default_backend iperf3
backend iperf3
    mode tcp
    server be1 $DIRECT:5201
frontend web
    mode http
    bind :80 backlog 4096
    default_backend nginx
backend nginx
    mode http
    http-reuse always
    server be1 $DIRECT:80
frontend relay
    mode tcp
    bind :$RELAY_PORT backlog 4096
    default_backend joined
backend joined
    mode tcp
    server be1 $DIRECT:80
END
    "$LAB" exec si-be2 haproxy -D -f "$SERVERS/haproxy.cfg" > "$SERVERS/haproxy.out" 2>&1 ||
        die "haproxy: $(cat "$SERVERS/haproxy.out")"
    wait_until 5 "haproxy to listen" listens si-be2 80
}

# Where the files are; in the section relay that is everywhere the same server.
web_of() { # WHO
    case $SECTION:$1 in
        relay:haproxy | relay:simplex | relay:duplex) echo "$(address_of "$1"):$RELAY_PORT" ;;
        join:direct) echo "$DIRECT" ;;
        join:haproxy-tcp) echo "$PROXY:$RELAY_PORT" ;;
        join:haproxy-http) echo "$PROXY" ;;
        join:*) echo "$SERVICE4:${JOIN_PORTS[$1]}" ;;
        *) address_of "$1" ;;
    esac
}

end_servers() {
    local pair
    nginx_end be1
    for pair in "si-be2 $SERVERS/haproxy.pid" "si-be1 $SCENE/iperf3.pid"; do
        end_server "${pair% *}" "${pair#* }"
    done
}

end_server() { # NAMESPACE PIDFILE
    local pid
    [[ -s $2 ]] || return 0
    # iperf3 ends its number with a zero byte.
    pid=$(tr -dc '0-9' < "$2")
    "$LAB" exec "$1" kill -TERM "$pid" 2> /dev/null || true
    rm -f "$2"
}
