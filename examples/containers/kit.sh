# A participant's startup kit, for the other scripts here. Its private key is made where it stays.

# request_kit NAME DESCRIPTION: the request goes to the coordinator
request_kit() {
    printf 'name: asyndgan\nparticipants:\n- {name: %s, %s}\n' "$1" "$2" > "$1.yml"
    [ -f "$1/$1.request.zip" ] || nvflare cert request -p "$1.yml"
    send "$1/$1.request.zip" "$1.request.zip"
}

# receive_kit NAME: what comes back becomes kit/
receive_kit() {
    await "$POST/$1.signed.zip"
    await "$POST/fingerprint"
    cp "$POST/$1.signed.zip" "$1/"
    nvflare package "$1/$1.signed.zip" --fingerprint "$(cat "$POST/fingerprint")"
    mv "workspace/asyndgan/prod_00/$1" kit
}

# send FILE NAME: whole or not at all, for others wait for it
send() {
    cp "$1" "$POST/.$2"
    mv "$POST/.$2" "$POST/$2"
}

await() {
    until [ -e "$1" ]; do sleep 1; done
}

# start_kit: the kit in this folder, again when it ends, as a service is; it checks itself first
start_kit() {
    trap 'kill "$process"; exit' TERM
    while true; do
        startup/sub_start.sh --once & process=$!
        wait "$process" || true
        sleep 10
    done
}
