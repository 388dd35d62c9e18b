# syntax=docker/dockerfile:1

# The build runs on the builder's own platform and cross-compiles: emulating
# the target would take ten times as long and change nothing in the binary.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
# go.mod first, so that a change of code alone keeps the layer with the modules.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# CGO_ENABLED=0 makes the binary static: distroless/static has no libc.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags="-s -w" -o /out/quadnine ./cmd/quadnine

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/quadnine /quadnine
COPY LICENSE /LICENSE
# 65532 is distroless' nonroot, as a number so that runAsNonRoot can check it.
USER 65532:65532
# There is no shell and no curl in the image: the binary asks its own /ready.
HEALTHCHECK --interval=5s --timeout=2s --start-period=2s --retries=3 CMD ["/quadnine", "healthcheck"]
ENTRYPOINT ["/quadnine"]
CMD ["run"]
