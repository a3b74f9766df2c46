#!/usr/bin/env bash
# haproxy 2.6.12, `option pgsql-check`, PostgreSQL 18.6: what does UP mean?
# Guess: the named user can log in.
# Seen: the server has answered with anything but a refusal by pg_hba.conf. It is UP for a user that does not exist, and while no ordinary role gets a
# connection any more. Each check leaves a FATAL in the server's log.
# | a user that does not exist: UP
# | while every ordinary login is refused (FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute): UP
# | FATAL lines in the server's log for each check: 1
source "$(dirname "$0")/common.sh"
primary one 17001 max_connections=10 log_connections=on
ask 17001 'create role app login'
haproxy=$(debian bookworm haproxy haproxy=2.6.12-1+deb12u3)
printf '%s\n' global "  stats socket $work/stats" defaults '  mode tcp' '  timeout connect 1s' '  timeout client 1m' '  timeout server 1m' 'listen database' \
  '  bind 127.0.0.1:17002' '  option pgsql-check user nobody_there' '  server one 127.0.0.1:17001 check inter 200ms' >haproxy.cfg
"$haproxy" -db -f haproxy.cfg >haproxy.log 2>&1 &
sleep 2
status() {
  python3 -c 'import csv, io, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
asked.sendall(b"show stat\n")
rows = list(csv.DictReader(io.StringIO(asked.makefile().read().lstrip("# "))))
print(next(row["status"] for row in rows if row["svname"] == "one"))' "$work/stats"
}
{
  echo "a user that does not exist: $(status)"
  for _ in 1 2 3 4 5 6 7; do USER_OF_ASK=app ask 17001 'select pg_sleep(5)' >/dev/null & done
  sleep 1.5
  echo "while every ordinary login is refused ($(USER_OF_ASK=app ask 17001 'select 1' | grep -o 'FATAL.*')): $(status)"
  echo "FATAL lines in the server's log for each check: $(($(grep -c 'FATAL.*nobody_there' one.log) / $(grep -c 'user=nobody_there' one.log)))"
} | as_before
