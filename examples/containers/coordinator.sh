# The coordinator, as docs/how-to/coordinator.md has it: coordinator.sh SITE …, in the coordinator's own folder.
set -euo pipefail
. "$(dirname "$0")/kit.sh"
lead=lead@example.org

if [ ! -d kit ]; then
    cat > profile.yaml <<PROFILE
name: asyndgan
scheme: http
connection_security: mtls
server: {host: $SERVER, fed_learn_port: $PORT}
PROFILE
    [ -d ca ] || nvflare cert init --profile profile.yaml -o ca --valid-days 1095
    grep -o 'SHA256:[0-9A-F:]*' ca/ca.json > fingerprint
    send fingerprint fingerprint  # by telephone, where there are people
    request_kit "$lead" "type: admin, org: coordinator, role: lead"
    for name in "$SERVER" "$lead" "$@"; do
        await "$POST/$name.request.zip"  # and here one asks whether it is theirs
        cp "$POST/$name.request.zip" .
        [ -f "$name.signed.zip" ] || nvflare cert approve "$name.request.zip" -c ca --profile profile.yaml
        send "$name.signed.zip" "$name.signed.zip"
    done
    receive_kit "$lead"
fi
sites=$(printf ', %s' "$@")
until asyndgan federate status --startup_kit kit | grep "^sites: ${sites#, }$" > /dev/null; do sleep 5; done
# settings are words of their own
# shellcheck disable=SC2086
asyndgan federate submit --startup_kit kit --task brats --profile demo --sites "$@" --set $SETTINGS | tee submitted
job=$(sed -n 's/^finished: job \([^;]*\);.*/\1/p' submitted)
asyndgan federate collect --startup_kit kit --job "$job" --output result
