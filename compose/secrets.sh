#!/bin/sh
# Makes a password for every login in compose/secrets, which git ignores; what is there already stays.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets   # the files inside are readable, so that each container's own user may read what is mounted for it

make() {
    [ -s "secrets/$1" ] || { od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/.$1" && mv "secrets/.$1" "secrets/$1"; }
}

make postgres
make registry
make audit
make saga_tracker_api
make grafana
for service in checkout payment inventory loyalty shipping ledger saga_tracker; do
    make "$service"
    make "${service}_owner"
done
# The registry takes settings from a file, so its password need not be in its environment.
printf 'apicurio.datasource.password=%s\n' "$(cat secrets/registry)" > secrets/registry.properties
