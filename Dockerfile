FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/broker
WORKDIR /src
# The dependencies are a layer of their own: they change far less often than the code.
COPY requirements.lock ./
RUN /opt/broker/bin/pip install --require-hashes --no-deps --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY broker ./broker
RUN /opt/broker/bin/pip install --no-deps --no-build-isolation . && /opt/broker/bin/pip check

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --create-home --home-dir /var/lib/broker --shell /usr/sbin/nologin broker \
    && mkdir /data && chown broker:broker /data
COPY --from=build /opt/broker /opt/broker
WORKDIR /etc/broker
COPY channels.yaml ./
COPY routes ./routes
COPY mappings ./mappings
# what the cases of the routes send, for `broker test`
COPY samples ./samples
ENV PATH=/opt/broker/bin:$PATH PYTHONUNBUFFERED=1 \
    BROKER_DATA=/data BIND=0.0.0.0 HL7_PORT=2575 DICOM_PORT=11112 WEB_PORT=8080
USER broker
VOLUME /data
EXPOSE 2575 11112 8080
# SIGTERM lets open work finish; give it time: docker stop --time 30
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['WEB_PORT'] + '/healthz', timeout=4)"]
CMD ["broker", "run", "--log", "json"]
