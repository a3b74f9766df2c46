#!/usr/bin/env bash
# PostgreSQL 18.6: can an ordinary role count the sessions of a server?
# Guess: pg_stat_activity hides what others run, not what they are, and pg_stat_database.numbackends counts sessions.
# Seen: of another role's rows backend_type, leader_pid, state and client_port are null, so four parallel workers of one query look like four more sessions; numbackends counts them as well.
# Against `connection limit` they do not count: the role may have one connection, and has its query with four workers.
# | as superuser: 1 client backend, 4 parallel workers
# | as another role: 5 rows, 0 with a backend_type, 0 with a leader_pid, 0 with a state
# | numbackends, without the one that asks: 5
source "$(dirname "$0")/common.sh"
primary one 17001 max_parallel_workers=8 max_parallel_workers_per_gather=4 parallel_setup_cost=0 parallel_tuple_cost=0
ask 17001 'create role busy login connection limit 1' 'create role app login' 'create table big as select n from generate_series(1, 2000000) as n' \
  'alter table big set (parallel_workers = 4)' 'grant select on big to busy' 'analyze big'
USER_OF_ASK=busy ask 17001 'select count(*) from big, generate_series(1, 200)' >/dev/null &
workers() { ask 17001 "select count(*) from pg_stat_activity where usename = 'busy'"; }
until [[ $(workers) == 5 ]]; do sleep 0.1; done
{
  echo "as superuser: $(ask 17001 "select format('%s client backend, %s parallel workers', count(*) filter (where backend_type = 'client backend'), count(*) filter (where backend_type = 'parallel worker')) from pg_stat_activity where usename = 'busy'")"
  echo "as another role: $(USER_OF_ASK=app ask 17001 "select format('%s rows, %s with a backend_type, %s with a leader_pid, %s with a state', count(*), count(backend_type), count(leader_pid), count(state)) from pg_stat_activity where usename = 'busy'")"
  echo "numbackends, without the one that asks: $(USER_OF_ASK=app ask 17001 'select numbackends - 1 from pg_stat_database where datname = current_database()')"
} | as_before
