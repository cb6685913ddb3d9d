# syntax=docker/dockerfile:1
# One image for every subcommand: docker run IMAGE gateway --config-file /etc/extproc/gateway.yaml
#
# Charts and manifests of the inference extension give their images no subcommand. Build those with --target bbr or --target epp,
# and put such an image in place of upstream's.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock pyproject.toml ./
# The names are what pyproject.toml needs to run, on Kubernetes and with endpoints in a database too; versions and hashes are the lock's.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *(each for extra in ('cel', 'kubernetes', 'serving', 'postgres', 'shadow') for each in p['optional-dependencies'][extra]), sep='\n')" > runtime.txt \
 && python -m venv --without-pip /opt/extproc \
 && python -m pip --python /opt/extproc install --no-compile --require-hashes --only-binary :all: -c requirements.lock -r runtime.txt \
 && python -m pip install --require-hashes --only-binary :all: -c requirements.lock -r runtime.txt hatchling hatch-mypyc \
 && apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY README.md LICENSE ./
COPY envoy ./envoy
COPY extproc ./extproc
# With the hot path compiled (docs/architecture.md): half the CPU a request.
ENV HATCH_BUILD_HOOK_ENABLE_MYPYC=1 CFLAGS=-Wno-misleading-indentation
# Bytecode is made once, here, and checked against nothing at run time: the files under it never change.
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m pip --python /opt/extproc install --no-compile --no-deps --no-index /wheels/*.whl \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/extproc

FROM ${PYTHON} AS runtime
# Nothing installs anything here.
RUN python -m pip uninstall --yes --quiet pip && rm -rf /usr/local/lib/python3*/ensurepip /root/.cache
COPY --from=build /opt/extproc /opt/extproc
ENV PATH=/opt/extproc/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# For --database-url=sqlite:////var/lib/extproc/state.db: a volume that is made here has this owner.
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/extproc
USER 65532:65532
# ExtProc (router 9004, picker and gateway 9002), gRPC health, metrics and pages
EXPOSE 9002 9003 9004 9005 9090
STOPSIGNAL SIGTERM
# Kubernetes has probes of its own and does not look at this.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["extproc", "health"]

FROM runtime AS bbr
ENTRYPOINT ["extproc", "bbr"]

FROM runtime AS epp
ENTRYPOINT ["extproc", "epp"]

FROM runtime
ENTRYPOINT ["extproc"]
CMD ["--help"]
