# One file for every service: `docker build --build-arg SERVICE=customer .`, and `--build-arg FEATURES=otel` for traces.
# Builds with BuildKit and with the classic builder; needs no database (.sqlx holds the checked queries).

# The manifests of all crates with empty sources beside them. Its files change only when a manifest, Cargo.lock or
# .cargo does, and so does the dependency layer that is copied from it.
FROM rust:1.95-slim-bookworm AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' ! -path '*/benches/*' ! -path '*/examples/*' -delete \
 && find . -name '*.rs' -exec sh -c 'echo "fn main() {}" >"$1"' - {} \; \
 && find . -name Cargo.toml ! -path ./Cargo.toml -printf '%h\n' | while read -r crate; do \
      mkdir -p "$crate/src" && touch "$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs"; \
    done \
 && find . -type d -empty -delete

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Such as otel, for the export of traces.
ARG FEATURES=
# All services at once: then they share every build of a dependency. A package has the name of its folder.
# Layer 1: what others wrote. Minutes, but only when a dependency changes.
COPY --from=manifests /src .
RUN cargo build --release --locked ${FEATURES:+--features "$FEATURES"} $(printf -- '--package %s ' $(ls services))
# Layer 2: what the services share. The files are touched because cargo compares times, and the empty ones are newer.
COPY crates crates
RUN find crates -name '*.rs' -exec touch {} + \
 && rm -f crates/*/src/main.rs \
 && cargo build --release --locked ${FEATURES:+--features "$FEATURES"} $(printf -- '--package %s ' $(ls services))
# Layer 3: the services.
COPY migrations migrations
COPY .sqlx .sqlx
COPY services services
RUN find services -name '*.rs' -exec touch {} + \
 && cargo build --release --locked ${FEATURES:+--features "$FEATURES"} $(printf -- '--package %s ' $(ls services))

# libc and nothing else: no shell, no package manager, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG SERVICE=customer
COPY --from=build /src/target/release/${SERVICE} /service
ENV HOST=0.0.0.0 APP_ENV=production
HEALTHCHECK --interval=3s --timeout=6s --start-period=30s --retries=3 CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
