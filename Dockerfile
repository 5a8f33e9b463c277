# fireflow-worker without a shell: the binary, its configuration, and the certificates of public authorities for TLS.
#
#   docker build -t fireflow-worker .
#   docker run -e DATABASE_URL=postgres://... fireflow-worker
#
# `packaging/image/try` goes through these steps without Docker. docs/operations/packaging.md tells why they are as they are.

# What the binary needs of a system: glibc, libgcc and libm, of the same Debian as the build stage. Nothing of it is run, so
# debian:bookworm-slim does as well, for who wants a shell beside the worker.
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM rust:1.95-bookworm AS build
WORKDIR /source

# Dependencies alone, against an empty crate: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --profile dist --locked --no-default-features

# The crate. Files keep their times, which may lie before the empty crate's build: touched, or cargo would keep that one.
# Without the default feature, which downloads PostgreSQL for `dev`.
COPY migrations migrations
COPY config config
COPY examples examples
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --profile dist --locked --no-default-features \
    && target/dist/fireflow-worker --version

FROM ${RUNTIME}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/target/dist/fireflow-worker /usr/local/bin/fireflow-worker
COPY config/worker.toml /etc/fireflow/worker.toml

# A user without a name: it owns nothing here, and the worker writes no files.
USER 10001:10001
WORKDIR /
# FIREFLOW__SECTION__KEY and DATABASE_URL win over the file. In a container, loopback would hide the listener.
ENV FIREFLOW_CONFIG=/etc/fireflow/worker.toml \
    FIREFLOW__ADMIN__LISTEN=0.0.0.0:7420
EXPOSE 7420
# Drains; give it more than worker.drain_timeout before the kill (docker stop --time, stop_grace_period).
STOPSIGNAL SIGTERM
# Whether it lives. With --ready it would be unhealthy while the database is away, and what restarts unhealthy containers
# would restart all workers then, for nothing.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/fireflow-worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/fireflow-worker"]
CMD ["run"]
