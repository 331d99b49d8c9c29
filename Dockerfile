# The image of swarm-registry: `docker build -t swarm-registry .`
#
# BASE is any image with Python 3.11 or newer, Debian's or Alpine's. To build without a network, `make wheels` on a
# machine that has one, with the same Python: what it leaves in ./wheels is all that is taken.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY registry registry
COPY LICENSE wheel[s] /wheels/
RUN python3 -m venv /pip \
 && python3 -m venv --without-pip /opt/registry \
 && if ls /wheels/*.whl >/dev/null 2>&1; then from="--no-index --find-links=/wheels swarm-registry"; else from="."; fi \
 && /pip/bin/pip --python /opt/registry/bin/python install --no-cache-dir --disable-pip-version-check $from

FROM ${BASE}
LABEL org.opencontainers.image.title="swarm-registry" \
      org.opencontainers.image.description="An OCI container registry that runs on registry:2's volume, and back" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/registry /opt/registry
# The places of registry:2's and registry:3's images; a configuration that is mounted at either is found at both.
RUN ln -s /opt/registry/bin/registry /bin/registry \
 && ln -s /opt/registry/bin/registry-entrypoint /entrypoint.sh \
 && mkdir -p /etc/docker/registry /etc/distribution \
 && printf 'version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /var/lib/registry\nhttp:\n  addr: :5000\n' \
    > /etc/docker/registry/config.yml \
 && ln -s /etc/docker/registry/config.yml /etc/distribution/config.yml \
 && mkdir -p /var/lib/registry \
 && chown 65532:65532 /var/lib/registry
# It begins as root to see to whom the volume belongs, and goes on as the owner: uid 65532 on a fresh one.
ENV SWARM_REGISTRY_USER=65532 \
    PYTHONDONTWRITEBYTECODE=1
VOLUME ["/var/lib/registry"]
EXPOSE 5000
# Swarm sends nobody here before the first check, which comes after one interval.
HEALTHCHECK --interval=5s --timeout=10s --start-period=30s --retries=6 CMD ["/bin/registry", "ping"]
ENTRYPOINT ["/entrypoint.sh"]
CMD ["/etc/docker/registry/config.yml"]
