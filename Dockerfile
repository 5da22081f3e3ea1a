# One image for server, coordinator, peer and client: docker build -t cohort .
FROM swift:6.2-bookworm AS build
WORKDIR /cohort
COPY scripts/setup.sh scripts/setup.sh
RUN scripts/setup.sh
COPY Package.swift ./
COPY Sources Sources
COPY Examples/*.csv Examples/
# COHORT_ONLY leaves the tests out. Without symbols the executable is less than half as large.
RUN COHORT_ONLY=cohort swift build -c release --static-swift-stdlib --product cohort \
    && strip --strip-all -o cohort "$(COHORT_ONLY=cohort swift build -c release --static-swift-stdlib --show-bin-path)/cohort"

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl libcrypt1 libmongoc-1.0-0 libopenblas0 librabbitmq4 libsqlite3-0 libstdc++6 openssl \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 cohort \
    && useradd --uid 10001 --gid cohort --home-dir /var/lib/cohort --create-home --shell /usr/sbin/nologin cohort \
    && chmod 700 /var/lib/cohort
COPY --from=build /cohort/cohort /usr/local/bin/cohort
COPY deploy/compose/secrets.sh /usr/local/bin/cohort-secrets
COPY deploy/compose/join.sh /usr/local/bin/cohort-join
USER cohort
WORKDIR /var/lib/cohort
ENV HOME=/var/lib/cohort COHORT_DATA_DIR=/var/lib/cohort/data COHORT_HOST=0.0.0.0
RUN mkdir -m 700 data
EXPOSE 8080
# For `serve`; a peer and a coordinator listen nowhere, and end when they cannot go on.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD curl -fsS "http://127.0.0.1:${COHORT_PORT:-8080}/health/ready" || exit 1
ENTRYPOINT ["cohort"]
CMD ["serve"]
