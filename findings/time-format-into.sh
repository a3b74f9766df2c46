#!/usr/bin/env bash
# time 0.3.55: does `format_into`, which gives "the number of bytes written", give it for a moment in RFC 3339?
# Guess: yes; a buffer can be cut there.
# Seen: the digits of a second count as one, however many are written. Whoever cuts there loses digits and the Z; without a fraction it is right.
# | 2026-11-30T09:00:00Z: 20 bytes written, 20 reported
# | 2026-11-30T09:00:00.5Z: 22 bytes written, 21 reported
# | 2026-11-30T09:00:00.123456Z: 27 bytes written, 21 reported
# | 2026-11-30T09:00:00.000000001Z: 30 bytes written, 21 reported
set -euo pipefail
expected=$(sed -n 's/^# | //p' "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.1.0"
edition = "2024"

[dependencies]
time = { version = "=0.3.55", features = ["formatting"] }
TOML
cat >src/main.rs <<'RUST'
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fn main() {
    for nanoseconds in [0, 500_000_000, 123_456_000, 1] {
        let moment = 1_796_029_200_000_000_000 + nanoseconds;
        let moment = OffsetDateTime::from_unix_timestamp_nanos(moment).unwrap();
        let mut text = Vec::new();
        let reported = moment.format_into(&mut text, &Rfc3339).unwrap();
        let (written, text) = (text.len(), String::from_utf8(text).unwrap());
        println!("{text}: {written} bytes written, {reported} reported");
    }
}
RUST
seen=$(cargo run --quiet)
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { echo 'this has changed'; exit 1; }
