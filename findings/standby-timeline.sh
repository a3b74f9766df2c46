#!/usr/bin/env bash
# PostgreSQL 18.6: which timeline does a standby follow, once its primary is dead?
# Guess: pg_control_checkpoint() or pg_stat_wal_receiver still says so.
# Seen: the view has no row without a stream, the control file says the timeline of the last restart point, which is the one of before the
# failover, and pg_walfile_name() refuses to answer on a standby. The names in pg_wal tell it, which takes pg_monitor to list.
# | while it follows the promoted one: receiver 2, control file 1
# | after that one has died: receiver none, control file 1
# | pg_walfile_name: ERROR:  55000
# | the newest file in pg_wal: timeline 2
source "$(dirname "$0")/common.sh"
primary first 17001
standby second 17002 17001
standby third 17003 17001
told() { ask 17003 "select format('receiver %s, control file %s', coalesce((select received_tli::text from pg_stat_wal_receiver), 'none'), timeline_id) from pg_control_checkpoint()"; }
{
  "${as[@]}" "$bin/pg_ctl" -D first -m immediate stop >/dev/null
  ask 17002 'select pg_promote()' >/dev/null
  ask 17003 "alter system set primary_conninfo = 'host=127.0.0.1 port=17002 user=postgres'" 'select pg_reload_conf()' >/dev/null
  until [[ $(ask 17003 'select received_tli from pg_stat_wal_receiver') == 2 ]]; do sleep 0.1; done
  ask 17002 'create table item (id int)'
  until [[ $(ask 17003 "select to_regclass('item')") == item ]]; do sleep 0.1; done
  echo "while it follows the promoted one: $(told)"
  "${as[@]}" "$bin/pg_ctl" -D second -m immediate stop >/dev/null
  until [[ -z $(ask 17003 'select pid from pg_stat_wal_receiver') ]]; do sleep 0.1; done
  echo "after that one has died: $(told)"
  echo "pg_walfile_name: $(ask 17003 'select pg_walfile_name(pg_last_wal_replay_lsn())')"
  echo "the newest file in pg_wal: timeline $(ask 17003 "select ('x' || left(max(name), 8))::bit(32)::int from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'")"
} | as_before
