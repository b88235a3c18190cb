# A hospital's part, as docs/how-to/site_administrator.md has it: hospital.sh NAME, in the hospital's own folder.
set -euo pipefail
. "$(dirname "$0")/kit.sh"
name=$1
own=$PWD

if [ ! -f data/datalist.json ]; then
    asyndgan phantoms brains images --sites "$name" --cases_per_site 4 --test_cases_per_site 0 --size 64 64 12
    asyndgan prepare brats images --output data --site "$name" --modalities flair --test_fraction 0
fi
if [ ! -d kit ]; then
    request_kit "$name" "type: client, org: hospital_$name"
    receive_kit "$name"
fi
cd kit
[ -f local/site.yaml ] || asyndgan site init --dataset_dir "$own/data" --checkpoint_dir "$own/checkpoints" --device cpu
start_kit
