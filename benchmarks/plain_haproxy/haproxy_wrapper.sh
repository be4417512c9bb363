#!/bin/sh
# HAProxy without a holder of its port, as it was started before there was one: what bench_proxy_kills.py compares with.
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
