#!/usr/bin/env bash
# PostgreSQL 18.6, a standby with recovery_min_apply_delay: are reads there merely old?
# Guess: a read sees the state of four seconds ago, and never waits: the change comes later as a whole.
# Seen: only the commit waits. The lock of an `alter table` of milliseconds is replayed at once and held until the commit may be replayed, so every read of
# that table waits for the whole delay, also of columns that do not change.
# | before: 1 after 0 s
# | after an alter table at the primary: 1 after 4 s
# | and then: 1 after 0 s
source "$(dirname "$0")/common.sh"
primary one 17001
standby two 17002 17001 "recovery_min_apply_delay=4s"
ask 17001 'create table item (id int)' 'insert into item values (1)'
sleep 5
{
  echo "before: $(timed 17002 'select id from item')"
  ask 17001 'alter table item add column note text'
  sleep 0.3
  echo "after an alter table at the primary: $(timed 17002 'select id from item')"
  echo "and then: $(timed 17002 'select id from item')"
} | as_before
