#!/usr/bin/env bash
# pgpool-II 4.3.5 before one PostgreSQL 18.6, without failover and balancing: an administrator ends the session of a client that is idle.
# Guess: the client is told at once, or its next statement fails at once, with the server's 57P01.
# Seen: nobody tells the client, and its next statement, a write too, is kept for some five seconds before it fails, without the server's code.
# | direct: FATAL:  57P01, at once
# | through pgpool-II: FATAL:  XX000, after three seconds or more
source "$(dirname "$0")/common.sh"
primary one 17001
pgpool=$(debian bookworm pgpool pgpool2=4.3.5-1+deb12u1)
mkdir pgpool
printf '%s\n' "listen_addresses = '127.0.0.1'" 'port = 17003' "socket_dir = '$work/pgpool'" "pcp_listen_addresses = '127.0.0.1'" 'pcp_port = 17004' \
  "pcp_socket_dir = '$work/pgpool'" "pid_file_name = '$work/pgpool/pid'" "logdir = '$work/pgpool'" "backend_clustering_mode = 'streaming_replication'" \
  'num_init_children = 4' "sr_check_user = 'postgres'" "backend_hostname0 = '127.0.0.1'" 'backend_port0 = 17001'  "backend_flag0 = 'DISALLOW_TO_FAILOVER'" \
  'failover_on_backend_error = off' 'load_balance_mode = off' >pgpool/pgpool.conf
: >pgpool/pcp.conf
[[ ${#as[@]} == 0 ]] || chown -R nobody pgpool
"${as[@]}" "$pgpool" -n -f pgpool/pgpool.conf -F pgpool/pcp.conf >pgpool.log 2>&1 &
until [[ $(ask 17003 'select 1') == 1 ]]; do sleep 0.1; done
# A client that is idle for a second, in which its session is ended; then it writes.
written_after_the_end() { # PORT
  local pid
  { printf 'set application_name = $$ended_%s$$;\n' "$1"; sleep 2; printf 'insert into item values (1);\n'; } |
    "$bin/psql" "host=127.0.0.1 port=$1 user=postgres dbname=postgres" -XqAt -v VERBOSITY=sqlstate >"client-$1" 2>&1 &
  pid=$!
  sleep 1
  ask 17001 "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ended_$1'" >/dev/null
  sleep 1
  local began=$SECONDS
  wait "$pid" || true
  echo "$(head -n 1 "client-$1" | cut -c1-60), $( ((SECONDS - began < 3)) && echo "at once" || echo "after three seconds or more")"
}
ask 17001 'create table item (n int)'
{
  echo "direct: $(written_after_the_end 17001)"
  echo "through pgpool-II: $(written_after_the_end 17003)"
} | as_before
