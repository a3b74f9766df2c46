#!/usr/bin/env bash
# PgBouncer 1.24.1 in transaction mode, PostgreSQL 18.6: a client executes a prepared statement that it has not prepared (or has closed).
# Guess: as at the server, an ERROR 26000, by which a client knows that it has to prepare it again.
# Seen: a FATAL 08P01. The client's connection is closed, and with it the session at the server that PgBouncer had taken for it.
# | the server: ERROR:  26000 and its session goes on
# | PgBouncer: FATAL:  08P01
# | sessions at the server that PgBouncer closed for it: 1
source "$(dirname "$0")/common.sh"
primary server 17001
pgbouncer
unknown() { printf '\\bind_named never \\g\nselect $$and its session goes on$$;\n' | "$bin/psql" "host=127.0.0.1 port=$1 user=postgres dbname=postgres" -XqAt -v VERBOSITY=sqlstate 2>&1 || true; }
{
  echo "the server: $(unknown 17001 | paste -sd ' ')"
  echo "PgBouncer: $(unknown 17002 | head -n 1)"
  sleep 0.2
  echo "sessions at the server that PgBouncer closed for it: $(grep -c ' S-.*closing because' pgbouncer.log)"
} | as_before
