# shellcheck shell=bash
# Captures in front of the client. Sourced after scene.sh.

SNIFFER=

# sniff_begin NAME FILTER: captures on the client's interface into $SCENE/NAME.pcap.
sniff_begin() {
    # shellcheck disable=SC2016 # the inner shell expands it
    client bash -c 'echo $$ > "$1.sniffer"; exec tcpdump -Z root -i eth0 -U -B 32768 -w "$1.pcap" "$2"' \
        sniffer "$SCENE/$1" "$2" > /dev/null 2> "$SCENE/$1.tcpdump" &
    SNIFFER=$!
    SNIFFED=$SCENE/$1
    wait_until 10 "tcpdump to listen" grep -q listening "$SCENE/$1.tcpdump"
}

sniff_end() {
    [[ -n $SNIFFER ]] || return 0
    client kill -INT "$(< "$SNIFFED.sniffer")" 2> /dev/null || true
    wait "$SNIFFER" || true
    SNIFFER=
}

sniff_count() { # NAME
    tcpdump -nn -r "$SCENE/$1.pcap" 2> /dev/null | wc -l
}

mac_of() { if [[ $1 == a ]]; then echo 02:77:00:00:00:01; else echo 02:77:00:00:00:02; fi; }
