# One image for daemon and API; docker-compose.yml says which command runs.
FROM python:3.13-slim

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# The dependencies first, in a layer of their own: a change of the code does not install them again.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*p['dependencies'], *p['optional-dependencies']['server'], sep='\n')" >/tmp/requirements.txt \
 && pip install --no-cache-dir --disable-pip-version-check -r /tmp/requirements.txt

COPY gunicorn.conf.py ./
COPY shared shared
COPY emotion_daemon emotion_daemon
COPY emotion_api emotion_api

# The same user for daemon and API: they share the database's -shm file.
RUN useradd --uid 10001 --create-home emotion && install -d -o emotion -g emotion /data
USER emotion
VOLUME /data
