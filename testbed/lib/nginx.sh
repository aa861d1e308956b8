# shellcheck shell=bash
# An unmodified web server in a namespace of the lab: serves $LAB_FILES, stores what is put below
# /up/ there, says at /who where it runs, and at /health that it is well, unless there is a file `sick` in
# $NGINX/HOST. Sourced after paths.sh, common.sh; the lab is up.

NGINX=$LAB_STATE/nginx

# nginx_begin HOST: in si-HOST, on port 80 of both families. One process that is master and worker:
# it serves as a worker does, has nobody's rights but ours, and one id.
nginx_begin() {
    local host=$1 kind
    mkdir -p "$NGINX/$host" "$LAB_FILES/up"
    {
        cat << END
master_process off;
pid $NGINX/$host/pid;
error_log $NGINX/$host/log warn;
events { worker_connections 4096; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 60s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=60s;
    default_type application/octet-stream;
    client_max_body_size 0;
    client_body_temp_path $NGINX/$host/body;
END
        for kind in proxy fastcgi uwsgi scgi; do
            echo "    ${kind}_temp_path $NGINX/$host/$kind;"
        done
        cat << END
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        root $LAB_FILES;
        location = /who { return 200 "$host\n"; }
        location = /health {
            open_file_cache off;
            if (-f $NGINX/$host/sick) { return 503; }
            return 200 "well\n";
        }
        location /up/ { dav_methods PUT; }
    }
}
END
    } > "$NGINX/$host/conf"
    "$LAB" exec "si-$host" nginx -e "$NGINX/$host/log" -c "$NGINX/$host/conf" \
        2> "$NGINX/$host/out" || die "nginx: $(cat "$NGINX/$host/out")"
    wait_until 5 "nginx to listen in $host" listens "si-$host" 80
}

listens() { "$LAB" exec "$1" ss -Hltn "sport = $2" | grep -q .; }

# nginx_end HOST [SIGNAL]: waits until it is gone; its connections end with it.
nginx_end() {
    local host=$1 pid
    pid=$(cat "$NGINX/$host/pid" 2> /dev/null) || return 0
    "$LAB" exec "si-$host" kill "-${2:-TERM}" "$pid" 2> /dev/null || true
    wait_until 5 "nginx to end in $host" nginx_ended "$host" "$pid"
    rm -f "$NGINX/$host/pid"
}

nginx_ended() { ! "$LAB" exec "si-$1" ps -o comm= -p "$2" | grep -q nginx; }
