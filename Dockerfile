# One image for daemon, API and the operator's commands; docker-compose.yml says which command runs.
# scripts/images writes it into .env: @sha256:… or nothing.
ARG PYTHON_DIGEST=
FROM python:3.13-slim${PYTHON_DIGEST} AS packages
# Pinned with hashes, and in a layer of their own: a change of the code does not install them again.
COPY requirements.lock /
RUN python3 -c 'import sys; sys.exit(sys.maxsize < 2**32 and "needs a 64-bit system: gevent, msgspec and psycopg have no packages for a 32-bit one")'
RUN python3 -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r /requirements.lock

FROM python:3.13-slim${PYTHON_DIGEST}
# The daemon's user, 10001. The API is 10002 in the same group: it reads the database and its tokens, and can write
# neither. They need no names, only numbers. The broker (group 1883 in its image) reads its secrets.
RUN install -d -o 10001 -g 10001 /data \
 && install -d -o 10001 -g 1883 -m 2750 /secrets/broker \
 && install -d -o 10001 -g 10001 -m 750 /secrets/daemon /secrets/api /secrets/gate /secrets/postgres
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY gunicorn.conf.py ./
COPY shared shared
COPY emotion_daemon emotion_daemon
COPY emotion_api emotion_api
COPY emotion_admin emotion_admin
# For `python3 -m emotion_device validate`, which checks a device's batch.
COPY emotion_device emotion_device
# `python -m emotion_admin docs` says where they are.
COPY README.md ./
COPY docs docs
COPY examples examples
# Also from a clone whose files only their owner may read.
RUN chmod -R a+rX . && python3 -m compileall -q .
USER 10001:10001
