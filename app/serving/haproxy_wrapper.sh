#!/bin/sh
# What Ray runs in HAProxy's place: see haproxy_start.py, which becomes HAProxy.
root=$(cd "$(dirname "$0")/../.." && pwd)
PYTHONPATH=$root exec "$MILLRACE_PYTHON" -S -m app.serving.haproxy_start "$MILLRACE_HAPROXY_BINARY" "$@"
