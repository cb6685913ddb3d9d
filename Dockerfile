# syntax=docker/dockerfile:1
# `extproc` and nothing else: docker run IMAGE gateway --config-file /etc/extproc/gateway.yaml
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock pyproject.toml ./
# The names are what pyproject.toml needs to run, versions and hashes are the lock's.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > runtime.txt \
 && python -m venv --without-pip /opt/extproc \
 && python -m pip --python /opt/extproc install --require-hashes --only-binary :all: -c requirements.lock -r runtime.txt \
 && python -m pip install --require-hashes --only-binary :all: -c requirements.lock hatchling
COPY README.md LICENSE ./
COPY envoy ./envoy
COPY extproc ./extproc
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m pip --python /opt/extproc install --no-deps --no-index /wheels/*.whl \
 && python -m compileall -q /opt/extproc

FROM ${PYTHON}
COPY --from=build /opt/extproc /opt/extproc
ENV PATH=/opt/extproc/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
# ExtProc (router 9004, picker and gateway 9002), gRPC health, metrics and pages
EXPOSE 9002 9003 9004 9005 9090
ENTRYPOINT ["extproc"]
CMD ["--help"]
