# fireflow-worker, without a shell: the binary, its configuration, and the certificates of public authorities for TLS.
#
#   docker build -t fireflow-worker .
#   docker run -e DATABASE_URL=postgres://... fireflow-worker

FROM rust:1.95-bookworm AS build
WORKDIR /source
# The symbols of a release build are a third of its size.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols

# Dependencies alone, against an empty crate: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --no-default-features

# The crate. Files keep their times, which may lie before the empty crate's build: touched, or cargo would keep that one.
# Without the default feature, which downloads PostgreSQL for `dev`.
COPY migrations migrations
COPY examples examples
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --no-default-features \
    && target/release/fireflow-worker --version

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/target/release/fireflow-worker /usr/local/bin/fireflow-worker
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
ENTRYPOINT ["/usr/local/bin/fireflow-worker"]
CMD ["run"]
