#!/bin/sh
# A standby of whichever of SERVERS is the primary: a copy of its data that then streams what changes, and takes reads. When another
# one is promoted it follows that. After `pg_ctl promote` it is a primary of its own, also when it is started again.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  until pg_basebackup --dbname="host=$SERVERS target_session_attrs=read-write" --pgdata="$PGDATA" --checkpoint=fast --write-recovery-conf; do
    echo "waiting for a primary among $SERVERS that lets standbys follow"
    rm -rf "${PGDATA:?}"/*
    sleep 2
  done
  chmod 0700 "$PGDATA"
fi
exec postgres -c listen_addresses='*' -c hba_file=/pg_hba.conf -c wal_retrieve_retry_interval=500ms
