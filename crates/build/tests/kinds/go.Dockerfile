# syntax=docker/dockerfile:1
ARG GO_VERSION=1.25
ARG XX_VERSION=1.6.1

FROM --platform=$BUILDPLATFORM helper/cross:${XX_VERSION} AS xx

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine AS base
COPY --link --from=xx / /
RUN apk add --no-cache clang git
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
WORKDIR /src

FROM base AS modules
RUN --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=bind,source=go.sum,target=go.sum \
    --mount=type=cache,target=/go/pkg/mod \
    go mod download -x

FROM modules AS build
ARG TARGETPLATFORM
ARG VERSION=dev
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/root/.cache/go-build \
    --mount=type=cache,target=/go/pkg/mod <<EOT
  set -eu
  xx-go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/server ./cmd/server
  xx-verify --static /out/server
EOT

FROM build AS test
RUN --mount=type=bind,target=. --mount=type=cache,target=/go/pkg/mod go test ./...

FROM scratch AS binary
COPY --from=build /out/server /

FROM gcr.example/distroless/static:nonroot
COPY --from=binary /server /usr/bin/server
USER nonroot:nonroot
EXPOSE 8080/tcp
ENTRYPOINT ["/usr/bin/server"]
CMD ["--listen=:8080"]
