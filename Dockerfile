# The base images are pinned by tag. To pin them by digest too, append the `@sha256:…` that your registry shows for the tag.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies, in a layer of their own: it is built anew only when these two files change. Cargo insists on the files
# of every bench that the manifest names, and those stay outside: here it names none.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[bench\]\]/,/^$/d' Cargo.toml \
    && mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
# Newer than what was built from nothing above, whatever times the checkout gave the files.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# What the image consists of: the program without its symbols, the four libraries that it needs, and what Debian says of
# these, for scanners to find. The base image that has them all has twice as much besides.
RUN install -D --strip target/release/alovoice-gateway /image/root/usr/local/bin/alovoice-gateway \
    && ldd target/release/alovoice-gateway > /image/ldd \
    && grep -o '/[^ ]*' /image/ldd > /image/libraries \
    && xargs -a /image/libraries cp --dereference --parents -t /image/root \
    && mkdir -p /image/data /image/root/var/lib/dpkg/status.d \
    && for package in libc6 libgcc-s1; do \
        dpkg-query -s "$package" > "/image/root/var/lib/dpkg/status.d/$package" \
        && install -D -m 644 "/usr/share/doc/$package/copyright" "/image/root/usr/share/doc/$package/copyright" || exit; \
    done


FROM gcr.io/distroless/static-debian12:nonroot

COPY --from=build /image/root /
# The SQLite file's place: the only one that is written to. The default store.url is relative to it.
COPY --from=build --chown=65532:65532 /image/data /data
COPY LICENSE NOTICE /usr/share/doc/alovoice-gateway/
WORKDIR /data
VOLUME ["/data"]

USER 65532:65532
# The API; metrics and probes.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Kubernetes has probes of its own and ignores this, as do images in OCI's format.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/alovoice-gateway", "health"]
# Settings: a file named by GATEWAY_CONFIG, variables GATEWAY_…, or both.
ENTRYPOINT ["/usr/local/bin/alovoice-gateway"]
CMD ["serve"]

# Last, so that they alone are made anew when they change.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="alovoice-gateway" \
      org.opencontainers.image.description="One REST API in front of AloVoice speech analytics" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
