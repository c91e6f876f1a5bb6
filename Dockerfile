# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# What was built stays in caches that are no part of any layer, so it is taken out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin refrain && \
    install -D target/release/refrain /out/refrain && \
    mkdir --mode 0700 /out/state

# No shell and no package manager; CA certificates and the C library are in it.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/refrain /usr/local/bin/refrain
# A new volume takes the owner over from here.
COPY --from=build --chown=65532:65532 /out/state /var/lib/refrain
ENV REFRAIN_LISTEN=0.0.0.0:8080 \
    REFRAIN_ADMIN__LISTEN=0.0.0.0:8081 \
    STATE_DIRECTORY=/var/lib/refrain
EXPOSE 8080 8081
USER 65532:65532
VOLUME ["/var/lib/refrain"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/refrain", "health"]
ENTRYPOINT ["/usr/local/bin/refrain"]
