#!/bin/sh
# Becomes HAProxy, after adding to the configuration what Ray's template leaves out:
# buffer small request bodies (else a POST is never retried), and keep metrics and statistics on loopback.
configuration=
previous=
for argument in "$@"; do
    [ "$previous" = "-f" ] && configuration=$argument
    previous=$argument
done
if [ -n "$configuration" ] && ! grep -q 'option http-buffer-request' "$configuration"; then
    sed -i \
        -e 's/^    option abortonclose$/&\n    option http-buffer-request/' \
        -e 's/^    bind :\([0-9]*\)$/    bind 127.0.0.1:\1/' \
        -e 's/^  bind \*:\([0-9]*\)$/  bind 127.0.0.1:\1/' \
        "$configuration"
fi
exec "$MILLRACE_HAPROXY_BINARY" "$@"
