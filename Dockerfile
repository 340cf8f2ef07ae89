# The image of Sconce: one static program, nothing else, and nobody's user. `docker build -t sconce .`
# Both bases are pinned by digest in a release; a build without a way out takes them from a mirror with --build-arg.
ARG GO=golang:1.26
ARG BASE=gcr.io/distroless/static-debian12:nonroot

FROM ${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /sconce ./cmd/sconce

FROM ${BASE}
COPY --from=build /sconce /sconce
USER 65532:65532
ENTRYPOINT ["/sconce"]
