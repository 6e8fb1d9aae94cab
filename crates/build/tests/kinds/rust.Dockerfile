# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM rust:1-alpine AS chef
RUN apk add --no-cache musl-dev && cargo install cargo-chef --locked
WORKDIR /work

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
ARG TARGETARCH
ARG PROFILE=release
COPY --from=plan /work/recipe.json recipe.json
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "no target for $TARGETARCH" >&2; exit 1 ;; \
    esac > /target && rustup target add "$(cat /target)"
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo chef cook --profile "$PROFILE" --target "$(cat /target)" --recipe-path recipe.json
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --profile "$PROFILE" --target "$(cat /target)" && cp "target/$(cat /target)/release/tool" /tool

FROM scratch
COPY --link --from=build /tool /tool
ENTRYPOINT ["/tool"]
