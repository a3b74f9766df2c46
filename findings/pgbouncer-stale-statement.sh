#!/usr/bin/env bash
# PgBouncer 1.24.1 in transaction mode, all else default, PostgreSQL 18.6: a table's column gets another type while clients have prepared `select *` from it.
# Guess: each client's statement fails once; a client that connects later prepares it anew, and never sees it.
# Seen: clients that connect later fail as well, every time: PgBouncer gives them the statement that it has prepared on that server session under the same
# text. `discard plans` changes nothing. Another text works, and so does this one after any client's `deallocate all`.
# | before: 1|
# | a new client after the change: ERROR:  0A000
# | the next one: ERROR:  0A000
# | one with a comment in its text: 1|
# | after discard plans: ERROR:  0A000
# | after deallocate all: 1|
source "$(dirname "$0")/common.sh"
primary server 17001
pgbouncer
# Each time a new client, with a named statement of the protocol.
prepared() { printf '%s \\parse one\n\\bind_named one \\g\n' "$1" | "$bin/psql" 'host=127.0.0.1 port=17002 user=postgres dbname=postgres' -XqAt -v VERBOSITY=sqlstate 2>&1 || true; }
ask 17001 'create table item (id int, note text)' 'insert into item values (1)'
{
  echo "before: $(prepared 'select * from item')"
  ask 17001 'alter table item alter column note type varchar(9)'
  echo "a new client after the change: $(prepared 'select * from item')"
  echo "the next one: $(prepared 'select * from item')"
  echo "one with a comment in its text: $(prepared 'select * from item /* again */')"
  ask 17002 'discard plans'
  echo "after discard plans: $(prepared 'select * from item')"
  ask 17002 'deallocate all'
  echo "after deallocate all: $(prepared 'select * from item')"
} | as_before
