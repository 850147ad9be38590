# One image for daemon, API and the operator's commands; docker-compose.yml says which command runs.
FROM python:3.13-slim AS packages
# Pinned with hashes, and in a layer of their own: a change of the code does not install them again.
COPY requirements.lock /
RUN python3 -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r /requirements.lock

FROM python:3.13-slim
# One user for daemon and API: they share the database's -shm file. It needs no name of its own, only its number.
# The broker (group 1883 in its image) reads its secrets; the API's are for this user alone.
RUN install -d -o 10001 -g 10001 /data \
 && install -d -o 10001 -g 1883 -m 2750 /secrets/broker \
 && install -d -o 10001 -g 10001 -m 750 /secrets/daemon /secrets/api
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY gunicorn.conf.py ./
COPY shared shared
COPY emotion_daemon emotion_daemon
COPY emotion_api emotion_api
COPY emotion_admin emotion_admin
# Also from a clone whose files only their owner may read.
RUN chmod -R a+rX . && python3 -m compileall -q .
USER 10001:10001
