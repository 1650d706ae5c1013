FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies, in a layer of their own: it is built anew only when these two files change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/peers \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs benches/peers/main.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
# Newer than what was built from nothing above, whatever times the checkout gave the files.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked \
    && install -D target/release/alovoice-gateway /image/usr/local/bin/alovoice-gateway \
    && mkdir /image/data


FROM gcr.io/distroless/cc-debian12:nonroot

LABEL org.opencontainers.image.title="alovoice-gateway" \
      org.opencontainers.image.description="One REST API in front of AloVoice speech analytics" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /image/usr /usr
# The SQLite file's place: the only one that is written to. The default store.url is relative to it.
COPY --from=build --chown=65532:65532 /image/data /data
COPY LICENSE NOTICE /usr/share/doc/alovoice-gateway/
WORKDIR /data
VOLUME ["/data"]

USER 65532:65532
# The API; metrics and probes.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Settings: a file named by GATEWAY_CONFIG, variables GATEWAY_…, or both.
ENTRYPOINT ["/usr/local/bin/alovoice-gateway"]
CMD ["serve"]
