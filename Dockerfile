# The base images are pinned by tag. To pin them by digest too, append the `@sha256:…` that your registry shows for the tag.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src

# A separate layer for the dependencies: it is rebuilt only when these two files change. Cargo requires the file of every
# bench in the manifest, and these files are not copied, so the benches are removed from the manifest.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[bench\]\]/,/^$/d' Cargo.toml \
    && mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
# Cargo compares times: the sources must be newer than the empty crate that was built above.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# Content of the image: the program without symbols, the libraries that it needs, and Debian's package data of these
# libraries for scanners. A base image with all of these libraries would be larger.
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
# The folder of the SQLite file, the only folder that is written to. The default store.url is relative to it.
COPY --from=build --chown=65532:65532 /image/data /data
# The bill of materials is written by tests/sbom/run. A pattern, so that the image can be built without it.
COPY LICENSE NOTICE target/sbom/alovoice-gateway.cdx.jso[n] /usr/share/doc/alovoice-gateway/
WORKDIR /data
VOLUME ["/data"]

USER 65532:65532
# The API; metrics and probes.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Kubernetes uses its own probes and ignores this. Images in OCI's format have no health check.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/alovoice-gateway", "health"]
# Settings: a file named by GATEWAY_CONFIG, variables GATEWAY_…, or both.
ENTRYPOINT ["/usr/local/bin/alovoice-gateway"]
CMD ["serve"]

# Last, so that a change rebuilds only these labels.
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
