#!/bin/sh
# Creates a password for every login in compose/secrets, which git ignores; existing ones stay.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets   # the files inside are world-readable, so that each container's user can read those mounted for it

make() {   # a name, what the secret begins with, and its random bytes
    [ -s "secrets/$1" ] || {
        { printf '%s' "${2:-}"; od -An -v -w64 "-N${3:-24}" -tx1 /dev/urandom | tr -d ' \n'; } > "secrets/.$1"
        mv "secrets/.$1" "secrets/$1"
    }
}

make postgres
make registry
make audit
make saga_tracker_api
make grafana
make courier-webhook
make payer-key
make webhook-key
make console-key
make console-client
make tickets-login whsec_   # for ServiceNow write user:password in its place
make tickets-alertmanager
make phone-key
[ -s secrets/merchant-token-key ] || {   # signs merchants' tokens: an EC key of P-256 in PEM (PKCS 8)
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out secrets/.merchant-token-key
    chmod 644 secrets/.merchant-token-key
    mv secrets/.merchant-token-key secrets/merchant-token-key
}
for mode in live test; do
    make "stripe-$mode-key" "sk_${mode}_"
    make "stripe-$mode-webhook" whsec_
    make "adyen-$mode-key" "AQE-$mode-"
    make "adyen-$mode-webhook" "" 32
done
for kind in key secret callback passkey initiator; do
    make "daraja-600100-$kind"
done
for kind in key secret callback; do
    make "momo-700200-$kind"
done
for service in checkout payment inventory loyalty shipping ledger merchant risk notifier reconciliation \
               members mobile_money saga_tracker console; do
    make "$service"
    make "${service}_owner"
done
for user in broker deploy checkout payment inventory loyalty shipping ledger merchant risk notifier reconciliation \
            members mobile-money saga-tracker saga-tracker-api analytics audit operator; do
    make "kafka-$user"
done
for user in checkout payment merchant members console; do
    make "redis-$user"
done
# Kafka's storage is formatted with its first two logins; the deployment creates all others.
sed "s/@BROKER_PASSWORD@/$(cat secrets/kafka-broker)/g" kafka.properties > secrets/kafka.properties
{
    printf '%s\n' --ignore-formatted -t bbKE5E7TTpuFx5O2wsEYhA -c /run/secrets/kafka.properties
    printf -- '--add-scram\nSCRAM-SHA-512=[name=broker,password=%s]\n' "$(cat secrets/kafka-broker)"
    printf -- '--add-scram\nSCRAM-SHA-512=[name=deploy,password=%s]' "$(cat secrets/kafka-deploy)"   # no end of line
} > secrets/kafka.format
# The users of Redis and their keys, with only a digest of each password.
{
    echo 'user default off'
    for user in checkout payment merchant members console; do
        printf 'user %s on #%s ~%s:* %s\n' "$user" "$(sha256sum "secrets/redis-$user" | cut -d ' ' -f 1)" "$user" \
            '+@read +@write +@connection +@scripting +@transaction -@dangerous +client|setinfo'
    done
} > secrets/redis.acl
# The registry reads settings from a file, so that its password is not in its environment.
printf 'apicurio.datasource.password=%s\n' "$(cat secrets/registry)" > secrets/registry.properties
