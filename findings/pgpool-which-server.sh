#!/usr/bin/env bash
# pgpool-II 4.3.5 with a primary and a standby, all of its settings for balancing at their defaults: how does a client find out which server answers it?
# Guess: `select pg_is_in_recovery()`, as everywhere; and a function that writes goes to the primary.
# Seen: pgpool sends that one question to the primary and the others to the standby, so a session whose reads are answered by the standby hears that there is
# none; asked in one statement with the port it is the primary's too. A volatile function that is not in its list of those that write is sent to the standby, and fails. In a transaction it is no different.
# | pg_is_in_recovery(): f
# | inet_server_port(): 17002, the standby's
# | both in one statement: f|17001
# | show transaction_read_only: on
# | txid_current(): ERROR:  25006
# | inet_server_port() in a transaction: 17002
source "$(dirname "$0")/common.sh"
primary one 17001
standby two 17002 17001
pgpool=$(debian bookworm pgpool pgpool2=4.3.5-1+deb12u1)
mkdir pgpool
printf '%s\n' "listen_addresses = '127.0.0.1'" 'port = 17003' "socket_dir = '$work/pgpool'" "pcp_listen_addresses = '127.0.0.1'" 'pcp_port = 17004' \
  "pcp_socket_dir = '$work/pgpool'" "pid_file_name = '$work/pgpool/pid'" "logdir = '$work/pgpool'" "backend_clustering_mode = 'streaming_replication'" \
  'num_init_children = 4' "sr_check_user = 'postgres'" "backend_hostname0 = '127.0.0.1'" 'backend_port0 = 17001' 'backend_weight0 = 0' \
  "backend_hostname1 = '127.0.0.1'" 'backend_port1 = 17002' 'backend_weight1 = 1' >pgpool/pgpool.conf
: >pgpool/pcp.conf
[[ ${#as[@]} == 0 ]] || chown -R nobody pgpool
"${as[@]}" "$pgpool" -n -f pgpool/pgpool.conf -F pgpool/pcp.conf >pgpool.log 2>&1 &
until [[ $(ask 17003 'select 1') == 1 ]]; do sleep 0.1; done
{
  echo "pg_is_in_recovery(): $(ask 17003 'select pg_is_in_recovery()')"
  echo "inet_server_port(): $(ask 17003 'select inet_server_port()'), the standby's"
  echo "both in one statement: $(ask 17003 'select pg_is_in_recovery(), inet_server_port()')"
  echo "show transaction_read_only: $(ask 17003 'show transaction_read_only')"
  echo "txid_current(): $(ask 17003 'select txid_current()')"
  echo "inet_server_port() in a transaction: $(ask 17003 begin 'select inet_server_port()' commit)"
} | as_before
