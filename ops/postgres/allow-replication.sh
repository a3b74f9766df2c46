#!/bin/sh
# Runs when the database of docker-compose.yml is made: standbys on the same network may follow it.
echo 'host replication all samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
