# One image for every process: `serve` (the default), `runworker nats_bridge`, `auth_worker`,
# `migrate`. It holds no secret: all settings come from the environment.

FROM python:3.11-slim AS wheels
COPY requirements.txt /wheels/
RUN pip wheel --no-cache-dir --wheel-dir /wheels --requirement /wheels/requirements.txt

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 \
    DATA_DIR=/data
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin gateway \
    && install --directory --owner=gateway --group=gateway --mode=0700 /data
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels --requirement /wheels/requirements.txt
WORKDIR /app
COPY . .
# The key and the directory serve this one command; neither is left in the image.
RUN SECRET_KEY=only-for-the-build DATA_DIR=/tmp/build python manage.py collectstatic --noinput \
    && rm -rf /tmp/build \
    && python -m compileall -q .
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# 127.0.0.1 has to be one of ALLOWED_HOSTS. Other processes than `serve` have no port: they
# switch this off.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["python", "manage.py"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
