# syntax=docker/dockerfile:1.7
FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=off

FROM base AS wheels
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential libpq-dev \
 # what apt leaves behind
 && rm -rf /var/lib/apt/lists/*
WORKDIR /wheels
COPY requirements*.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    pip wheel --wheel-dir . -r requirements.txt

FROM base
ARG UID=10001
RUN adduser --disabled-password --gecos "" --uid "${UID}" app
WORKDIR /srv
RUN --mount=from=wheels,source=/wheels,target=/wheels pip install --no-index /wheels/*.whl
COPY --chown=app:app . .
COPY --chmod=0755 <<"EOF" /usr/local/bin/entry
#!/bin/sh
exec gunicorn --bind "0.0.0.0:${PORT:-8000}" "$@"
EOF
USER app
EXPOSE 8000
STOPSIGNAL SIGINT
ENTRYPOINT ["entry"]
CMD ["app.wsgi"]
