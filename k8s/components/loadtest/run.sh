# What both kinds of pods run: `run.sh master` or `run.sh worker`.
set -eu
master=${MASTER:-load-master}
port=${MASTER_PORT:-5557}

if [ "$1" = worker ]; then
    # The master may be still starting, and its name unknown.
    until python3 -c "import socket; socket.create_connection(('$master', $port), 2)" 2>/dev/null; do
        sleep 1
    done
    exec python3 -m loadtest "$SCENARIO" --worker --master-host "$master" --master-port "$port"
fi
token=$(python3 -c 'import json, os; print(*list(json.loads(os.environ["SSE_KIT_TOKENS"]).values())[:1])')
# OPTIONS is split at its spaces, which a header has.
exec python3 -m loadtest "$SCENARIO" --master --master-bind-port "$port" --expect-workers "$WORKERS" \
    --expect-workers-max-wait 300 --host "$TARGET" $OPTIONS \
    --header "Authorization: Bearer $token"
