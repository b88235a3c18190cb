# The server, as docs/how-to/coordinator.md has it, in its own folder.
set -euo pipefail
. "$(dirname "$0")/kit.sh"
own=$PWD

if [ ! -d kit ]; then
    request_kit "$SERVER" "type: server, org: coordinator, fed_learn_port: $PORT"
    receive_kit "$SERVER"
fi
cd kit
if [ ! -f local/server.yaml ]; then
    asyndgan federate kits
    printf 'run_dir: %s\ndevice: cpu\n' "$own/run" > local/server.yaml
fi
start_kit
