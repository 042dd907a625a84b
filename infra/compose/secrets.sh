#!/bin/sh
# Makes the secrets of compose.yaml that are not there yet, in the folder secrets/ beside it. Only
# you may enter it; each file can be read by the user of whichever container gets it.
set -eu
cd "$(dirname "$0")/.."
umask 077
mkdir -p secrets
for name in endpoint_token grafana_password postgres_password ray_token s3_access_key s3_secret_key; do
  [ -s "secrets/$name" ] && continue
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"secrets/$name"
  chmod 444 "secrets/$name"
done
echo "The secrets are in $PWD/secrets."
