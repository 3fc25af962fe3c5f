#!/bin/sh
# Container entry point: the Redis password is a secret file, natlab takes one address; join them, then
# become the command. The password must need no escaping in a URL (hex or letters and digits).
set -eu
if [ -n "${NATLAB_REDIS_PASSWORD_FILE:-}" ]; then
  NATLAB_REDIS_URL="redis://:$(cat "$NATLAB_REDIS_PASSWORD_FILE")@${NATLAB_REDIS_ADDRESS:-redis:6379}/0"
  export NATLAB_REDIS_URL
fi
exec "$@"
