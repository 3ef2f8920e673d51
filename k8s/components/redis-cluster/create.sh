#!/bin/sh
# Makes one Cluster of the nodes $NODES ("HOST:PORT HOST:PORT ..."), half of them replicas. May be run again at any time: a
# Cluster that works is left alone, and nodes that lost sight of each other, since all got new addresses at once, are
# introduced anew. The password is in $REDISCLI_AUTH.
set -eu

PATIENCE=${PATIENCE:-300}

ask() {
    node=$1
    shift
    redis-cli -e -h "${node%:*}" -p "${node##*:}" "$@"
}

# For so many seconds, until it succeeds.
eventually() {
    waited=0
    until "$@" >/dev/null 2>&1; do
        [ "$waited" -lt "$PATIENCE" ] || { echo "gave up after $PATIENCE s: $*" >&2; exit 1; }
        waited=$((waited + 1))
        sleep 1
    done
}

works() {
    for each in $NODES; do
        ask "$each" cluster info | tr -d '\r' | grep -qx 'cluster_state:ok' || return 1
        ask "$each" cluster info | tr -d '\r' | grep -qx "cluster_known_nodes:$count" || return 1
    done
}

count=0
addresses=
for each in $NODES; do
    eventually ask "$each" ping
    # Nodes are introduced by their numbers, not by their names.
    number=$(getent ahosts "${each%:*}" | head -n 1 | cut -d ' ' -f 1)
    addresses="$addresses $number:${each##*:}"
    count=$((count + 1))
done

if works; then
    echo "they are a Cluster already"
    exit 0
fi

first=${NODES%% *}
if ask "$first" cluster info | tr -d '\r' | grep -qx 'cluster_known_nodes:1'; then
    # shellcheck disable=SC2086
    redis-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
else
    for each in $addresses; do
        # Its own line of the list has the port on which nodes talk to each other, after an @.
        bus=$(ask "$each" cluster nodes | sed -n 's/^[^ ]* [^ ]*@\([0-9]*\)[^ ]* [^ ]*myself.*/\1/p')
        ask "$first" cluster meet "${each%:*}" "${each##*:}" "$bus"
    done
fi
eventually works
echo "they are a Cluster"
